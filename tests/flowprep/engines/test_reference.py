"""The steps of engine reference, each compared with its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flowprep.engines.reference import (
    dual_step,
    edge_weights,
    filtered,
    median,
    median_weights,
    moving_tiles,
    structure,
    warp,
    weighted_median,
)
from flowprep.presets import PRESETS, Tvl1Settings
from flowprep.testing.engines import (
    drifting_frames,
    half_moving_frames,
    mean_distance,
    pixel_grid,
    smooth_texture,
    solve_once,
)
from tests.support.engine_settings import FIXED


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


def test_a_still_part_is_zero_and_the_moving_part_is_not_held_back() -> None:
    frames = half_moving_frames(64, 160)
    tvl1 = replace(PRESETS["fast"], still=2.0)
    flow, without = (solve_once("reference", t, frames) for t in (tvl1, replace(tvl1, still=0.0)))
    assert not flow[..., 96:].any() and without[..., 96:].all(axis=1).mean() > 0.9
    assert mean_distance(flow[..., 8:64], without[..., 8:64]) < 0.02
    truth = np.array([1.2, -0.7])[:, None, None]
    assert np.abs(flow[0, :, 8:-8, 8:64] - truth).mean() < 0.1


def test_a_small_motion_of_all_is_not_still() -> None:
    frames = drifting_frames(2, 48, 64, 0.05, 0.0)
    assert moving_tiles(*frames, replace(FIXED, still=2.0)).all()
    flow = solve_once("reference", replace(FIXED, still=2.0), frames)
    np.testing.assert_array_equal(flow, solve_once("reference", FIXED, frames))
    assert flow.any(axis=1).all() and 0.03 < flow[0, 0, 8:-8, 8:-8].mean() < 0.07
    # The same frame with noise that is as large as the difference above.
    noise = np.random.default_rng(0).normal(0, np.std(frames[1] - frames[0]), (2, 48, 64)) / np.sqrt(2)
    noisy = (frames[:1] + noise).astype(np.float32)
    assert not moving_tiles(*noisy, replace(FIXED, still=2.0)).any()


@pytest.mark.parametrize("coupled", [False, True])
def test_the_dual_variables_are_at_most_the_weight(coupled: bool) -> None:
    tvl1 = replace(FIXED, coupled=coupled, huber=0.01 if coupled else 0.0, edge=0.2, edge_least=0.2)
    texture, (x, y) = smooth_texture(0), pixel_grid(30, 40)
    weight = edge_weights(texture(x, y), tvl1)
    assert weight.min() == np.float32(0.2) and weight.max() > 0.5
    u = np.random.default_rng(0).normal(0, 3, (2, 30, 40)).astype(np.float32)
    p = np.zeros((2, 2, 30, 40), np.float32)
    for _ in range(200):
        p = dual_step(p, u, weight, tvl1)
    norm = np.sqrt((p**2).sum(axis=(0, 1) if coupled else 1))
    assert (norm <= weight * (1 + 1e-5)).all() and (norm > 0.9 * weight).mean() > 0.9


@pytest.mark.parametrize(("slope", "expected"), [(0.01, 0.2), (0.04, 0.8), (0.1, 1.0), (0.2, 1.0)])
def test_the_dual_of_hubers_norm_is_its_derivative(slope: float, expected: float) -> None:
    tvl1 = replace(FIXED, coupled=True, huber=0.05)
    u = np.zeros((2, 6, 9), np.float32)
    u[0] = slope * np.arange(9)
    p = np.zeros((2, 2, 6, 9), np.float32)
    for _ in range(2000):
        p = dual_step(p, u, np.ones((6, 9), np.float32), tvl1)
    np.testing.assert_allclose(p[0, 0, :, :-1], expected, atol=0.01)  # min(1, slope / huber)
    assert not p[1].any() and not p[:, 1].any() and not p[..., -1].any()


def test_an_occlusion_does_not_count_in_a_weighted_median() -> None:
    tvl1 = Tvl1Settings(median_grey=10.0, median_occlusion=7.0)
    flow = np.random.default_rng(0).normal(size=(2, 9, 9)).astype(np.float32)
    guide, mismatch = np.zeros((9, 9), np.float32), np.zeros((9, 9), np.float32)
    mismatch[:, 6:] = 100
    result = filtered(flow, guide, mismatch, True, tvl1)
    assert result[1, 4, 5] == np.sort(flow[1, 2:7, 3:6].ravel())[7]  # of the 15 pixels that match
    np.testing.assert_array_equal(filtered(flow, guide, 0 * mismatch, True, tvl1)[0], median(flow[0], 5))
    np.testing.assert_array_equal(filtered(flow, guide, mismatch, False, tvl1)[0], median(flow[0], 5))


def test_the_median_is_weighted_at_the_last_warps_of_the_finest_levels() -> None:
    tvl1 = Tvl1Settings(warps=3, median_grey=5.0, median_levels=2, median_warps=1, finest_warps=2)
    weighted = {(i, k) for i in range(4) for k in range(tvl1.warps_of(i)) if tvl1.weights_median(i, k)}
    assert weighted == {(0, 1), (1, 2)}
    everywhere = replace(tvl1, median_levels=0, median_warps=0)
    assert all(everywhere.weights_median(i, k) for i in range(4) for k in range(3))
    assert not replace(everywhere, median_grey=0.0).weights_median(0, 0)


def test_kept_dual_variables_change_the_start_only() -> None:
    frames = drifting_frames(2, 40, 48, 0.6, -0.4)
    schedule = {"warps": 1, "outer_iterations": 1, "median": 1}
    distances = []
    for iterations in (5, 600):
        tvl1 = replace(FIXED, **schedule, inner_iterations=iterations)
        flows = [solve_once("reference", replace(tvl1, keep_dual=keep), frames) for keep in (False, True)]
        distances.append(mean_distance(*flows))
    assert distances[0] > 0.01 > 10 * distances[1]
    one_level = replace(FIXED, scales=1)
    kept = solve_once("reference", replace(one_level, keep_dual=True), frames)
    np.testing.assert_array_equal(kept, solve_once("reference", one_level, frames))


def test_settled_tiles_stop_and_others_go_on() -> None:
    frames = half_moving_frames(48, 128)
    tvl1 = replace(FIXED, warps=1, outer_iterations=1, inner_iterations=40)
    flow, longer, short = (
        solve_once("reference", t, frames)
        for t in (replace(tvl1, settle=0.01), tvl1, replace(tvl1, inner_iterations=5))
    )
    everything = solve_once("reference", replace(tvl1, settle=1.0, inner_iterations=40), frames)
    np.testing.assert_array_equal(
        solve_once("reference", replace(tvl1, settle=1.0, scales=1), frames),
        solve_once("reference", replace(tvl1, settle=0.0, scales=1, inner_iterations=5), frames),
    )
    assert mean_distance(everything, short) < mean_distance(flow, short)
    assert mean_distance(flow, longer) < 0.3 * mean_distance(short, longer)
