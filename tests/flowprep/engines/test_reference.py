"""The steps of engine reference, each compared with its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flowprep.engines.reference import median, median_weights, structure, warp, weighted_median
from flowprep.presets import PRESETS
from flowprep.testing.engines import pixel_grid, smooth_texture


def test_a_spline_goes_through_its_pixels_and_has_their_slope() -> None:
    texture, (x, y) = smooth_texture(3), pixel_grid(40, 50)
    still = np.zeros((2, 40, 50), np.float32)
    value, *_ = warp(texture(x, y), still, "spline")
    np.testing.assert_allclose(value, texture(x, y), atol=1e-3)
    value, along, down = warp(texture(x, y), still + np.float32(0.3), "spline")
    inner = (slice(4, -4), slice(4, -4))
    moved = texture(x + 0.3, y + 0.3)
    assert np.abs(value - moved)[inner].mean() < 0.02
    step = 1e-2
    slopes = [(texture(x + 0.3 + i * step, y + 0.3 + j * step) - moved) / step for i, j in ((1, 0), (0, 1))]
    for slope, expected in zip((along, down), slopes, strict=True):
        assert np.abs(slope - expected)[inner].mean() < 0.05 < 3 < np.abs(expected).mean()


def test_a_weighted_median_counts_similar_pixels() -> None:
    guide = np.zeros((9, 9), np.float32)
    guide[:, 6:] = 100
    flow = np.random.default_rng(0).normal(size=(9, 9)).astype(np.float32)
    weighted = weighted_median(flow, median_weights(guide, 5, 10.0))
    assert weighted[4, 5] == np.sort(flow[2:7, 3:6].ravel())[7]  # of the 15 pixels on its side
    equal_weights = weighted_median(flow, median_weights(np.zeros_like(guide), 5, 10.0))
    np.testing.assert_array_equal(equal_weights, median(flow, 5))


def test_the_structure_keeps_edges_and_loses_texture() -> None:
    x, y = pixel_grid(48, 64)
    edge = np.where(x < 32, 60, 180).astype(np.float32)
    texture = (4 * np.cos(np.pi * x) * np.cos(np.pi * y)).astype(np.float32)
    tvl1 = replace(PRESETS["opencv"], structure_iterations=100, structure_theta=8.0)
    smooth = structure(edge + texture, tvl1)
    inner = np.abs(x - 31.5) > 4
    assert np.abs(smooth - edge)[inner].mean() < 1 < 3 < np.abs(texture).mean()
    assert (smooth[:, 34:] - smooth[:, :30].mean()).min() > 110
