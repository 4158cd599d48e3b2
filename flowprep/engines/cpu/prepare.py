"""The preparation of a frame: resizing, smoothing, borders, removal of structure."""

from __future__ import annotations

import numpy as np

from flowprep.engines.cpu.memory import (
    LONGEST_SWEEP,
    MARGIN,
    ONE,
    Floats,
    LevelLayout,
    LinearTaps,
    Scratch,
    make_steps,
)
from flowprep.engines.cpu.simd import (
    LANES,
    flush_denormals,
    fma,
    from_left,
    from_right,
    load,
    load_pairs,
    restore_mode,
    reverse,
    splat,
    square_root,
    store,
)
from flowprep.system.jit import inline_jit, jit

# The vectors of a block while the structure is computed, as offsets in floats.
STRUCTURE, ALONG, DOWN, IMAGE = range(0, 4 * LANES, LANES)
STRUCTURE_BLOCK = 4 * LANES


@jit
def resize(
    image: Floats,
    level: LevelLayout,
    out: Floats,
    new_level: LevelLayout,
    taps: LinearTaps,
    factor: np.float32,
    row: Floats,
) -> None:
    """Resize bilinearly and multiply by `factor`: first along columns, then along rows."""
    one, factor_ = splat(ONE), splat(factor)
    for y in range(new_level.height):
        upper = level.origin + taps.top[y] * level.stride
        lower = level.origin + taps.below[y] * level.stride
        w = splat(taps.down_weight[y])
        v = one - w
        for x in range(0, level.blocks * LANES, LANES):
            store(row, x, load(image, upper + x) * v + load(image, lower + x) * w)
        row[level.width] = row[level.width - 1]
        row[level.width + 1] = row[level.width + 2] = 0  # for the columns right of the image
        for x in range(0, new_level.blocks * LANES, LANES):
            left, right = load_pairs(row, taps.left, x)
            w = load(taps.along_weight, x)
            value = (left * (one - w) + right * w) * factor_
            store(out, new_level.origin + y * new_level.stride + x, value)


@jit
def repeat_border(plane: Floats, level: LevelLayout, rows: int = MARGIN) -> None:
    """Fill LANES columns, and so many rows, of the margin of a plane by repeating the outermost pixels."""
    for y in range(level.height):
        start = level.origin + y * level.stride
        end = start + level.width - 1
        store(plane, start - LANES, splat(plane[start]))
        for x in range(end + 1, start + level.stride - 2 * LANES, LANES):
            store(plane, x, splat(plane[end]))
        store(plane, start + level.stride - 2 * LANES, splat(plane[end]))
    first, length = level.origin - LANES, level.stride
    last = first + (level.height - 1) * length
    for x in range(0, length, LANES):
        above, below = load(plane, first + x), load(plane, last + x)
        for k in range(length, (rows + 1) * length, length):
            store(plane, first - k + x, above)
            store(plane, last + k + x, below)


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
    for k in range(length, 3 * length, length):
        for x in range(0, length, LANES):
            store(plane, first - k + x, load(plane, first + k + x))
            store(plane, last + k + x, load(plane, last - k + x))


@jit
def symmetric_filter(
    image: Floats, level: LevelLayout, taps: tuple[np.float32, ...], out: Floats, row: Floats
) -> None:
    """Convolve along both axes. The border is mirrored.

    Args:
        image: a plane.
        level: its layout.
        taps: weights at 0, 1, ... to each side. Loops over a tuple are unrolled.
        out: the result, another plane.
        row: memory for a row of a plane.
    """
    bottom, right = level.height - 1, LANES + level.width - 1
    end, stride, first = level.blocks * LANES, level.stride, level.origin
    for y in range(level.height):
        at = first + y * stride
        for x in range(0, end, LANES):
            value = splat(taps[0]) * load(image, at + x)
            for k in range(1, len(taps)):
                above, below = abs(y - k), bottom - abs(bottom - y - k)
                both = load(image, first + above * stride + x) + load(image, first + below * stride + x)
                value = fma(splat(taps[k]), both, value)
            store(row, LANES + x, value)
        store(row, 0, reverse(load(row, LANES + 1)))
        store(row, right + 1, reverse(load(row, right - LANES)))
        for x in range(LANES, LANES + end, LANES):
            value = splat(taps[0]) * load(row, x)
            for k in range(1, len(taps)):
                value = fma(splat(taps[k]), load(row, x - k) + load(row, x + k), value)
            store(out, at + x - LANES, value)


@inline_jit
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
