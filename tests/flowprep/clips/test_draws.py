"""The random numbers of clips."""

from __future__ import annotations

import numpy as np

from flowprep.clips.draws import Draws


def test_the_numbers_are_those_of_splitmix64():
    draws = Draws()  # state 0: the published outputs for the seed 0
    outputs = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [draws.uniform() for _ in outputs] == [(value >> 11) / 2**53 for value in outputs]


def test_numbers_of_neighbouring_keys_are_uniform_and_not_related():
    keys = [(seed, epoch, item) for seed in range(2) for epoch in range(20) for item in range(250)]
    values = np.array([[draws.uniform(), draws.uniform()] for draws in (Draws(*key) for key in keys)])
    assert len(np.unique(values)) == 20000
    counts = np.histogram(values, bins=50, range=(0, 1))[0]
    assert ((counts - 400) ** 2 / 400).sum() < 85  # chi-squared with 49 degrees: 0.1% above 85
    grid = values[:, 0].reshape(2, 20, 250)
    series = [(grid[0], grid[1]), (grid[:, 1:], grid[:, :-1]), (grid[..., 1:], grid[..., :-1])]
    for a, b in [*series, (values[:, 0], values[:, 1])]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size)
    assert {Draws(*key).below(3) for key in keys[:100]} == {0, 1, 2}


def test_the_order_of_keys_matters():
    firsts = {Draws(*key).uniform() for key in ((1, 2), (2, 1), (3, 0), (0, 3), (1,), (2,), (1, 2, 0))}
    assert len(firsts) == 7
