"""The preparation of a frame: resizing, smoothing, borders, removal of structure."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowprep.engines.cpu.memory import LONGEST_SWEEP, MARGIN, ONE, Floats, LevelLayout, Scratch, make_steps
from flowprep.engines.cpu.simd import (
    LANES,
    flush_denormals,
    fma,
    from_left,
    from_right,
    load,
    restore_mode,
    splat,
    square_root,
    store,
)
from flowprep.system.jit import jit

# The vectors of a block while the structure is computed, as offsets in floats.
STRUCTURE, ALONG, DOWN, IMAGE = range(0, 4 * LANES, LANES)
STRUCTURE_BLOCK = 4 * LANES


@jit
def resize(
    image: Floats,
    level: LevelLayout,
    out: Floats,
    new_level: LevelLayout,
    taps: Any,
    factor: np.float32,
    row: Floats,
) -> None:
    """Resize bilinearly and multiply by `factor`: first along columns, which vectorises, then along rows."""
    top, below, down_weight, left, right, along_weight = taps
    for y in range(new_level.height):
        upper = level.origin + top[y] * level.stride
        lower = level.origin + below[y] * level.stride
        w = down_weight[y]
        v = ONE - w
        for x in range(level.width):
            row[x] = image[upper + x] * v + image[lower + x] * w
        at = new_level.origin + y * new_level.stride
        for x in range(new_level.width):
            w = along_weight[x]
            out[at + x] = (row[left[x]] * (ONE - w) + row[right[x]] * w) * factor


@jit
def repeat_border(plane: Floats, level: LevelLayout) -> None:
    """Fill the margin of a plane by repeating the outermost pixels."""
    for y in range(level.height):
        start = level.origin + y * level.stride
        end = start + level.width - 1
        store(plane, start - LANES, splat(plane[start]))
        store(plane, end + 1, splat(plane[end]))
    first, length = level.origin - LANES, level.stride
    last = first + (level.height - 1) * length
    for k in range(1, MARGIN + 1):
        for x in range(length):
            plane[first - k * length + x] = plane[first + x]
            plane[last + k * length + x] = plane[last + x]


@jit
def mirror_border(plane: Floats, level: LevelLayout) -> None:
    """Fill 2 rows and columns of the margin by mirroring the image at its outermost pixels."""
    for y in range(level.height):
        start = level.origin + y * level.stride
        end = start + level.width - 1
        for k in range(1, 3):
            plane[start - k], plane[end + k] = plane[start + k], plane[end - k]
    first, length = level.origin - LANES, level.stride
    last = first + (level.height - 1) * length
    for k in range(1, 3):
        for x in range(length):
            plane[first - k * length + x] = plane[first + k * length + x]
            plane[last + k * length + x] = plane[last - k * length + x]


@jit
def symmetric_filter(image: Floats, level: LevelLayout, taps: Floats, out: Floats, row: Floats) -> None:
    """Convolve along both axes; `taps` are the weights at 0, 1, ... to each side. The border is mirrored."""
    reach, bottom, right = len(taps) - 1, level.height - 1, LANES + level.width - 1
    for y in range(level.height):
        for b in range(level.blocks):
            at = level.origin + b * LANES
            value = splat(taps[0]) * load(image, at + y * level.stride)
            for k in range(1, reach + 1):
                above, below = abs(y - k), bottom - abs(bottom - y - k)
                both = load(image, at + above * level.stride) + load(image, at + below * level.stride)
                value = fma(splat(taps[k]), both, value)
            store(row, LANES + b * LANES, value)
        for k in range(1, reach + 1):
            row[LANES - k], row[right + k] = row[LANES + k], row[right - k]
        for b in range(level.blocks):
            at = LANES + b * LANES
            value = splat(taps[0]) * load(row, at)
            for k in range(1, reach + 1):
                value = fma(splat(taps[k]), load(row, at - k) + load(row, at + k), value)
            store(out, level.origin + y * level.stride + b * LANES, value)


@jit
def _structure_row(
    state: Floats, above: int, at: int, blocks: int, steps: Floats, steps_at: int, theta: np.float32
) -> None:
    """Do one iteration of the structure: its values of the row at offset `at`, the dual step of `above`."""
    theta_, one = splat(theta), splat(ONE)
    along_left = splat(np.float32(0))
    s_above = load(state, above + STRUCTURE)
    for b in range(blocks):
        i, j = at + b * STRUCTURE_BLOCK, above + b * STRUCTURE_BLOCK
        taut = load(steps, steps_at + b * LANES)
        along, down_above = load(state, i + ALONG), load(state, j + DOWN)
        divergence = (along - from_left(along_left, along)) + (load(state, i + DOWN) - down_above)
        s = fma(theta_, divergence, load(state, i + IMAGE))
        store(state, i + STRUCTURE, s)
        along_left = along

        s_right = load(state, j + STRUCTURE_BLOCK + STRUCTURE)
        sx, sy = from_right(s_above, s_right) - s_above, s - s_above
        shrink = one / fma(taut, square_root(fma(sx, sx, sy * sy)), one)
        store(state, j + ALONG, fma(taut, sx, load(state, j + ALONG)) * shrink)
        store(state, j + DOWN, fma(taut, sy, down_above) * shrink)
        s_above = s_right


@jit
def remove_structure(
    image: Floats,
    level: LevelLayout,
    taut: np.float32,
    theta: np.float32,
    iterations: int,
    share: np.float32,
    out: Floats,
    scratch: Scratch,
) -> None:
    """Subtract `share` of its structure from an image, in sweeps like those of iterate.py."""
    mode = flush_denormals()
    state, row = scratch.state, (level.width // LANES + 1) * STRUCTURE_BLOCK
    make_steps(level, taut, scratch.steps)
    state[: (level.height + 2) * row + STRUCTURE_BLOCK] = 0
    for y in range(level.height):
        for b in range(level.blocks):
            at = (y + 1) * row + b * STRUCTURE_BLOCK
            store(state, at + IMAGE, load(image, level.origin + y * level.stride + b * LANES))
    ghost = (level.width // LANES) * STRUCTURE_BLOCK + level.width % LANES
    edge = ((level.width - 1) // LANES) * STRUCTURE_BLOCK + (level.width - 1) % LANES
    done = 0
    while done <= iterations:  # one more pass computes the structure from the last dual step
        sweep = min(LONGEST_SWEEP, iterations + 1 - done)
        for front in range(level.height + sweep):
            for k in range(sweep):
                y = front - k
                if y < 0 or y > level.height:
                    continue
                above = y * row
                row_at = above + row
                if y == level.height:
                    for b in range(0, row, STRUCTURE_BLOCK):
                        store(state, row_at + b + IMAGE, load(state, above + b + STRUCTURE))
                steps_at = 0 if y == 0 else level.blocks * LANES
                _structure_row(state, above, row_at, level.blocks, scratch.steps, steps_at, theta)
                state[row_at + ghost + STRUCTURE] = state[row_at + edge + STRUCTURE]
        done += sweep
    share_ = splat(share)
    for y in range(level.height):
        for b in range(level.blocks):
            i, at = (y + 1) * row + b * STRUCTURE_BLOCK, level.origin + y * level.stride + b * LANES
            store(out, at, load(state, i + IMAGE) - share_ * load(state, i + STRUCTURE))
    restore_mode(mode)
