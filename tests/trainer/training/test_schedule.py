"""The learning rate of a step, and the seed of its dropout."""

import numpy as np

from tests.support.fakes import small
from trainer.training.schedule import dropout_seed, learning_rate


def test_the_rate_falls_at_the_milestones():
    recipe = small(train={"lr": 1.0, "milestones": [3, 5], "factor": 0.1}).train
    rates = [learning_rate(recipe, step) for step in range(7)]
    np.testing.assert_allclose(rates, [1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_each_part_of_each_step_has_its_own_dropout():
    seeds = {dropout_seed(seed, step, part) for seed in range(3) for step in range(5) for part in range(4)}
    assert len(seeds) == 60 and dropout_seed(1, 2, 3) in seeds
    assert all(0 <= seed < 2**64 for seed in seeds)
