"""The vectors of 16-bit integers of engine cpu."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from flowprep.engines.cpu import shorts
from flowprep.engines.cpu.shorts import SHORT_LANES, load_shorts, splat_shorts, store_shorts
from flowprep.engines.cpu.simd import LANES, load, store

Shorts = NDArray[np.int16]


@numba.njit
def arithmetic(a: Shorts, b: Shorts, out: Shorts) -> None:
    x, y = load_shorts(a, 1), load_shorts(b, 0)  # 1: at an address that is no multiple of a vector
    store_shorts(out, 0 * SHORT_LANES, x + y)
    store_shorts(out, 1 * SHORT_LANES, x - y)
    store_shorts(out, 2 * SHORT_LANES, x * y)
    store_shorts(out, 3 * SHORT_LANES, x | y)
    store_shorts(out, 4 * SHORT_LANES, shorts.high_product(x, y))
    store_shorts(out, 5 * SHORT_LANES, shorts.high_product(shorts.high_product(x, y), x + x))
    store_shorts(out, 6 * SHORT_LANES, shorts.half_of(x))
    store_shorts(out, 7 * SHORT_LANES, shorts.middle_of(x, y))
    store_shorts(out, 8 * SHORT_LANES, shorts.bounded_difference(x, y))
    store_shorts(out, 9 * SHORT_LANES, shorts.absolute_shorts(x))
    store_shorts(out, 10 * SHORT_LANES, shorts.smallest_shorts(x, y))
    store_shorts(out, 11 * SHORT_LANES, shorts.largest_shorts(x, y))
    store_shorts(out, 12 * SHORT_LANES, shorts.smallest_unsigned(x, y))
    store_shorts(out, 13 * SHORT_LANES, shorts.add_above(y, x, y, x))
    store_shorts(out, 14 * SHORT_LANES, shorts.where_positive(x, x, y))
    store_shorts(out, 15 * SHORT_LANES, splat_shorts(40000))


def test_arithmetic() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(-(2**15), 2**15, SHORT_LANES + 1).astype(np.int16)
    b = rng.integers(-(2**15), 2**15, SHORT_LANES).astype(np.int16)
    a[1:4], b[0:3] = (-(2**15), 2**15 - 1, 0), (2**15 - 1, -(2**15), 0)
    out = np.zeros(16 * SHORT_LANES, np.int16)
    arithmetic(a, b, out)
    x, y = a[1:].astype(np.int64), b.astype(np.int64)
    p, q = x % 2**16, y % 2**16  # without signs
    expected = [x + y, x - y, x * y, x | y, p * q >> 16, (p * q >> 16) * (2 * p % 2**16) >> 16, p >> 1]
    expected += [
        (x + y) >> 1,
        np.clip(x - y, -(2**15), 2**15 - 1),
        abs(x),
        np.minimum(x, y),
        np.maximum(x, y),
    ]
    expected += [np.minimum(p, q), np.where(x > y, x + y, y), np.where(x > 0, x, y), np.full_like(x, 40000)]
    for i, row in enumerate(expected):
        np.testing.assert_array_equal(
            out[i * SHORT_LANES : (i + 1) * SHORT_LANES], row.astype(np.int16), err_msg=str(i)
        )


@numba.njit
def convert(floats: NDArray[np.float32], whole: Shorts, out: NDArray[np.float32]) -> None:
    store_shorts(whole, 0, shorts.to_shorts(load(floats, 0), load(floats, LANES)))
    low, high = shorts.to_floats(load_shorts(whole, 0))
    store(out, 0, low)
    store(out, LANES, high)


def test_conversion() -> None:
    values = np.linspace(-32768, 32767, SHORT_LANES, dtype=np.float32)
    whole, out = np.zeros(SHORT_LANES, np.int16), np.zeros(SHORT_LANES, np.float32)
    convert(values, whole, out)
    np.testing.assert_array_equal(whole, np.trunc(values))
    np.testing.assert_array_equal(out, np.trunc(values))


@numba.njit
def any_nonzero(a: Shorts) -> bool:
    return shorts.any_nonzero(load_shorts(a, 0))


@pytest.mark.parametrize("lane", [0, 13, 31])
def test_one_lane_that_is_not_zero_is_found(lane: int) -> None:
    values = np.zeros(SHORT_LANES, np.int16)
    assert not any_nonzero(values)
    values[lane] = -(2**15)
    assert any_nonzero(values)
