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
from flowprep.testing.engines import ROUNDING_PX, drifting_frames, mean_distance, solve_once
from tests.support.engine_settings import FIXED

HEIGHT, WIDTH = 43, 75
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


@pytest.mark.parametrize("side", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("occlusion", [0.0, 7.0])
def test_a_weighted_median_is_that_of_the_reference(side: int, stride: int, occlusion: float) -> None:
    tvl1 = Tvl1Settings(
        scales=1, median=side, median_grey=10.0, median_stride=stride, median_occlusion=occlusion
    )
    flow, image, mismatch = scene(side)
    expected = reference.filtered(flow, image, mismatch, True, tvl1)
    everywhere = np.ones(tile_counts(HEIGHT, WIDTH), np.uint8)
    result = filtered(flow, image, mismatch, everywhere, True, tvl1)
    assert mean_distance(result[None], expected[None]) < ROUNDING_PX
    assert mean_distance(flow[None], expected[None]) > 100 * ROUNDING_PX
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
    assert mean_distance(solve_once("cpu", tvl1, frames), expected) < ROUNDING_PX
    without = solve_once("reference", replace(tvl1, median_occlusion=0.0), frames)
    assert mean_distance(expected, without) > 2 * ROUNDING_PX
