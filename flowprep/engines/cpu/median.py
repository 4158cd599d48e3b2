"""Medians of the flow between blocks of iterations."""

from __future__ import annotations

from typing import Any

import numpy as np

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
from flowprep.system.jit import jit

WINDOW = 50 * LANES  # floats of 16 windows of the largest median: 49 pixels, and one for an even number
HALVINGS = 10  # of the interval that contains a weighted median; it begins as the range of the window


@jit
def _median(level: LevelLayout, scratch: Scratch, k: int, plane: Floats, side: int) -> None:
    """Filter u1 or u2 of the state by a plain median; `plane` is overwritten."""
    state, ranks, stride = scratch.state, scratch.ranks, level.stride
    copy_out(level, state, k, plane)
    repeat_border(plane, level)
    for y in range(level.height):
        row = level.origin - LANES + y * stride
        for x in range(0, (level.blocks + 2) * LANES, LANES):
            if side == 5:
                sort_columns_5(plane, row - 2 * stride + x, stride, ranks, x, stride)
            else:
                sort_columns_3(plane, row - stride + x, stride, ranks, x, stride)
        for b in range(level.blocks):
            x = (b + 1) * LANES
            if side == 5:
                value = median_of_columns_5(ranks, x - 2, stride)
            else:
                value = median_of_columns_3(ranks, x - 1, stride)
            store(state, (y + 1) * level.row + b * BLOCK + k, value)


@jit
def medians(
    i0: Floats, level: LevelLayout, scratch: Scratch, u1: Floats, u2: Floats, parameters: SolverParameters
) -> None:
    """Filter u1 and u2 of the state by the median of the settings; the planes u1 and u2 are overwritten."""
    side = parameters.median
    if parameters.fade == 0:
        _median(level, scratch, U1, u1, side)
        _median(level, scratch, U2, u2, side)
        return
    for k, plane in ((U1, u1), (U2, u2)):
        copy_out(level, scratch.state, k, plane)
        repeat_border(plane, level)
    reach, windows = side // 2, scratch.pixels
    one, zero, fade = splat(ONE), splat(np.float32(0)), splat(parameters.fade)
    last = side * side * LANES
    store(windows, last, zero)  # the additional pixel has no weight
    for y in range(level.height):
        for b in range(level.blocks):
            centre, n = level.origin + y * level.stride + b * LANES, 0
            central = load(i0, centre)
            for down in range(-reach, reach + 1):
                for along in range(-reach, reach + 1):
                    at = centre + down * level.stride + along
                    difference = load(i0, at) - central
                    near = maximum(one - difference * difference * fade, zero)
                    near = near * near
                    store(windows, n, near * near)
                    store(windows, WINDOW + n, load(u1, at))
                    store(windows, 2 * WINDOW + n, load(u2, at))
                    n += LANES
            store(windows, WINDOW + last, load(u1, centre))
            store(windows, 2 * WINDOW + last, load(u2, centre))
            first, second = _weighted_medians(windows, last)
            i = (y + 1) * level.row + b * BLOCK
            store(scratch.state, i + U1, first)
            store(scratch.state, i + U2, second)


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
