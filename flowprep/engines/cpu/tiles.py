"""The tiles in which the solver works: `flowprep.engines.tiles` on the processor."""

from __future__ import annotations

import math

import numpy as np

from flowprep.engines.cpu.memory import HALF, ONE, Floats, Ints, LevelLayout, Scratch, Tiles
from flowprep.engines.cpu.simd import LANES, fma, lane_numbers, load, splat, total, where_above
from flowprep.engines.tiles import (
    LEAST_NOISE,
    SIGNIFICANT,
    TILE_HEIGHT,
    TILE_WIDTH,
    VISIBLE_PX,
    tile_span,
)
from flowprep.system.jit import jit

assert TILE_WIDTH == LANES

# Marks of tiles. The new ones were open before a step of growth.
FIXED, MOVING, OPEN, NEW_FIXED, NEW_MOVING = range(5)  # NEW_FIXED - FIXED == NEW_MOVING - MOVING

_tile_span = jit(tile_span)


@jit
def span_row_length(level: LevelLayout) -> int:
    """Length of the spans of a tile row: every second block may begin one, and one more ends the list."""
    return level.blocks + 3


@jit
def fill_spans(tiles: Tiles, level: LevelLayout, spans: Ints) -> int:
    """Fill `Scratch.spans`: the runs of tiles in which the solver works.

    Returns:
        The number of blocks of the state in these tiles.
    """
    blocks = 0
    for row in range(tiles.shape[0]):
        height = min(TILE_HEIGHT, level.height - row * TILE_HEIGHT)
        s, b = row * span_row_length(level), 0
        while b < level.blocks:
            if tiles[row, b] == 0:
                b += 1
                continue
            spans[s] = b
            while b < level.blocks and tiles[row, b] != 0:
                b += 1
            spans[s + 1] = b
            blocks += height * (b - spans[s])
            s += 2
        spans[s] = level.blocks
    return blocks


@jit
def leave_out_settled(level: LevelLayout, tiles: Tiles, scratch: Scratch, settle: np.float32) -> int:
    """Leave the settled tiles without a restless neighbour out of `scratch.spans`.

    Returns:
        The number of blocks of the state in the other tiles.
    """
    rows, restless = tiles.shape[0], scratch.restless
    restless[: rows + 2, : level.blocks + 2] = 0
    for row in range(rows):
        height = min(TILE_HEIGHT, level.height - row * TILE_HEIGHT)
        for b in range(level.blocks):
            if tiles[row, b] == 0:
                continue
            pixels = height * min(TILE_WIDTH, level.width - b * TILE_WIDTH)
            update = total(load(scratch.updates, (row * level.blocks + b) * LANES))
            if update > settle * np.float32(pixels):
                for i in range(3):
                    for j in range(3):
                        restless[row + i, b + j] = 1
    for row in range(rows):
        for b in range(level.blocks):
            restless[row + 1, b + 1] &= tiles[row, b]
    return fill_spans(restless[1 : rows + 1, 1 : level.blocks + 1], level, scratch.spans)


@jit
def find_moving_tiles(i0: Floats, i1: Floats, level: LevelLayout, still: np.float32, tiles: Tiles) -> None:
    """Fill `tiles` with 1 where something may move between two images with a repeated border.

    Args:
        i0: plane of the first image at the finest level.
        i1: plane of the second image.
        level: the finest level.
        still: the setting, grey levels.
        tiles: the result.
    """
    zero, one, quarter = splat(np.float32(0)), splat(ONE), splat(HALF * HALF)
    for row in range(tiles.shape[0]):
        top, bottom = row * TILE_HEIGHT, min((row + 1) * TILE_HEIGHT, level.height)
        for b in range(level.blocks):
            columns = splat(np.float32(level.width - b * LANES))
            inside = where_above(columns, lane_numbers(), one)
            xx, xy, yy, xd, yd, energy = zero, zero, zero, zero, zero, zero
            for y in range(top, bottom):
                at = level.origin + y * level.stride + b * LANES
                gx = load(i0, at + 1) + load(i1, at + 1) - (load(i0, at - 1) + load(i1, at - 1))
                below, above = at + level.stride, at - level.stride
                gy = load(i0, below) + load(i1, below) - (load(i0, above) + load(i1, above))
                gx, gy = gx * quarter * inside, gy * quarter * inside
                d = (load(i1, at) - load(i0, at)) * inside
                xx, xy, yy = fma(gx, gx, xx), fma(gx, gy, xy), fma(gy, gy, yy)
                xd, yd, energy = fma(gx, d, xd), fma(gy, d, yd), fma(d, d, energy)
            pixels = (bottom - top) * min(TILE_WIDTH, level.width - b * TILE_WIDTH)
            sums = (total(xx), total(xy), total(yy), total(xd), total(yd), total(energy))
            tiles[row, b] = _judge(sums, pixels, still)
    _decide_open(tiles)


@jit
def _judge(sums: tuple[float, float, float, float, float, float], pixels: int, still: np.float32) -> int:
    """MOVING, OPEN or FIXED for a tile, from the sums of its g g', g d and d^2."""
    xx, xy, yy, xd, yd, energy = sums
    xx, yy = xx + 1.0, yy + 1.0
    explained = (yy * xd * xd - 2.0 * xy * xd * yd + xx * yd * yd) / (xx * yy - xy * xy)
    noise = max((energy - explained) / pixels, LEAST_NOISE**2)
    if energy > still * still * pixels or explained > SIGNIFICANT * noise:
        return MOVING
    weaker = 0.5 * (xx + yy - math.sqrt((xx - yy) ** 2 + 4.0 * xy * xy))
    return OPEN if weaker * VISIBLE_PX**2 < SIGNIFICANT * noise else FIXED


@jit
def _decide_open(tiles: Tiles) -> None:
    """Give each open tile the mark of its nearest tile that is not open; MOVING if two are equally near."""
    rows, columns = tiles.shape
    more = True
    while more:
        more = False
        for mark, new in ((MOVING, NEW_MOVING), (FIXED, NEW_FIXED)):
            for row in range(rows):
                for column in range(columns):
                    if tiles[row, column] == OPEN and _touches(tiles, row, column, mark):
                        tiles[row, column] = new
                        more = True
        for row in range(rows):
            for column in range(columns):
                if tiles[row, column] >= NEW_FIXED:
                    tiles[row, column] -= NEW_FIXED
    for row in range(rows):
        for column in range(columns):
            if tiles[row, column] == OPEN:
                tiles[row, column] = FIXED


@jit
def _touches(tiles: Tiles, row: int, column: int, mark: int) -> bool:
    """Whether one of the eight neighbours has a mark."""
    for i in range(max(row - 1, 0), min(row + 2, tiles.shape[0])):
        for j in range(max(column - 1, 0), min(column + 2, tiles.shape[1])):
            if tiles[i, j] == mark:
                return True
    return False


@jit
def coarsen(fine_tiles: Tiles, fine: LevelLayout, level: LevelLayout, tiles: Tiles) -> None:
    """Fill the tiles of a coarser level: those that cover a tile in which the finest level's solver works."""
    for row in range(tiles.shape[0]):
        top, bottom = _tile_span(row, level.height, fine.height, TILE_HEIGHT)
        for column in range(tiles.shape[1]):
            left, right = _tile_span(column, level.width, fine.width, TILE_WIDTH)
            tiles[row, column] = 0
            for i in range(top, min(bottom, fine_tiles.shape[0])):
                for j in range(left, min(right, fine_tiles.shape[1])):
                    tiles[row, column] |= fine_tiles[i, j]
