"""The inverse cosine transform of JPEG decoders, for 16 blocks at a time.

It is the integer transform of Loeffler, Ligtenberg and Moschytz, "Practical fast 1-D DCT algorithms with 11
multiplications", ICASSP 1989, with constants of 13 bits. libjpeg and its descendants use it by default
("islow"), so the pixels are the same, bit by bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowprep.system.jit import jit
from flowprep.system.simd import (
    LANES,
    absolute_ints,
    largest_ints,
    largest_lane,
    load_ints,
    splat_ints,
    store_bytes,
    store_ints,
)

# The vector code of libjpeg-turbo computes in 16 bits. It adds two coefficients, or two results of the first
# pass, of columns 0 and 4, 2 and 6, 3 and 7, 1 and 5, 1 and 7, 3 and 5. A result of the first pass is at most
# 5.55 times the sum of the absolute coefficients of its column. So up to this sum of two columns nothing
# overflows. Blocks of pixels from 0 to 255 have 4,096 at most, apart from rounding. Pixels far outside 0 to
# 255, which only forged files have, are limited as in the vector code. The plain C code of libjpeg, which
# x86 and ARM processors do not use, wraps them beyond -384 and 640.
MAX_SUM = 5000

BLOCK = 64 * LANES  # numbers of 16 blocks
_ROW = 8 * LANES

_BITS = 13  # of the constants
_EXTRA_BITS = 2  # that the first pass keeps


def _constant(value: float) -> Any:
    return np.int32(round(value * 2**_BITS))


_0_298, _0_390, _0_541, _0_765 = map(_constant, (0.298631336, 0.390180644, 0.541196100, 0.765366865))
_0_899, _1_175, _1_501, _1_847 = map(_constant, (0.899976223, 1.175875602, 1.501321110, 1.847759065))
_1_961, _2_053, _2_562, _3_072 = map(_constant, (1.961570560, 2.053119869, 2.562915447, 3.072711026))


@jit
def transform(coefficients: Any, start: int, side: int, pixels: Any) -> bool:
    """Transform 16 blocks to pixels.

    Args:
        coefficients: int32; coefficient i of block b is at start + 16 i + b, in row order. Overwritten.
        start: position of the first one.
        side: 2, 4 or 8: all coefficients outside the first `side` rows and columns count as 0.
        pixels: uint8, receives row 0 of the 16 blocks, then row 1, ..., from the same position on.

    Returns:
        False if a block is too large for an exact result: see MAX_SUM. No pixel is then written.
    """
    if not _are_exact(coefficients, start, side):
        return False
    for k in range(start, start + side * LANES, LANES):
        _transform_columns(coefficients, k, side)
    for row in range(8):
        _transform_rows(coefficients, start + row * _ROW, side, pixels, start + row * _ROW)
    return True


@jit
def _are_exact(coefficients: Any, start: int, side: int) -> bool:
    """Whether no decoder overflows: see MAX_SUM. For few coefficients, the sum of all of them is enough."""
    if side < 8:
        total = splat_ints(np.int32(0))
        for k in range(start, start + side * LANES, LANES):
            total = total + _column_sum(coefficients, k, side)
        return bool(largest_lane(total) <= MAX_SUM)
    s0, s1 = _column_sum(coefficients, start, 8), _column_sum(coefficients, start + LANES, 8)
    s2, s3 = (
        _column_sum(coefficients, start + 2 * LANES, 8),
        _column_sum(coefficients, start + 3 * LANES, 8),
    )
    s4, s5 = (
        _column_sum(coefficients, start + 4 * LANES, 8),
        _column_sum(coefficients, start + 5 * LANES, 8),
    )
    s6, s7 = (
        _column_sum(coefficients, start + 6 * LANES, 8),
        _column_sum(coefficients, start + 7 * LANES, 8),
    )
    even = largest_ints(s0 + s4, s2 + s6)
    odd = largest_ints(largest_ints(s3 + s7, s1 + s5), largest_ints(s1 + s7, s3 + s5))
    return bool(largest_lane(largest_ints(even, odd)) <= MAX_SUM)


@jit
def _column_sum(coefficients: Any, k: int, side: int) -> Any:
    """The sum of the absolute coefficients of a column."""
    total = splat_ints(np.int32(0))
    for row in range(side):
        total = total + absolute_ints(load_ints(coefficients, k + row * _ROW))
    return total


@jit
def _transform_columns(coefficients: Any, k: int, side: int) -> None:
    """The first pass: transform one column of each block, in place. Later columns are not read."""
    half = splat_ints(np.int32(1 << (_BITS - _EXTRA_BITS - 1)))
    shift = splat_ints(np.int32(_BITS - _EXTRA_BITS))
    for i, x in enumerate(_transform_line(coefficients, k, _ROW, side)):
        store_ints(coefficients, k + i * _ROW, (x + half) >> shift)


@jit
def _transform_rows(coefficients: Any, k: int, side: int, pixels: Any, at: int) -> None:
    """The second pass: transform one row of each block, and write its pixels, which have 128 added."""
    half = splat_ints(np.int32((1 << (_BITS + _EXTRA_BITS + 2)) + (128 << (_BITS + _EXTRA_BITS + 3))))
    shift = splat_ints(np.int32(_BITS + _EXTRA_BITS + 3))
    x0, x1, x2, x3, x4, x5, x6, x7 = _transform_line(coefficients, k, LANES, side)
    store_bytes(
        pixels,
        at,
        (
            (x0 + half) >> shift,
            (x1 + half) >> shift,
            (x2 + half) >> shift,
            (x3 + half) >> shift,
            (x4 + half) >> shift,
            (x5 + half) >> shift,
            (x6 + half) >> shift,
            (x7 + half) >> shift,
        ),
    )


@jit
def _transform_line(coefficients: Any, k: int, step: int, side: int) -> Any:
    """The transform of 8 vectors, at k, k + step, ..., times 2 ** 13. Those after `side` count as 0."""
    zero = splat_ints(np.int32(0))
    x0, x1 = load_ints(coefficients, k), load_ints(coefficients, k + step)
    if side == 2:
        return _transform_8(x0, x1, zero, zero, zero, zero, zero, zero)
    x2, x3 = load_ints(coefficients, k + 2 * step), load_ints(coefficients, k + 3 * step)
    if side == 4:
        return _transform_8(x0, x1, x2, x3, zero, zero, zero, zero)
    x4, x5 = load_ints(coefficients, k + 4 * step), load_ints(coefficients, k + 5 * step)
    x6, x7 = load_ints(coefficients, k + 6 * step), load_ints(coefficients, k + 7 * step)
    return _transform_8(x0, x1, x2, x3, x4, x5, x6, x7)


@jit
def _transform_8(x0: Any, x1: Any, x2: Any, x3: Any, x4: Any, x5: Any, x6: Any, x7: Any) -> Any:
    """The transform of 8 vectors, times 2 ** 13."""
    one = splat_ints(np.int32(1 << _BITS))
    even = (x2 + x6) * splat_ints(_0_541)
    a2 = even - x6 * splat_ints(_1_847)
    a3 = even + x2 * splat_ints(_0_765)
    a0, a1 = (x0 + x4) * one, (x0 - x4) * one
    b0, b3, b1, b2 = a0 + a3, a0 - a3, a1 + a2, a1 - a2
    odd = (x7 + x3 + x5 + x1) * splat_ints(_1_175)
    z1, z2 = (x7 + x1) * splat_ints(_0_899), (x5 + x3) * splat_ints(_2_562)
    z3, z4 = odd - (x7 + x3) * splat_ints(_1_961), odd - (x5 + x1) * splat_ints(_0_390)
    c0 = x7 * splat_ints(_0_298) - z1 + z3
    c1 = x5 * splat_ints(_2_053) - z2 + z4
    c2 = x3 * splat_ints(_3_072) - z2 + z3
    c3 = x1 * splat_ints(_1_501) - z1 + z4
    return b0 + c3, b1 + c2, b2 + c1, b3 + c0, b3 - c0, b2 - c1, b1 - c2, b0 - c3
