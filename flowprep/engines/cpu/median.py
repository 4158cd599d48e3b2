"""Medians of the flow between blocks of iterations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowprep.engines.cpu.memory import (
    BLOCK,
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
    median_of_columns_3,
    median_of_columns_5,
    sort_columns_3,
    sort_columns_5,
    store,
)
from flowprep.engines.cpu.weighted import filter_weighted
from flowprep.engines.tiles import TILE_HEIGHT
from flowprep.system.jit import jit

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
        filter_weighted(i0, level, scratch, tiles, u1, u2, parameters)
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
