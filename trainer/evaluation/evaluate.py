"""Judging videos: class scores from equally spaced clips and fixed crops, averaged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from flowprep.errors import UsageError
from trainer.data import dataset, lists, loading, transforms
from trainer.data.annotations import Examples, label_examples
from trainer.data.clip import Clip
from trainer.data.matching import match_list
from trainer.data.sampling import ClipSpec
from trainer.errors import NotFinite
from trainer.evaluation import svm
from trainer.evaluation.scores import Scores
from trainer.models.layers import channels_last
from trainer.models.registry import MODELS, find_module, make_model
from trainer.recipe.schema import Recipe
from trainer.training import checkpoint, distributed, run_folder
from trainer.training.device import autocast, pick_device, pick_precision

if TYPE_CHECKING:
    from flowprep import Corpus

log = logging.getLogger(__name__)

# Crops per forward pass, or as many pixels of whole frames: enough to fill a processor, little enough for its
# memory.
CROPS_AT_ONCE = 128


def score_videos(
    model: nn.Module,
    corpus: Corpus,
    ids: Sequence[str],
    recipe: Recipe,
    *,
    classes: int,
    frames: int,
    crops: int,
    whole: bool = False,
    device: torch.device,
    precision: str = "float32",
    workers: int = 0,
    on_clip: Callable[[], object] | None = None,
    features: bool = False,
) -> np.ndarray:
    """Softmax scores averaged over `frames` equally spaced clips times `crops` crops.

    Each of several processes takes its share of the videos; all get all scores.

    Args:
        model: gives logits (N, C or more); it is put into evaluation mode.
        corpus, ids: the videos.
        recipe: what an input looks like.
        classes: C; further outputs, of other heads, are left out.
        frames, crops, whole: see trainer.recipe.schema.EvaluationRecipe.
        device: where the model is.
        precision: what it computes in: see pick_precision.
        workers: loader processes; 0 loads in this one.
        on_clip: called once for each clip that this process judges: len(ids) * frames, if it is alone.
        features: average the network's `features` instead (see spec.ModelSpec); C is their number.

    Returns:
        (len(ids), C) float32; the rows add up to 1, but those of features.

    Raises:
        NotFinite: the model gives a video scores that are no numbers.
    """
    model.eval()
    mine = range(distributed.rank(), len(ids), distributed.world_size())
    clips = dataset.EvalClips(corpus, tuple(ids[i] for i in mine), recipe, frames)
    sample = ClipSpec.from_recipe(recipe, evaluation=True)
    sizes = (
        transforms.resized_shape(v.width, v.height, recipe.input.resize) for v in (corpus[i] for i in ids)
    )
    workers = dataset.workers_that_fit(workers, 4 * sample.planes * max(w * h for w, h in sizes))
    # Not in batches, for frames of different videos may differ in size: they meet as crops.
    loader = dataset.make_loader(clips, min(workers, len(clips)), batch_size=None)
    sums = torch.zeros(len(ids), classes)
    owners: list[int] = []
    waiting: list[Clip] = []

    def run() -> None:
        batch = sample.tensors(Clip(*map(torch.cat, zip(*waiting, strict=True))).to(device))
        with torch.inference_mode(), autocast(precision, device):
            if features:
                said = cast(Any, model).features(*batch).float()
            else:
                said = model(*batch)[:, :classes].float().softmax(1)
        by_clip = said.view(len(owners), crops, -1).mean(1).cpu()  # (clips, C)
        sums.index_add_(0, torch.tensor(owners), by_clip)
        owners.clear()
        waiting.clear()

    for position, clip in loader:
        shown = transforms.fixed_crops(clip, 0 if whole else recipe.input.crop, crops, recipe.stream)
        if waiting and shown.planes.shape != waiting[0].planes.shape:  # whole frames of another size
            run()
        owners.append(mine[position])
        waiting.append(shown)
        height, width = shown.planes.shape[-2:]
        area = height * width / recipe.input.crop**2  # 1, but of whole frames
        if len(waiting) * crops * max(1, sample.time_steps) * area >= CROPS_AT_ONCE:
            run()
        if on_clip:
            on_clip()
    if waiting:
        run()
    scores = distributed.all_reduce_sum(sums.to(device)).cpu() / frames
    if bad := [video for video, row in zip(ids, scores, strict=True) if not torch.isfinite(row).all()]:
        raise NotFinite(
            f"the network's scores of {len(bad)} videos ({bad[0]}, ...) are not finite: its training diverged"
        )
    return scores.numpy()


def load_run(run: Path, device: torch.device) -> tuple[nn.Module, checkpoint.Checkpoint]:
    """The trained network of a run, on `device`, with the checkpoint that it comes from.

    Raises:
        UsageError, CheckpointDamaged: as checkpoint.load.
    """
    kept = checkpoint.load_selected(run)
    model = make_model(kept.recipe, sum(kept.heads))
    model.load_state_dict(kept.model)
    channels_last(model.to(device))
    return model, kept


def held_out(run: Path, corpus: Corpus) -> Examples:
    """The videos that a run held out for validation; there may be none."""
    path = run / run_folder.VALIDATION_LIST
    if not path.read_bytes():
        return Examples((), (), ())
    return examples_for(run, corpus, str(path))


def examples_for(
    run: Path, corpus: Corpus, source: str, class_index: Path | None = None, *, allow_missing: bool = False
) -> Examples:
    """The videos of a list under a run's classes.

    Args:
        run: folder of a training run.
        corpus, source, allow_missing: as match_list. The lists that a run wrote itself
            count its own classes, whatever the folders are called.
        class_index: classInd.txt that the list's numbers stand for.

    Raises:
        UsageError: as match_list and label_examples.
    """
    classes = checkpoint.load_selected(run).classes
    written = [(run / name).resolve() for name in (run_folder.TRAIN_LIST, run_folder.VALIDATION_LIST)]
    own = class_index is None and Path(source).resolve() in written
    index = lists.read_classes(class_index) if class_index else classes if own else None
    pairs = match_list(source, corpus, index, allow_missing=allow_missing, check_folders=not own)
    return label_examples(source, pairs, classes, allow_missing=allow_missing)


def evaluate(
    run: Path,
    corpus: Corpus,
    examples: Examples,
    *,
    frames: int | None = None,
    crops: int | None = None,
    control: str | None = None,
    fit: Examples | None = None,
    device: str = "auto",
    workers: int = 0,
    on_clip: Callable[[], object] | None = None,
) -> Scores:
    """Scores of a run's network for the videos of a list.

    Args:
        run: folder of a training run.
        corpus, examples: the videos, under the run's classes.
        frames, crops, control: instead of the recipe's test.frames, test.crops and input.control. 5 and 10
            crops are crops also where the recipe judges whole frames.
        fit: judge by a linear SVM, fitted on these videos, on the network's features, averaged over a video
            and divided by their length (Tran et al. 2015, section 3.3), instead of by its softmax.
        device, workers, on_clip: as score_videos.

    Raises:
        UsageError: the run or the corpus does not fit; or the network has no such features.
    """
    where = pick_device(device)
    model, kept = load_run(run, where)
    recipe = kept.recipe
    if fit and not find_module(recipe.model.name).SPEC.features:
        have = ", ".join(name for name in MODELS if find_module(name).SPEC.features)
        raise UsageError(f"{recipe.model.name} has no features that an SVM judges by; {have} have")
    if fit and (shared := sorted(set(fit.ids) & set(examples.ids))):
        raise UsageError(
            f"the SVM would be fitted on {len(shared)} of the videos that it judges: {', '.join(shared[:5])}"
        )
    if control is not None:
        recipe = replace(recipe, input=replace(recipe.input, control=control))
    if differs := kept.corpus.differences(corpus.settings):
        log.warning(
            "%s was made with other settings than the run's corpus: %s", corpus.path, "; ".join(differs)
        )
    loading.check_fit(corpus, (*examples.ids, *(fit.ids if fit else ())), recipe)
    score = partial(
        score_videos,
        model,
        corpus,
        recipe=recipe,
        classes=cast(Any, model).num_features if fit else len(kept.classes),
        frames=frames or recipe.test.frames,
        crops=crops or recipe.test.crops,
        whole=recipe.test.whole and crops in (None, 1, 2),
        device=where,
        # What the run computed in: "auto" may be something else on this device.
        precision=pick_precision(kept.precision, where),
        workers=workers,
        on_clip=on_clip,
        features=fit is not None,
    )
    scores = score(ids=examples.ids)
    if fit:
        known, asked = svm.unit_length(score(ids=fit.ids)), svm.unit_length(scores)
        values = svm.decide(known, np.array(fit.labels), fit.ids, kept.classes, asked)
        scores = values.astype(np.float32)
    return Scores(np.array(examples.ids), np.array(examples.labels, np.int64), np.array(kept.classes), scores)
