"""The batches of a run, from a given step on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from trainer.data.clip import Clip
from trainer.data.dataset import TrainingClips, batch_clips, make_loader, workers_that_fit
from trainer.data.sampling import ClipSpec
from trainer.recipe.schema import Recipe
from trainer.training.heads import TrainingData


class StepSampler:
    """The keys (step, sample) of the samples of each step, for a data loader.

    Args:
        steps: numbers of the steps.
        samples: numbers of the samples in a batch that this process computes.
    """

    def __init__(self, steps: range, samples: Sequence[int]) -> None:
        self._steps, self._samples = steps, samples

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self._steps:
            yield [(step, sample) for sample in self._samples]


def make_batches(
    recipe: Recipe, data: TrainingData, samples: Sequence[int], start: int, workers: int, *, pin: bool
) -> Iterator[tuple[Clip, torch.Tensor, torch.Tensor]]:
    """This process's samples of the batches from step `start` on.

    Args:
        recipe: the recipe of the run.
        data: its videos.
        samples: numbers of the samples in a batch that this process computes, B of them.
        start: number of the first step.
        workers: loader processes; fewer are used where shared memory is short.
        pin: whether to load into pinned memory, from which a GPU copies faster.

    Yields:
        A clip with planes (B, ..., S, S), classes (B,) and heads (B,).
    """
    size = 4 * len(samples) * ClipSpec.from_recipe(recipe).planes * recipe.input.crop**2
    loader = make_loader(
        TrainingClips(data.heads, recipe),
        workers_that_fit(workers, size),
        batch_sampler=StepSampler(range(start, recipe.train.steps), samples),
        collate_fn=batch_clips,
        pin_memory=pin,
    )
    return iter(loader)
