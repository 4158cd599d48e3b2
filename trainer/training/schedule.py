"""The schedule: what follows from the recipe and the number of a step."""

from __future__ import annotations

import numpy as np

from trainer.recipe.schema import TrainRecipe


def learning_rate(recipe: TrainRecipe, step: int) -> float:
    """The learning rate of a step: `lr` times `factor` for each milestone that is reached.

    Args:
        recipe: the `[train]` section.
        step: number of the step, from 0.
    """
    return recipe.lr * recipe.factor ** sum(step >= milestone for milestone in recipe.milestones)


def dropout_seed(seed: int, step: int, part: int) -> int:
    """Seed of the random numbers that dropout draws for a part of a batch.

    The seed does not depend on the process that computes the part or on where a run was interrupted.

    Args:
        seed: seed of the run.
        step: number of the step, from 0.
        part: number of the part in the batch, from 0.
    """
    return int(np.random.SeedSequence((seed, step, part)).generate_state(1, np.uint64)[0])
