"""Medians of the flow between blocks of iterations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowprep.engines.cpu.memory import (
    BLOCK,
    HALF,
    ONE,
    U1,
    U2,
    Floats,
    LevelLayout,
    Scratch,
    SolverParameters,
    copy_out,
)
from flowprep.engines.cpu.prepare import repeat_border
from flowprep.engines.cpu.simd import (
    LANES,
    choose_above,
    load,
    maximum,
    median_of_columns_3,
    median_of_columns_5,
    minimum,
    sort_columns_3,
    sort_columns_5,
    splat,
    store,
    where_above,
)
from flowprep.engines.tiles import TILE_HEIGHT
from flowprep.system.jit import jit

WINDOW = 50 * LANES  # floats of 16 windows of the largest median: 49 pixels, and one for an even number
HALVINGS = 10  # of the interval that contains a weighted median; it begins as the range of the window
PLAIN_SIDE = 5  # pixels: the largest side of a plain median


@jit
def medians(
    i0: Floats,
    level: LevelLayout,
    scratch: Scratch,
    tiles: NDArray[np.uint8],
    u1: Floats,
    u2: Floats,
    weighted: bool,
    parameters: SolverParameters,
) -> None:
    """Filter u1 and u2 of the state by the median of the settings.

    Args:
        i0: the plane of the first image, with its border repeated.
        level: the layout of the level.
        scratch: has the state, and the mismatch for occlusion weights.
        tiles: (tile rows, blocks): 0 where the state keeps its values. Windows contain their pixels, too.
        u1: a plane that is overwritten by the flow before the filter.
        u2: like u1.
        weighted: whether the median is weighted. A plain one has at most PLAIN_SIDE pixels a side.
        parameters: the parameters of the level.
    """
    reach = parameters.median // 2 * parameters.stride  # at most MARGIN
    for k, plane in ((U1, u1), (U2, u2)):
        copy_out(level, scratch.state, k, plane)
        repeat_border(plane, level, reach)
    if weighted:
        if parameters.occlusion > 0:
            repeat_border(scratch.mismatch, level, reach)
        _filter_weighted(i0, level, scratch, tiles, u1, u2, parameters)
    else:
        side = min(parameters.median, PLAIN_SIDE)
        _filter_plainly(level, scratch, tiles, U1, u1, side)
        _filter_plainly(level, scratch, tiles, U2, u2, side)


@jit
def _filter_plainly(
    level: LevelLayout, scratch: Scratch, tiles: NDArray[np.uint8], k: int, plane: Floats, side: int
) -> None:
    """Filter `plane` by a plain median, into u1 or u2 of the state."""
    state, ranks, stride = scratch.state, scratch.ranks, level.stride
    for y in range(level.height):
        if not np.any(tiles[y // TILE_HEIGHT]):
            continue
        row = level.origin - LANES + y * stride
        for x in range(0, (level.blocks + 2) * LANES, LANES):
            if side == PLAIN_SIDE:
                sort_columns_5(plane, row - 2 * stride + x, stride, ranks, x, stride)
            else:
                sort_columns_3(plane, row - stride + x, stride, ranks, x, stride)
        for b in range(level.blocks):
            if tiles[y // TILE_HEIGHT, b] == 0:
                continue
            x = (b + 1) * LANES
            if side == PLAIN_SIDE:
                value = median_of_columns_5(ranks, x - 2, stride)
            else:
                value = median_of_columns_3(ranks, x - 1, stride)
            store(state, (y + 1) * level.row + b * BLOCK + k, value)


@jit
def _fading(difference: Any, fade: Any) -> Any:
    """The weight (1 - fade difference^2)^4, or 0 for larger differences."""
    near = maximum(splat(ONE) - difference * difference * fade, splat(np.float32(0)))
    near = near * near
    return near * near


@jit
def _filter_weighted(
    i0: Floats,
    level: LevelLayout,
    scratch: Scratch,
    tiles: NDArray[np.uint8],
    u1: Floats,
    u2: Floats,
    parameters: SolverParameters,
) -> None:
    """Filter the planes u1 and u2 by a weighted median, into the state."""
    side, windows = parameters.median, scratch.pixels
    fade, occlusion = splat(parameters.fade), splat(parameters.occlusion)
    last = side * side * LANES
    store(windows, last, splat(np.float32(0)))  # the additional pixel has no weight
    for y in range(level.height):
        for b in range(level.blocks):
            if tiles[y // TILE_HEIGHT, b] == 0:
                continue
            centre, n = level.origin + y * level.stride + b * LANES, 0
            first = centre - side // 2 * parameters.stride * (level.stride + 1)
            central = load(i0, centre)
            for down in range(0, side * parameters.stride, parameters.stride):
                for along in range(0, side * parameters.stride, parameters.stride):
                    at = first + down * level.stride + along
                    weight = _fading(load(i0, at) - central, fade)
                    if parameters.occlusion > 0:
                        weight = weight * _fading(load(scratch.mismatch, at), occlusion)
                    store(windows, n, weight)
                    store(windows, WINDOW + n, load(u1, at))
                    store(windows, 2 * WINDOW + n, load(u2, at))
                    n += LANES
            store(windows, WINDOW + last, load(u1, centre))
            store(windows, 2 * WINDOW + last, load(u2, centre))
            median1, median2 = _weighted_medians(windows, last)
            i = (y + 1) * level.row + b * BLOCK
            store(scratch.state, i + U1, median1)
            store(scratch.state, i + U2, median2)


@jit
def _weighted_medians(windows: Floats, last: int) -> tuple[Any, Any]:
    """The weighted medians of u1 and of u2 in 16 windows, by bisection.

    Each step adds two pixels of both windows, so that additions do not wait for each other.
    """
    half, nothing = splat(HALF), splat(np.float32(0))
    low1 = high1 = load(windows, WINDOW)
    low2 = high2 = load(windows, 2 * WINDOW)
    whole = nothing
    for n in range(0, last, LANES):
        value1, value2 = load(windows, WINDOW + n), load(windows, 2 * WINDOW + n)
        low1, high1 = minimum(low1, value1), maximum(high1, value1)
        low2, high2 = minimum(low2, value2), maximum(high2, value2)
        whole = whole + load(windows, n)
    half_weight = half * whole
    for _ in range(HALVINGS):
        middle1, middle2 = half * (low1 + high1), half * (low2 + high2)
        above1, above2, more1, more2 = nothing, nothing, nothing, nothing
        for n in range(0, last, 2 * LANES):
            weight, next_weight = load(windows, n), load(windows, n + LANES)
            above1 = above1 + where_above(load(windows, WINDOW + n), middle1, weight)
            above2 = above2 + where_above(load(windows, 2 * WINDOW + n), middle2, weight)
            more1 = more1 + where_above(load(windows, WINDOW + n + LANES), middle1, next_weight)
            more2 = more2 + where_above(load(windows, 2 * WINDOW + n + LANES), middle2, next_weight)
        above1, above2 = above1 + more1, above2 + more2
        low1 = choose_above(above1, half_weight, middle1, low1)
        high1 = choose_above(above1, half_weight, high1, middle1)
        low2 = choose_above(above2, half_weight, middle2, low2)
        high2 = choose_above(above2, half_weight, high2, middle2)
    # The largest values of the windows that are not above the intervals.
    median1 = median2 = splat(np.float32(-np.inf))
    for n in range(0, last, LANES):
        value1, value2 = load(windows, WINDOW + n), load(windows, 2 * WINDOW + n)
        median1 = maximum(median1, choose_above(value1, high1, median1, value1))
        median2 = maximum(median2, choose_above(value2, high2, median2, value2))
    return median1, median2
