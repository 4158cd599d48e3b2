"""The heads of a network: the videos that each head learns from, and the loss of all heads."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from flowprep.errors import UsageError
from trainer.data.annotations import Examples, append_examples
from trainer.data.loading import check_fit
from trainer.data.splits import hold_out
from trainer.models import objective
from trainer.recipe.schema import Recipe

if TYPE_CHECKING:
    from flowprep import Corpus

    DataSet = tuple[Corpus, Examples]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """The videos that a run learns from and those that it is validated on.

    Attributes:
        corpus: the corpus of the first data set.
        training: videos of the first data set to train on.
        validation: videos of the first data set to validate on; their classes are those of the data set.
        heads: for each head of the network, the data sets that it learns from. The classes of a data set
            include those of the data sets before it in the same head.
        digest: SHA-256 of the videos, of their classes and of the settings of further corpora.
    """

    corpus: Corpus
    training: Examples
    validation: Examples
    heads: tuple[tuple[DataSet, ...], ...]
    digest: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the first data set."""
        return self.training.classes

    @property
    def head_sizes(self) -> list[int]:
        """Number of outputs of each head."""
        return [len(head[-1][1].classes) for head in self.heads]

    @property
    def outputs(self) -> list[str]:
        """Class names of all outputs, head after head."""
        return [name for head in self.heads for name in head[-1][1].classes]

    @property
    def num_training_videos(self) -> int:
        """Number of training videos of all data sets."""
        return sum(len(examples) for head in self.heads for _, examples in head)

    def samples_per_head(self, batch: int) -> list[int]:
        """Number of samples of each head in a batch: sample i is of head i % H."""
        return [len(range(head, batch, len(self.heads))) for head in range(len(self.heads))]


def prepare_data(
    recipe: Recipe,
    corpus: Corpus,
    examples: Examples,
    multi_task: Sequence[DataSet] = (),
    add_classes: Sequence[DataSet] = (),
    *,
    held_out: Collection[str] | None = None,
) -> TrainingData:
    """Check the data sets of a run, hold out its validation videos, and arrange its heads.

    Args:
        recipe: the recipe of the run.
        corpus, examples: the first data set.
        multi_task: data sets with a head of their own.
        add_classes: data sets whose classes the first head learns in addition.
        held_out: ids of the videos that the run held out when it began; None chooses them.

    Raises:
        UsageError: a corpus does not fit the recipe; no video can be held out and the recipe needs one; an
            added class exists already; a head has a single class; a batch has fewer samples than heads.
    """
    data_sets = [(corpus, examples), *multi_task, *add_classes]
    for other, videos in data_sets:
        check_fit(other, videos.ids, recipe)
        if differences := corpus.settings.differences(other.settings):
            log.warning("%s and %s differ: %s", corpus.path, other.path, "; ".join(differences))
    if held_out is None:
        section = recipe.train
        training, validation = hold_out(examples, section.validation_share, recipe.seed, section.groups)
    else:
        training, validation = (
            examples.subset([i for i, video in enumerate(examples.ids) if (video in held_out) == use])
            for use in (False, True)
        )
    if recipe.train.keep == "best" and not len(validation):
        raise UsageError("train.keep is 'best', but no video can be held out to choose by; set it to 'last'")
    first = [(corpus, training)]
    for other, videos in add_classes:
        first.append((other, append_examples(first[-1][1].classes, videos)))
    heads = (tuple(first), *((data_set,) for data_set in multi_task))
    sizes = [len(head[-1][1].classes) for head in heads]
    for other, videos in multi_task:
        if len(videos.classes) < 2:
            raise UsageError(
                f"{other.path} has the class {videos.classes[0]!r} only, and a head needs two classes: "
                "give a list that names the class of each video"
            )
    if recipe.train.batch < len(heads):
        raise UsageError(f"train.batch is {recipe.train.batch}; allowed: one sample per head, {len(heads)}")
    return TrainingData(corpus, training, validation, heads, _digest(data_sets, sizes))


def _digest(data_sets: Sequence[DataSet], sizes: Sequence[int]) -> str:
    # The checkpoint stores the settings of the first corpus itself, so that it can name what differs.
    rows = [
        [videos.ids, [videos.classes[n] for n in videos.labels], corpus.settings.digest() if number else ""]
        for number, (corpus, videos) in enumerate(data_sets)
    ]
    return hashlib.sha256(json.dumps([rows, list(sizes)]).encode()).hexdigest()


def heads_loss(
    model: torch.nn.Module,
    logits: torch.Tensor,
    y: torch.Tensor,
    head: torch.Tensor,
    sizes: Sequence[int],
    counts: Sequence[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of the heads' losses; each is the mean over the head's samples in the whole batch.

    Args:
        model: the network, which defines the loss of a sample: see trainer.models.objective.losses.
        logits: (b, sum of sizes) or (b, sum of sizes, K), the outputs of the heads side by side.
        y: (b,) class of each sample within its head.
        head: (b,) head of each sample; the sample counts for no other head.
        sizes: number of classes of each head.
        counts: number of samples of each head in the whole batch, of which the b samples are a part.

    Returns:
        The part's share of the loss, and the number of samples whose class has the highest score. Both are
        scalar tensors.
    """
    loss, correct = logits.new_zeros(()), torch.zeros_like(y[0])
    for number, columns in enumerate(torch.split(logits, list(sizes), 1)):
        target = y.where(head == number, -100)  # the losses ignore this class
        loss = loss + objective.losses(model, columns, target).sum() / counts[number]
        scores = objective.class_scores(model, columns.detach())
        correct = correct + (scores.argmax(1) == target).sum()
    return loss, correct
