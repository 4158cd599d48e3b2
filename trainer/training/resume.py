"""Continuing a run: where it stands, and what may change."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch

from flowprep.errors import UsageError
from trainer.models import registry, weights
from trainer.recipe.schema import Recipe
from trainer.training import checkpoint
from trainer.training.batch_norm import has_batch_norm
from trainer.training.checkpoint import Checkpoint
from trainer.training.heads import TrainingData
from trainer.training.run_folder import LAST

log = logging.getLogger(__name__)

# Keys of [train] that change no weight. Validations choose the weights only if the best ones are kept.
FREE = ("log_every", "checkpoint_every")
FREE_WITHOUT_BEST = ("validate_every", "validation_frames")


def find_previous(out: Path, recipe: Recipe, data: TrainingData, *, resume: bool) -> Checkpoint | None:
    """The checkpoint to continue from; None if the folder has none.

    Raises:
        UsageError: the folder holds a run, and `resume` is false or the run has another recipe or other data.
    """
    if not (out / LAST).exists():
        if resume:
            log.info("%s has no checkpoint yet: starting from the beginning", out)
        return None
    if not resume:
        raise UsageError(f"{out} holds a training run; --resume continues it, another --out starts a new one")
    previous = checkpoint.load(out / LAST)
    differences = with_allowed_changes(previous, recipe, len(data.outputs)).differences(recipe)
    differences += [f"corpus {line}" for line in previous.corpus.differences(data.corpus.settings)]
    if previous.examples != data.digest or previous.classes != data.classes:
        differences.append("the training list, the order of classes, or further data sets")
    if differences:
        raise UsageError(
            f"{out} was started with another recipe (there, now): {'; '.join(differences)}. "
            "Resume with the recipe and the lists of that run, or start a new run with another --out. "
            "A resumed run may have more train.steps, later train.milestones, and other values of keys that "
            "change no weight, such as train.log_every"
        )
    for line in previous.recipe.differences(recipe):
        log.info("%s continues with another value (before, now) of %s", out, line)
    log.info("%s continues from step %d", out, previous.step)
    return previous


def with_allowed_changes(previous: Checkpoint, recipe: Recipe, outputs: int) -> Recipe:
    """The recipe of a run, with the values of another recipe where they do not change the steps that it took.

    - `train.steps`: any number from the steps done.
    - `train.milestones`: those that are not reached yet.
    - `FREE` and, unless the best weights are kept, `FREE_WITHOUT_BEST`.
    - `train.micro_batch`, if the network has no batch normalisation that learns. Dropout then draws other
      numbers, which are as random.

    Args:
        previous: the checkpoint of the run.
        recipe: the other recipe.
        outputs: number of outputs of the network.
    """
    old, new = previous.recipe.train, recipe.train
    keys = list(FREE)
    if old.keep == "last":
        keys += FREE_WITHOUT_BEST
    if new.steps >= previous.step:
        keys.append("steps")
    reached = [[m for m in section.milestones if m < previous.step] for section in (old, new)]
    if reached[0] == reached[1]:
        keys.append("milestones")
    if old.micro_batch != new.micro_batch and not _has_batch_norm(previous.recipe, outputs):
        keys.append("micro_batch")
    changed = replace(old, **{key: getattr(new, key) for key in keys})
    return replace(previous.recipe, train=changed)


def _has_batch_norm(recipe: Recipe, outputs: int) -> bool:
    with torch.device("meta"):
        model = registry.make_model(recipe, outputs)
    weights.freeze(model, recipe)
    return has_batch_norm(model)
