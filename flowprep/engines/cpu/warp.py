"""Warping: the second image and its gradient at x + u(x), and the constants of the data term."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowprep.engines.cpu.memory import (
    BLOCK,
    HALF,
    I1X,
    I1Y,
    INVERSE,
    ONE,
    RHO,
    TEXEL,
    TEXEL_MARGIN,
    U1,
    U2,
    Floats,
    Ints,
    LevelLayout,
    Scratch,
    SolverParameters,
    Tiles,
)
from flowprep.engines.cpu.simd import (
    LANES,
    floor,
    fma,
    lane_numbers,
    load,
    load_each_four_times,
    load_interleaved,
    load_transposed,
    maximum,
    minimum,
    splat,
    splat_ints,
    store,
    store_interleaved,
    store_ints,
    sums_of_fours,
    to_ints,
    where_above,
)
from flowprep.engines.pyramid import CUBIC_A, TINY_GRADIENT
from flowprep.engines.tiles import TILE_HEIGHT
from flowprep.system.jit import inline_jit, jit

# Offsets in Scratch.pixels of the values of 16 pixels, in floats: the weights of four columns, pixel by
# pixel; the weights of four rows, row by row; the warped texels.
WX, WY, WARPED = 0, 4 * LANES, 8 * LANES
PIXELS = 12 * LANES  # the size of Scratch.pixels
A = np.float32(CUBIC_A)
TINY = np.float32(TINY_GRADIENT)


@jit
def make_spline_texels(samples: Floats, level: LevelLayout, texels: Floats) -> None:
    """Store the coefficients of four rows side by side, so that the 4 x 4 of a sample lie together."""
    stride = level.stride
    for y in range(level.height):
        row = (y + TEXEL_MARGIN) * level.texels + TEXEL_MARGIN * TEXEL
        for x in range(-1, level.width + 2, LANES):
            i = level.origin + y * stride + x
            c0, c1, c2, c3 = (
                load(samples, i - stride),
                load(samples, i),
                load(samples, i + stride),
                load(samples, i + 2 * stride),
            )
            store_interleaved(texels, row + x * TEXEL, c0, c1, c2, c3)


@jit
def make_texels(i1: Floats, level: LevelLayout, texels: Floats) -> None:
    """Store I1 and its centred gradient side by side, so that a warp reads them together."""
    texels[: (level.height + 2 * TEXEL_MARGIN) * level.texels] = 0
    half, nothing = splat(HALF), splat(np.float32(0))
    for y in range(level.height):
        row = (y + TEXEL_MARGIN) * level.texels + TEXEL_MARGIN * TEXEL
        for b in range(level.blocks):
            i = level.origin + y * level.stride + b * LANES
            i1x = (load(i1, i + 1) - load(i1, i - 1)) * half
            i1y = (load(i1, i + level.stride) - load(i1, i - level.stride)) * half
            store_interleaved(texels, row + b * LANES * TEXEL, load(i1, i), i1x, i1y, nothing)
        for x in range(row + level.width * TEXEL, row + level.blocks * LANES * TEXEL):
            texels[x] = 0


@jit
def _cubic_weights(t: Any) -> tuple[Any, Any, Any, Any]:
    """Weights of the pixels at -1, 0, 1, 2 for samples at t (a vector) between pixels 0 and 1.

    The formulas are those of reference.py, multiplied out: a t (1 - t)^2, ((a + 2) t - (a + 3)) t^2 + 1, ...
    """
    one, a = splat(ONE), splat(A)
    r = one - t
    far_left, far_right = a * t * r * r, a * t * t * r
    left = fma(splat(A + np.float32(2)) * t - splat(A + np.float32(3)), t * t, one)
    return far_left, left, one - far_left - left - far_right, far_right


@inline_jit
def _taps(texels: Floats, row: int, pixels: Floats, indices: Ints, k: int) -> Any:
    """The four columns of texels around pixel k, each weighted: their sum is I1 and its gradient at x + u."""
    at = np.int64(indices[k])
    columns = load(texels, at) * splat(pixels[WY + k])
    columns = fma(load(texels, at + row), splat(pixels[WY + LANES + k]), columns)
    columns = fma(load(texels, at + 2 * row), splat(pixels[WY + 2 * LANES + k]), columns)
    columns = fma(load(texels, at + 3 * row), splat(pixels[WY + 3 * LANES + k]), columns)
    return columns * load_each_four_times(pixels, WX + 4 * k)


@jit
def warp(
    i0: Floats, level: LevelLayout, tiles: Tiles, parameters: SolverParameters, scratch: Scratch
) -> None:
    """Fill the constants of all blocks, by cubic convolution."""
    state, texels, pixels, indices = scratch.state, scratch.texels, scratch.pixels, scratch.indices
    steps, mismatch = scratch.steps, scratch.mismatch
    lowest, zero = splat(np.float32(-3)), splat(np.float32(0))
    last_x, last_y = splat(np.float32(level.width + 1)), splat(np.float32(level.height + 1))
    margin = splat(np.float32(TEXEL_MARGIN - 1))
    row_length, texel = splat_ints(np.int32(level.texels)), splat_ints(np.int32(TEXEL))
    for y in range(level.height):
        y_from = splat(np.float32(y))
        for b in range(level.blocks):
            if tiles[y // TILE_HEIGHT, b] == 0:
                if parameters.occlusion > 0:  # still tiles agree but for noise
                    store(mismatch, level.origin + y * level.stride + b * LANES, zero)
                continue
            i, at = (y + 1) * level.row + b * BLOCK, level.origin + y * level.stride + b * LANES
            u1, u2 = load(state, i + U1), load(state, i + U2)
            x_to = u1 + (splat(np.float32(b * LANES)) + lane_numbers())
            y_to = u2 + y_from
            column, line = floor(x_to), floor(y_to)

            w0, w1, w2, w3 = _cubic_weights(x_to - column)
            store_interleaved(pixels, WX, w0, w1, w2, w3)
            w0, w1, w2, w3 = _cubic_weights(y_to - line)
            store(pixels, WY, w0)
            store(pixels, WY + LANES, w1)
            store(pixels, WY + 2 * LANES, w2)
            store(pixels, WY + 3 * LANES, w3)

            column = maximum(minimum(column, last_x), lowest) + margin
            line = maximum(minimum(line, last_y), lowest) + margin
            store_ints(indices, 0, to_ints(line) * row_length + to_ints(column) * texel)
            for k in range(0, LANES, 4):
                four = sums_of_fours(
                    _taps(texels, level.texels, pixels, indices, k),
                    _taps(texels, level.texels, pixels, indices, k + 1),
                    _taps(texels, level.texels, pixels, indices, k + 2),
                    _taps(texels, level.texels, pixels, indices, k + 3),
                )
                store(pixels, WARPED + TEXEL * k, four)
            i1w, i1wx, i1wy, _ = load_interleaved(pixels, WARPED)
            if parameters.blend > 0:
                i1wx, i1wy = _blended(i0, at, level.stride, i1wx, i1wy, parameters.blend)
            inside = load(steps, (level.blocks + b) * LANES)  # 0 right of the image
            i1wx, i1wy = _inside(x_to, y_to, i1wx, i1wy, inside, level, parameters.mask)
            if parameters.occlusion > 0:
                store(mismatch, at, i1w - load(i0, at))
            _store_constants(state, i, load(i0, at), i1w, i1wx, i1wy)


@jit
def _spline_weights(t: Any) -> tuple[Any, Any, Any, Any]:
    """Weights of the coefficients at -1, 0, 1, 2 for samples at t (a vector) from 0 to 1."""
    r = splat(ONE) - t
    sixth, half, two_thirds = splat(np.float32(1 / 6)), splat(HALF), splat(np.float32(2 / 3))
    left = two_thirds - t * t * (half + half * r)
    right = two_thirds - r * r * (half + half * t)
    return r * r * r * sixth, left, right, t * t * t * sixth


@jit
def _spline_slopes(t: Any) -> tuple[Any, Any, Any, Any]:
    """The derivatives of _spline_weights."""
    r = splat(ONE) - t
    half, three_halves, two = splat(HALF), splat(np.float32(1.5)), splat(np.float32(2))
    outer_left, outer_right = (t - splat(ONE)) * r * half, t * t * half
    return outer_left, t * (three_halves * t - two), r * (two - three_halves * r), outer_right


@inline_jit
def _along(texel: Any, weights: Any, row: int) -> Any:
    """The weighted sums along a row of the 4 x 4 coefficients."""
    w0, w1, w2, w3 = weights
    return (w0 * texel[row] + w2 * texel[8 + row]) + (w1 * texel[4 + row] + w3 * texel[12 + row])


@inline_jit
def _down(weights: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The weighted sum of the sums along four rows."""
    w0, w1, w2, w3 = weights
    return fma(w0, a, fma(w1, b, fma(w2, c, w3 * d)))


@inline_jit
def _targets(state: Floats, i: int, x: int, y: int) -> tuple[Any, Any]:
    """Where the flow of the block at offset i points; (x, y) is its first pixel."""
    x_to = load(state, i + U1) + (splat(np.float32(x)) + lane_numbers())
    return x_to, load(state, i + U2) + splat(np.float32(y))


@inline_jit
def _find_texels(
    state: Floats, i: int, x: int, y: int, level: LevelLayout, indices: Ints, fractions: Floats
) -> None:
    """Store where the texels of a block begin, and the places of its samples between them."""
    x_to, y_to = _targets(state, i, x, y)
    zero = splat(np.float32(0))
    x_in = maximum(minimum(x_to, splat(np.float32(level.width - 1))), zero)
    y_in = maximum(minimum(y_to, splat(np.float32(level.height - 1))), zero)
    column, line = floor(x_in), floor(y_in)
    start = splat_ints(np.int32(TEXEL_MARGIN * level.texels + (TEXEL_MARGIN - 1) * TEXEL))
    across = to_ints(column) * splat_ints(np.int32(TEXEL)) + start
    store_ints(indices, x, to_ints(line) * splat_ints(np.int32(level.texels)) + across)
    store(fractions, x, x_in - column)
    store(fractions, level.stride + x, y_in - line)


@jit
def warp_spline(
    i0: Floats, level: LevelLayout, tiles: Tiles, parameters: SolverParameters, scratch: Scratch
) -> None:
    """Fill the constants of all blocks, by a cubic B-spline.

    The places of a row's samples are found first: then the loads of a block do not wait for them.
    """
    state, texels, indices = scratch.state, scratch.texels, scratch.indices
    steps, mismatch, fractions = scratch.steps, scratch.mismatch, scratch.ranks
    for y in range(level.height):
        row, tile_row = (y + 1) * level.row, y // TILE_HEIGHT
        for b in range(level.blocks):
            if tiles[tile_row, b] != 0:
                _find_texels(state, row + b * BLOCK, b * LANES, y, level, indices, fractions)
        for b in range(level.blocks):
            i, at = row + b * BLOCK, level.origin + y * level.stride + b * LANES
            if tiles[tile_row, b] == 0:
                if parameters.occlusion > 0:  # still tiles agree but for noise
                    store(mismatch, at, splat(np.float32(0)))
                continue
            texel = load_transposed(texels, indices, b * LANES)
            x, y_ = load(fractions, b * LANES), load(fractions, level.stride + b * LANES)
            weights, slopes = _spline_weights(x), _spline_slopes(x)
            r0, r1 = _along(texel, weights, 0), _along(texel, weights, 1)
            r2, r3 = _along(texel, weights, 2), _along(texel, weights, 3)
            s0, s1 = _along(texel, slopes, 0), _along(texel, slopes, 1)
            s2, s3 = _along(texel, slopes, 2), _along(texel, slopes, 3)
            weights, slopes = _spline_weights(y_), _spline_slopes(y_)
            i1w, i1wx = _down(weights, r0, r1, r2, r3), _down(weights, s0, s1, s2, s3)
            i1wy = _down(slopes, r0, r1, r2, r3)
            x_to, y_to = _targets(state, i, b * LANES, y)
            if parameters.blend > 0:
                i1wx, i1wy = _blended(i0, at, level.stride, i1wx, i1wy, parameters.blend)
            inside = load(steps, (level.blocks + b) * LANES)  # 0 right of the image
            i1wx, i1wy = _inside(x_to, y_to, i1wx, i1wy, inside, level, parameters.mask)
            if parameters.occlusion > 0:
                store(mismatch, at, i1w - load(i0, at))
            _store_constants(state, i, load(i0, at), i1w, i1wx, i1wy)


@inline_jit
def _blended(i0: Floats, at: int, stride: int, i1wx: Any, i1wy: Any, blend: np.float32) -> tuple[Any, Any]:
    """The gradient of the data term: that of the warped image, blended with that of I0."""
    keep, add = splat(ONE - blend), splat(HALF * blend)
    i1wx = fma(keep, i1wx, add * (load(i0, at + 1) - load(i0, at - 1)))
    i1wy = fma(keep, i1wy, add * (load(i0, at + stride) - load(i0, at - stride)))
    return i1wx, i1wy


@inline_jit
def _inside(
    x_to: Any, y_to: Any, i1wx: Any, i1wy: Any, inside: Any, level: LevelLayout, mask: bool
) -> tuple[Any, Any]:
    """The gradient, set to 0 right of the image, and with `mask` where the flow points outside the image."""
    zero = splat(np.float32(0))
    if mask:
        right, below = splat(np.float32(level.width - 1)), splat(np.float32(level.height - 1))
        distance = maximum(maximum(zero - x_to, x_to - right), maximum(zero - y_to, y_to - below))
        i1wx, i1wy = i1wx - where_above(distance, zero, i1wx), i1wy - where_above(distance, zero, i1wy)
    return where_above(inside, zero, i1wx), where_above(inside, zero, i1wy)


@inline_jit
def _store_constants(state: Floats, i: int, central: Any, i1w: Any, i1wx: Any, i1wy: Any) -> None:
    """Store the constants of the block at offset i: gradient, rho without its part in u, -1 / |grad|^2."""
    one, zero = splat(ONE), splat(np.float32(0))
    square = fma(i1wx, i1wx, i1wy * i1wy)
    store(state, i + I1X, i1wx)
    store(state, i + I1Y, i1wy)
    store(state, i + RHO, i1w - i1wx * load(state, i + U1) - i1wy * load(state, i + U2) - central)
    store(state, i + INVERSE, where_above(square, splat(TINY), (zero - one) / square))
