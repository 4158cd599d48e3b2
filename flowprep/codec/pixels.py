"""From the coefficients of a grey JPEG to the pixels of a window."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowprep.codec import idct
from flowprep.codec.bitstream import copy_bytes, copy_reversed
from flowprep.codec.coefficients import ZIGZAG
from flowprep.system.jit import jit
from flowprep.system.simd import (
    LANES,
    absolute_ints,
    largest_lane,
    load_high_ints,
    load_word,
    splat_ints,
    store_repeated,
    store_word,
    swap_bytes,
)

# The blocks of a band are transformed together. So many keep the coefficients in the cache.
_BAND_BLOCKS = 2048

# Blocks are sorted by the place of their last coefficient in file order: up to the second or the ninth, all
# of them are in the first 2 or 4 rows and columns.
_LAST_OF_2, _LAST_OF_4 = 2, 9

_LOW = 0xFFFFFFFF  # of an element of `blocks`: the index of its last event, plus 1


@jit
def new_band(shape: Any) -> Any:
    """The number of rows of blocks in a band, and arrays for `write_window`."""
    all_columns = (shape[1] + 7) >> 3
    rows = min(max(1, _BAND_BLOCKS // all_columns), (shape[0] + 7) >> 3)
    blocks = rows * all_columns
    row_bytes = (all_columns + 2 * LANES) * 8
    return (
        rows,
        np.empty((4, blocks + 1), np.int64),  # blocks with AC coefficients: by kind, and all
        np.empty(blocks, np.int64),  # the place of each block's coefficients
        np.empty((blocks // LANES + 4) * idct.BLOCK, np.int32),
        np.empty((blocks // LANES + 4) * idct.BLOCK, np.uint8),
        np.empty(row_bytes, np.uint8),  # a row of pixels
        np.empty(row_bytes, np.uint8),  # the same, mirrored
    )


@jit
def write_window(
    blocks: Any,
    events: Any,
    steps: Any,
    shape: Any,
    window: Any,
    mirror: bool,
    band: Any,
    out: Any,
    at: int,
) -> bool:
    """Write the pixels of a window to out[at:].

    Args:
        blocks, events: as `read_blocks` fills them.
        steps: (64,) int64 quantisation steps in file order.
        shape: (H, W) of the picture.
        window: top, left, height, width.
        mirror: write each row from right to left.
        band: arrays of `new_band`.
        out: uint8.
        at: the position of the first pixel.

    Returns:
        False if a block is too large for an exact result.
    """
    rows, kinds, places, coefficients, pixels, line, mirrored = band
    columns = (shape[1] + 7) >> 3
    top, left, height, width = window
    first_column, last_column = left >> 3, (left + width + 7) >> 3
    if height == 0 or width == 0:
        return True
    last_row = (top + height + 7) >> 3
    for first in range(top >> 3, last_row, rows):
        last = min(first + rows, last_row)
        base = first * columns
        counts = _sort_blocks(blocks, events, base, last - first, columns, first_column, last_column, kinds)
        _place_blocks(blocks, steps[0], base, counts, kinds, places, coefficients)
        for b in range(base, last * columns, columns):
            first_event, last_event = blocks[b + first_column] & _LOW, blocks[b + last_column] & _LOW
            for n in range(np.uint64(first_event), np.uint64(last_event)):
                event = events[n]
                # Indices without a sign need no check for one.
                k, block = np.uint64(event & 63), np.uint64((event >> 6 & 0x3FFFFFF) - base)
                place = np.uint64(places[block] + ZIGZAG[k] * LANES)
                coefficients[place] = (event >> 32) * steps[k]
        start = np.int64(0)  # a plain 0 would be a type of its own, with its own machine code
        for kind in range(3):
            for _ in range(0, counts[kind], LANES):
                if not idct.transform(coefficients, start, 2 << kind, pixels):
                    return False
                start += idct.BLOCK
        n = 0
        for row in range(first, last):
            b, end = row * columns + first_column, row * columns + last_column
            if not _write_flat(blocks, b, end, steps[0], row, window, mirror, line, mirrored, out, at):
                return False
            while n < counts[3] and kinds[3, n] < end:
                block = kinds[3, n]
                place = np.uint64(places[np.uint64(block - base)])
                _write_block(pixels, place, row, block - row * columns, window, mirror, out, at)
                n += 1
    return True


@jit
def _write_flat(
    blocks: Any,
    first: int,
    last: int,
    step: int,
    row: int,
    window: Any,
    mirror: bool,
    line: Any,
    mirrored: Any,
    out: Any,
    at: int,
) -> bool:
    """Write a row of blocks as if all were flat. Returns False if one is too large."""
    top, left, height, width = window
    steps, shift = splat_ints(np.int32(step)), splat_ints(np.int32(3))
    half = splat_ints(np.int32(4 + (128 << 3)))
    for b in range(first, last, LANES):
        value = load_high_ints(blocks, b + 1) * steps
        if largest_lane(absolute_ints(value)) > idct.MAX_SUM:
            return False
        store_repeated(line, (b - first) * 8, (value + half) >> shift)
    start = left & 7
    if mirror:
        copy_reversed(mirrored, 0, line, start, width)
        line, start = mirrored, 0
    for y in range(max(row * 8 - top, 0), min(row * 8 + 8 - top, height)):
        copy_bytes(out, at + y * width, line, start, width)
    return True


@jit
def _sort_blocks(
    blocks: Any, events: Any, base: int, rows: int, columns: int, first: int, last: int, kinds: Any
) -> Any:
    """List the blocks of a band that have AC coefficients: those of side 2, of side 4, of side 8, and all."""
    n2, n4, n8 = np.uint64(0), np.uint64(0), np.uint64(0)
    of_2, of_4, of_8, of_all = kinds[0], kinds[1], kinds[2], kinds[3]
    for row in range(rows):
        for b in range(np.uint64(base + row * columns + first), np.uint64(base + row * columns + last)):
            end = blocks[b + np.uint64(1)] & _LOW
            k = events[np.uint64(end - 1)] & 63
            is_busy = end != blocks[b] & _LOW
            of_2[n2] = of_4[n4] = of_8[n8] = of_all[n2 + n4 + n8] = b
            n2 += np.uint64(is_busy & (k <= _LAST_OF_2))
            n4 += np.uint64(is_busy & (k > _LAST_OF_2) & (k <= _LAST_OF_4))
            n8 += np.uint64(is_busy & (k > _LAST_OF_4))
    return np.int64(n2), np.int64(n4), np.int64(n8), np.int64(n2 + n4 + n8)


@jit
def _place_blocks(
    blocks: Any, step: int, base: int, counts: Any, kinds: Any, places: Any, coefficients: Any
) -> None:
    """Give each listed block a lane of 16, and set its coefficients to its DC coefficient and zeros."""
    start = 0
    for kind in range(3):
        side = 2 << kind
        for i in range(0, counts[kind], LANES):
            for row in range(side):
                k = start + row * 8 * LANES
                coefficients[k : k + side * LANES] = 0
            for lane in range(min(LANES, counts[kind] - i)):
                block = kinds[kind, i + lane]
                places[block - base] = start + lane
                coefficients[start + lane] = (blocks[block + 1] >> 32) * step
            start += idct.BLOCK


@jit
def _write_block(
    pixels: Any, place: int, row: int, column: int, window: Any, mirror: bool, out: Any, at: int
) -> None:
    """Write the part of a block that is in the window."""
    top, left, height, width = window
    y, x = row * 8 - top, column * 8 - left
    x = width - 8 - x if mirror else x
    source, start = (place & -idct.BLOCK) + (place & (LANES - 1)) * 8, at + y * width + x
    if y >= 0 and y + 8 <= height and x >= 0 and x + 8 <= width:
        for i in range(8):
            word = load_word(pixels, source + i * 8 * LANES)
            store_word(out, start + i * width, swap_bytes(word) if mirror else word)
        return
    for i in range(max(0, -y), min(8, height - y)):
        word = load_word(pixels, source + i * 8 * LANES)
        word = swap_bytes(word) if mirror else word
        for k in range(max(0, -x), min(8, width - x)):
            out[start + i * width + k] = word >> np.uint64(8 * k) & np.uint64(255)
