"""The weighted median of the flow.

It compares and adds numbers of 16 bits, which is twice as fast as with floats.

* Flow: whole numbers of 1 / GRID pixels. So the search for the median ends at one of the values.
* First image: whole numbers of a small part of the difference at which weights become 0.
* Weights: 1337 is 1, so that the sum of 49 weights fits in 16 bits.

The level is filtered in columns of two blocks, from top to bottom. The rows of the flow that the windows of a
row need are in a ring. There each row is stored `side` times, moved by the places in a window, so that all
reads are aligned. The median is found by bisection, for 32 pixels and both components at once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flowprep.engines.cpu.memory import (
    BLOCK,
    HALF,
    MARGIN,
    ONE,
    U1,
    U2,
    Floats,
    LevelLayout,
    Scratch,
    Shorts,
    SolverParameters,
    Tiles,
)
from flowprep.engines.cpu.prepare import repeat_border
from flowprep.engines.cpu.shorts import (
    SHORT_LANES,
    absolute_shorts,
    add_above,
    any_nonzero,
    bounded_difference,
    half_of,
    high_product,
    largest_shorts,
    load_shorts,
    middle_of,
    smallest_shorts,
    smallest_unsigned,
    splat_shorts,
    store_shorts,
    to_floats,
    to_shorts,
    where_positive,
)
from flowprep.engines.cpu.simd import LANES, floor, largest, load, maximum, minimum, splat, store
from flowprep.engines.pyramid import LEAST_VISIBLE
from flowprep.engines.tiles import TILE_HEIGHT
from flowprep.system.jit import inline_jit, jit

# Offsets in Scratch.windows, in numbers. A ring has RING rows of up to 7 vectors for each component. Each of
# its rows has four extremes: the smallest and the largest value of its vectors, for u1 and then for u2.
RING = 32
RING_ROW = 7 * SHORT_LANES
RING_U2 = RING * RING_ROW
EXTREMES = 2 * RING_U2
EXTREMES_ROW = 4 * SHORT_LANES
WEIGHTS = EXTREMES + RING * EXTREMES_ROW
WINDOWS = WEIGHTS + 49 * SHORT_LANES

GRID = np.float32(256)  # numbers a pixel
FLOW_RANGE = np.float32(65000)  # numbers, between the least and the largest flow of a level
MOST = np.float32(32767)  # of 16 bits
GREY_LEVELS = 256  # the largest absolute value of an image without its structure
LEAST = np.float32(LEAST_VISIBLE)

# The number that stands for 1 in the parts of a weight. A product is shifted by 16 bits, so UNIT is the
# product of 2 UNIT with itself, and of FULL with itself. The product of UNIT and VISIBLE is a full weight,
# 1337.
UNIT, FULL, VISIBLE = 16384, 32767, np.float32(5348)


@jit
def _fixed_point(plane: Floats, level: LevelLayout) -> tuple[np.float32, np.float32]:
    """The scale of a component of the flow, and the number in the middle of its range.

    The scale is GRID, unless the range is more than FLOW_RANGE / GRID pixels. Flow that is longer than both
    sides of the image is not counted.
    """
    limit = splat(np.float32(level.height + level.width))
    low, high = limit, splat(np.float32(0)) - limit
    for y in range(level.height):
        at = level.origin + y * level.stride
        for x in range(at, at + level.blocks * LANES, LANES):
            value = load(plane, x)
            low, high = minimum(value, low), maximum(value, high)  # this ignores NaN
    low, high = maximum(low, splat(np.float32(0)) - limit), minimum(high, limit)
    top, bottom = largest(high), -largest(splat(np.float32(0)) - low)
    scale = GRID
    while (top - bottom) * scale > FLOW_RANGE:
        scale = np.float32(scale * HALF)
    return scale, np.float32(np.floor((top + bottom) * HALF * scale))


@inline_jit
def _rounded(value: Any, scale: Any, middle: Any, limit: Any) -> Any:
    value = floor(value * scale + splat(HALF)) - middle
    return maximum(minimum(value, limit), splat(np.float32(0)) - limit)


@jit
def _to_shorts(
    plane: Floats, scale: np.float32, middle: np.float32, start: int, end: int, out: Shorts
) -> None:
    """out = plane * scale - middle from `start` to `end`, rounded, and limited to [-MOST, MOST]."""
    scale_, middle_, limit = splat(scale), splat(middle), splat(MOST)
    for x in range(start, end, SHORT_LANES):
        a = _rounded(load(plane, x), scale_, middle_, limit)
        b = _rounded(load(plane, x + LANES), scale_, middle_, limit)
        store_shorts(out, x, to_shorts(a, b))


@inline_jit
def _visible(difference: Any, fade: Any) -> Any:
    near = maximum(splat(ONE) - difference * difference * fade, splat(np.float32(0)))
    near = near * near
    return maximum(near * near, splat(LEAST)) * splat(VISIBLE)


@jit
def _visibility(mismatch: Floats, fade: np.float32, start: int, end: int, out: Shorts) -> None:
    """The factors of the weights for occlusions, from `start` to `end`."""
    fade_ = splat(fade)
    for x in range(start, end, SHORT_LANES):
        a, b = _visible(load(mismatch, x), fade_), _visible(load(mismatch, x + LANES), fade_)
        store_shorts(out, x, to_shorts(a, b))


@inline_jit
def _add_to_ring(
    flow: Shorts, at: int, windows: Shorts, to: int, extremes: int, side: int, step: int
) -> None:
    """Store a row of the flow `side` times, and its extremes."""
    low = high = load_shorts(flow, at)
    for column in range(side):
        value = load_shorts(flow, at + column * step)
        store_shorts(windows, to + column * SHORT_LANES, value)
        low, high = smallest_shorts(low, value), largest_shorts(high, value)
    store_shorts(windows, extremes, low)
    store_shorts(windows, extremes + SHORT_LANES, high)


@inline_jit
def _make_weights(
    guide: Shorts, visible: Shorts, at: int, stride: int, windows: Shorts, side: int, step: int, factor: int
) -> Any:
    """Fill the weights of 32 windows; `at` is the offset of their first pixel.

    Returns:
        The sums of the weights.
    """
    limit, factor_, unit = splat_shorts(FULL // factor), splat_shorts(factor), splat_shorts(UNIT)
    centre = load_shorts(guide, at + side // 2 * step * (stride + 1))
    total, n = splat_shorts(0), WEIGHTS
    for row in range(side):
        for column in range(side):
            x = at + row * step * stride + column * step
            difference = absolute_shorts(bounded_difference(load_shorts(guide, x), centre))
            difference = smallest_unsigned(difference, limit) * factor_
            near = unit - high_product(difference, difference)
            square = high_product(near + near, near + near)
            weight = high_product(high_product(square + square, square + square), load_shorts(visible, x))
            store_shorts(windows, n, weight)
            total = total + weight
            n += SHORT_LANES
    return total


@inline_jit
def _medians(windows: Shorts, y: int, side: int, step: int, half: Any) -> tuple[Any, Any]:
    """The weighted medians of u1 and of u2 in 32 windows, by bisection.

    At most half of the weight is above a median. It is above `low`, and not above `high`.

    Args:
        windows: as in Scratch.
        y: the row of the ring that the windows begin in.
        side: pixels.
        step: distance of the pixels.
        half: half of the weights' sum.
    """
    at = EXTREMES + y % RING * EXTREMES_ROW
    low1, high1 = load_shorts(windows, at), load_shorts(windows, at + SHORT_LANES)
    low2, high2 = load_shorts(windows, at + 2 * SHORT_LANES), load_shorts(windows, at + 3 * SHORT_LANES)
    for row in range(1, side):
        at = EXTREMES + (y + row * step) % RING * EXTREMES_ROW
        low1 = smallest_shorts(low1, load_shorts(windows, at))
        high1 = largest_shorts(high1, load_shorts(windows, at + SHORT_LANES))
        low2 = smallest_shorts(low2, load_shorts(windows, at + 2 * SHORT_LANES))
        high2 = largest_shorts(high2, load_shorts(windows, at + 3 * SHORT_LANES))
    one = splat_shorts(1)
    low1, low2 = low1 - one, low2 - one
    start = splat_shorts(0) - half
    while any_nonzero((high1 - low1 - one) | (high2 - low2 - one)):
        middle1, middle2 = middle_of(low1, high1), middle_of(low2, high2)
        above1, above2 = start, start
        for row in range(side):
            at, n = (y + row * step) % RING * RING_ROW, WEIGHTS + row * side * SHORT_LANES
            for column in range(0, side * SHORT_LANES, SHORT_LANES):
                weight = load_shorts(windows, n + column)
                above1 = add_above(above1, load_shorts(windows, at + column), middle1, weight)
                above2 = add_above(above2, load_shorts(windows, RING_U2 + at + column), middle2, weight)
        low1 = where_positive(above1, middle1, low1)
        high1 = where_positive(above1, high1, middle1)
        low2 = where_positive(above2, middle2, low2)
        high2 = where_positive(above2, high2, middle2)
    return high1, high2


@inline_jit
def _store_flow(
    state: Floats, at: int, value: Any, point: tuple[np.float32, np.float32], left: bool, right: bool
) -> None:
    """Store 32 numbers as flow in two blocks, or in one of them."""
    a, b = to_floats(value)
    middle, pixel = splat(point[1]), splat(ONE / point[0])
    if left:
        store(state, at, (a + middle) * pixel)
    if right:
        store(state, at + BLOCK, (b + middle) * pixel)


@inline_jit
def _filter(
    level: LevelLayout,
    state: Floats,
    tiles: Tiles,
    planes: tuple[Shorts, Shorts, Shorts, Shorts],
    windows: Shorts,
    side: int,
    step: int,
    factor: int,
    point1: tuple[np.float32, np.float32],
    point2: tuple[np.float32, np.float32],
) -> None:
    """Filter the tiles of a level. A constant `side` gives the loops known lengths.

    Args:
        level: the layout of the level.
        state: as in Scratch.
        tiles: as in `filter_weighted`.
        planes: u1, u2, the first image, and the visibility.
        windows: as in Scratch.
        side: pixels.
        step: distance of the pixels.
        factor: by which differences of the first image are multiplied.
        point1: the scale and the middle of u1.
        point2: those of u2.
    """
    flow1, flow2, guide, visible = planes
    stride, rows = level.stride, side // 2 * step * 2 + 1
    for b in range(0, level.blocks, 2):
        first = level.origin + b * LANES - side // 2 * step * (stride + 1)
        end = 0  # of the rows in the ring
        for y in range(level.height):
            left = tiles[y // TILE_HEIGHT, b] != 0
            right = b + 1 < level.blocks and tiles[y // TILE_HEIGHT, b + 1] != 0
            if not (left or right):
                continue
            for row in range(max(end, y), y + rows):
                at, to = first + row * stride, row % RING * RING_ROW
                extremes = EXTREMES + row % RING * EXTREMES_ROW
                _add_to_ring(flow1, at, windows, to, extremes, side, step)
                _add_to_ring(flow2, at, windows, RING_U2 + to, extremes + 2 * SHORT_LANES, side, step)
            end = y + rows
            total = _make_weights(guide, visible, first + y * stride, stride, windows, side, step, factor)
            median1, median2 = _medians(windows, y, side, step, half_of(total))
            i = (y + 1) * level.row + b * BLOCK
            _store_flow(state, i + U1, median1, point1, left, right)
            _store_flow(state, i + U2, median2, point2, left, right)


@jit
def filter_weighted(
    i0: Floats,
    level: LevelLayout,
    scratch: Scratch,
    tiles: Tiles,
    u1: Floats,
    u2: Floats,
    parameters: SolverParameters,
) -> None:
    """Filter the flow by a weighted median, into the state.

    Args:
        i0: the plane of the first image, with its border repeated.
        level: the layout of the level.
        scratch: has the state, and the mismatch for occlusion weights.
        tiles: (tile rows, blocks): 0 where the state keeps its values.
        u1: the plane of u1, with its border repeated.
        u2: the plane of u2.
        parameters: the parameters of the level.
    """
    reach = parameters.median // 2 * parameters.stride
    if parameters.occlusion > 0:
        repeat_border(scratch.mismatch, level, reach)
    # The rows of the planes that windows contain.
    start, end = (MARGIN - reach) * level.stride, (MARGIN + level.height + reach) * level.stride
    planes = scratch.flow1, scratch.flow2, scratch.guide, scratch.visible
    point1, point2 = _fixed_point(u1, level), _fixed_point(u2, level)
    _to_shorts(u1, point1[0], point1[1], start, end, planes[0])
    _to_shorts(u2, point2[0], point2[1], start, end, planes[1])
    # Weights are 0 from a difference of `grey` levels, which is FULL // factor in the guide.
    grey = ONE / np.sqrt(parameters.fade)
    factor = min(max(math.ceil(GREY_LEVELS / grey), 1), FULL)
    _to_shorts(i0, np.float32(FULL // factor) / grey, np.float32(0), start, end, planes[2])
    _visibility(scratch.mismatch, parameters.occlusion, start, end, planes[3])
    state, windows, step = scratch.state, scratch.windows, parameters.stride
    if parameters.median == 7:
        _filter(level, state, tiles, planes, windows, 7, step, factor, point1, point2)
    elif parameters.median == 5:
        _filter(level, state, tiles, planes, windows, 5, step, factor, point1, point2)
    else:
        _filter(level, state, tiles, planes, windows, 3, step, factor, point1, point2)
