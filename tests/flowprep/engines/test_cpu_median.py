"""The weighted median of engine cpu."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from flowprep.engines import reference
from flowprep.engines.cpu.engine import Workspace
from flowprep.engines.cpu.median import medians
from flowprep.engines.cpu.memory import BLOCK, U1, U2, pixels_of
from flowprep.engines.cpu.prepare import repeat_border
from flowprep.engines.cpu.simd import LANES
from flowprep.engines.tiles import TILE_HEIGHT, TILE_WIDTH, tile_counts
from flowprep.presets import Tvl1Settings
from flowprep.testing.engines import WEIGHTED_PX, drifting_frames, mean_distance, solve_once
from tests.support.engine_settings import FIXED

HEIGHT, WIDTH = 43, 141
STEP_PX = 1 / 256  # the flow of a weighted median is a whole number of these steps
Array = NDArray[np.float32]


def scene(seed: int) -> tuple[Array, Array, Array]:
    """A flow (2, HEIGHT, WIDTH) with an edge, noise and outliers, a first image, and a mismatch."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside = (x - 30) ** 2 + (y - 20) ** 2 < 200
    image = np.where(inside, 120, 60) + rng.normal(0, 6, (HEIGHT, WIDTH))
    flow = np.where(inside, [[[3.0]], [[-2.0]]], 0.01) + rng.normal(0, 0.2, (2, HEIGHT, WIDTH))
    flow += 2 * (rng.random((2, HEIGHT, WIDTH)) < 0.02)
    flow[:, :12] = 0
    mismatch = rng.normal(0, 8, (HEIGHT, WIDTH)) + 30 * (abs(x - 45) < 4)
    return flow.astype(np.float32), image.astype(np.float32), mismatch.astype(np.float32)


def filtered(
    flow: Array, image: Array, mismatch: Array, tiles: NDArray[np.uint8], weighted: bool, tvl1: Tvl1Settings
) -> Array:
    """The flow, filtered by engine cpu."""
    work = Workspace(HEIGHT, WIDTH, tvl1)
    level, scratch = work.levels[0], work.scratch
    u1, u2, i0 = *work.flows[0], work.new_frame().images[0]
    pixels_of(i0, level)[...] = image
    repeat_border(i0, level)
    pixels_of(scratch.mismatch, level)[...] = mismatch
    blocks = scratch.state[: (HEIGHT + 2) * level.row].reshape(HEIGHT + 2, -1, BLOCK)[1:-1, : level.blocks]
    lanes = [blocks[..., k : k + LANES] for k in (U1, U2)]
    padded = np.pad(flow, ((0, 0), (0, 0), (0, level.blocks * LANES - WIDTH)))
    for k in range(2):
        lanes[k][...] = padded[k].reshape(HEIGHT, level.blocks, LANES)
    medians(i0, level, scratch, tiles, u1, u2, weighted, work.parameters[0])
    return np.stack([lane.reshape(HEIGHT, -1)[:, :WIDTH] for lane in lanes])


@pytest.fixture
def settings() -> Tvl1Settings:
    """A weighted median with strides and occlusions."""
    return Tvl1Settings(scales=1, median=5, median_grey=10.0, median_stride=2, median_occlusion=7.0)


def everywhere() -> NDArray[np.uint8]:
    """Tiles that are all filtered."""
    return np.ones(tile_counts(HEIGHT, WIDTH), np.uint8)


def assert_rounded(result: Array, expected: Array, exceptions: float = 0.01) -> None:
    """Compare with the reference. Where both halves of the weight are nearly equal, it may be a neighbour."""
    np.testing.assert_array_equal(result, np.round(result / STEP_PX) * STEP_PX)
    assert (np.abs(result - expected) > 0.502 * STEP_PX).mean() < exceptions


@pytest.mark.parametrize("side", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("occlusion", [0.0, 7.0])
def test_a_weighted_median_is_that_of_the_reference(side: int, stride: int, occlusion: float) -> None:
    tvl1 = Tvl1Settings(
        scales=1, median=side, median_grey=10.0, median_stride=stride, median_occlusion=occlusion
    )
    flow, image, mismatch = scene(side)
    expected = reference.filtered(flow, image, mismatch, True, tvl1)
    result = filtered(flow, image, mismatch, everywhere(), True, tvl1)
    assert_rounded(result, expected)
    assert mean_distance(flow[None], expected[None]) > 20 * STEP_PX
    assert not result[:, :3].any()  # windows of zeros give exact zeros


@pytest.mark.parametrize("weighted", [False, True])
def test_tiles_that_are_left_out_keep_their_flow(weighted: bool) -> None:
    tvl1 = Tvl1Settings(scales=1, median=7, median_grey=10.0, median_stride=3, median_occlusion=7.0)
    flow, image, mismatch = scene(0)
    tiles = (np.random.default_rng(1).random(tile_counts(HEIGHT, WIDTH)) < 0.5).astype(np.uint8)
    tiles[2] = 0  # a whole row of tiles
    pixels = np.repeat(np.repeat(tiles, TILE_HEIGHT, axis=0), TILE_WIDTH, axis=1)[:HEIGHT, :WIDTH] > 0
    result = filtered(flow, image, mismatch, tiles, weighted, tvl1)
    whole = filtered(flow, image, mismatch, np.ones_like(tiles), weighted, tvl1)
    np.testing.assert_array_equal(result, np.where(pixels, whole, flow))
    if not weighted:  # then 5 x 5 pixels side by side
        np.testing.assert_array_equal(whole, reference.filtered(flow, image, mismatch, False, tvl1))


@pytest.mark.parametrize("warp", ["cubic", "spline"])
def test_weights_for_occlusions_come_from_the_warped_image(warp: str) -> None:
    tvl1 = replace(
        FIXED,
        warp=warp,
        median=7,
        median_grey=20.0,
        median_stride=2,
        median_occlusion=4.0,
        outer_iterations=2,
    )
    frames = drifting_frames(2, 48, 61, 2.2, -1.4)
    expected = solve_once("reference", tvl1, frames)
    assert mean_distance(solve_once("cpu", tvl1, frames), expected) < WEIGHTED_PX
    without = solve_once("reference", replace(tvl1, median_occlusion=0.0), frames)
    assert mean_distance(expected, without) > 2 * WEIGHTED_PX


def test_where_all_pixels_are_occluded_the_median_follows_the_image(settings: Tvl1Settings) -> None:
    flow, image, mismatch = scene(2)
    occluded = np.full_like(mismatch, 1000)
    result = filtered(flow, image, occluded, everywhere(), True, settings)
    assert_rounded(result, reference.filtered(flow, image, occluded, True, settings), 0.05)
    assert_rounded(result, reference.filtered(flow, image, 0 * mismatch, True, settings), 0.05)


def test_pixels_outside_the_window_change_nothing(settings: Tvl1Settings) -> None:
    flow, image, mismatch = scene(3)
    before = filtered(flow, image, mismatch, everywhere(), True, settings)
    flow[:, 30:, 40:] += 100
    image[30:, 40:] -= 50
    mismatch[30:, 40:] += 10
    after = filtered(flow, image, mismatch, everywhere(), True, settings)
    changed = (before != after).any(axis=0)
    assert changed[30:, 40:].all()
    reach = 2 * 2
    changed[30 - reach :, 40 - reach :] = False
    assert not changed.any()


def test_a_large_range_of_the_flow_has_larger_steps(settings: Tvl1Settings) -> None:
    flow, image, mismatch = scene(4)
    flow[0] += 100  # an offset does not matter
    assert_rounded(
        filtered(flow, image, mismatch, everywhere(), True, settings),
        reference.filtered(flow, image, mismatch, True, settings),
    )
    flow[0, :, 70:] -= 260  # 65,000 steps of 1/128 px are more
    flow[1, 3, 3] = np.inf
    result = filtered(flow, image, mismatch, everywhere(), True, settings)
    expected = reference.filtered(flow, image, mismatch, True, settings)
    assert np.abs(result - expected)[0].max() > 0.9 * STEP_PX and np.isfinite(result).all()
    assert (np.abs(result - expected) > 1.004 * STEP_PX).mean() < 0.01


@pytest.mark.parametrize("grey", [0.5, 2.0, 100.0])
def test_differences_of_any_size_count(grey: float) -> None:
    flow, image, mismatch = scene(5)
    tvl1 = Tvl1Settings(scales=1, median=7, median_grey=grey)
    result = filtered(flow, image, mismatch, everywhere(), True, tvl1)
    assert_rounded(result, reference.filtered(flow, image, mismatch, True, tvl1))
