"""The vectors of engine cpu: operations, networks, and other processors."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Sequence

import numba
import numpy as np
import pytest
from llvmlite.binding import get_host_cpu_features
from numpy.typing import NDArray

from flowprep.engines import networks
from flowprep.engines.cpu import simd
from flowprep.engines.cpu.simd import LANES, load, splat, store
from tests.support.processors import of_processor, run_python


@numba.njit
def arithmetic(a: NDArray[np.float32], b: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    x, y = load(a, 1), load(b, 0)  # 1: at an address that is no multiple of a vector
    store(out, 0 * LANES, x + y)
    store(out, 1 * LANES, x - y)
    store(out, 2 * LANES, x * y)
    store(out, 3 * LANES, x / y)
    store(out, 4 * LANES, simd.fma(x, y, splat(np.float32(3))))
    store(out, 5 * LANES, simd.minimum(x, y))
    store(out, 6 * LANES, simd.maximum(x, y))
    store(out, 7 * LANES, simd.where_above(x, y, y))
    store(out, 8 * LANES, simd.floor(x))
    store(out, 9 * LANES, simd.square_root(y))
    store(out, 10 * LANES, simd.lane_numbers())
    store(out, 11 * LANES, simd.choose_above(x, y, y, x))
    out[12 * LANES] = simd.total(x)
    out[12 * LANES + 1] = simd.largest(x)


def test_arithmetic() -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(-5, 5, LANES + 1).astype(np.float32)
    b = rng.uniform(1, 5, LANES).astype(np.float32)
    out = np.zeros(13 * LANES, np.float32)
    arithmetic(a, b, out)
    x, y = a[1:], b
    expected = [x + y, x - y, x * y, x / y, x * y + 3, np.minimum(x, y), np.maximum(x, y)]
    expected += [np.where(x > y, y, 0), np.floor(x), np.sqrt(y), np.arange(LANES), np.minimum(x, y)]
    for i, row in enumerate(expected):
        np.testing.assert_allclose(
            out[i * LANES : (i + 1) * LANES], row, rtol=1e-6, atol=1e-6, err_msg=str(i)
        )
    assert out[12 * LANES] == pytest.approx(x.sum(), rel=1e-5)
    assert out[12 * LANES + 1] == x.max()


@numba.njit
def movement(
    a: NDArray[np.float32], out: NDArray[np.float32], planes: NDArray[np.float32], ints: NDArray[np.int32]
) -> None:
    x, y = load(a, 0), load(a, LANES)
    store(out, 0, simd.from_left(x, y))
    store(out, LANES, simd.from_right(x, y))
    store(out, 2 * LANES, simd.load_each_four_times(a, 5))
    store(out, 3 * LANES, simd.sums_of_fours(x, y, x + y, x * y))
    simd.store_interleaved(planes, 0, x, y, x * y, x + y)
    p, q, r, s = simd.load_interleaved(planes, 0)
    store(planes, 4 * LANES, p)
    store(planes, 5 * LANES, q)
    store(planes, 6 * LANES, r)
    store(planes, 7 * LANES, s)
    three = simd.splat_ints(np.int32(3))
    simd.store_ints(ints, 0, simd.to_ints(x) * three + three)


def test_movement() -> None:
    a = np.arange(2 * LANES, dtype=np.float32)
    out, planes, ints = (
        np.zeros(4 * LANES, np.float32),
        np.zeros(8 * LANES, np.float32),
        np.zeros(LANES, np.int32),
    )
    movement(a, out, planes, ints)
    x, y = a[:LANES], a[LANES:]
    np.testing.assert_array_equal(out[:LANES], a[LANES - 1 : 2 * LANES - 1])
    np.testing.assert_array_equal(out[LANES : 2 * LANES], a[1 : LANES + 1])
    np.testing.assert_array_equal(out[2 * LANES : 3 * LANES], np.repeat(a[5:9], 4))
    sums = [vector.reshape(4, 4).sum(axis=0) for vector in (x, y, x + y, x * y)]
    np.testing.assert_array_equal(out[3 * LANES :].reshape(4, 4), sums)
    np.testing.assert_array_equal(planes[: 4 * LANES].reshape(LANES, 4).T, [x, y, x * y, x + y])
    np.testing.assert_array_equal(planes[4 * LANES :].reshape(4, LANES), [x, y, x * y, x + y])
    np.testing.assert_array_equal(ints, 3 * np.arange(LANES) + 3)


@numba.njit
def transposed(a: NDArray[np.float32], ints: NDArray[np.int32], first: int, out: NDArray[np.float32]) -> None:
    vectors = simd.load_transposed(a, ints, first)
    for i in range(LANES):
        store(out, i * LANES, vectors[i])


def test_transposed_loads() -> None:
    a = np.arange(500, dtype=np.float32)
    ints = np.random.default_rng(0).integers(0, 500 - LANES, 3 + LANES).astype(np.int32)
    out = np.zeros(LANES * LANES, np.float32)
    transposed(a, ints, 3, out)
    np.testing.assert_array_equal(out.reshape(LANES, LANES), np.arange(LANES)[:, None] + ints[3:])


@numba.njit
def pairs(a: NDArray[np.float32], ints: NDArray[np.int32], first: int, out: NDArray[np.float32]) -> None:
    left, right = simd.load_pairs(a, ints, first)
    store(out, 0, left)
    store(out, LANES, right)


def test_loads_of_pairs() -> None:
    a = np.arange(100, dtype=np.float32)
    ints = np.random.default_rng(0).integers(0, 99, 5 + LANES).astype(np.int32)
    out = np.zeros(2 * LANES, np.float32)
    pairs(a, ints, 5, out)
    np.testing.assert_array_equal(out.reshape(2, LANES), [ints[5:], ints[5:] + 1])


@numba.njit
def flush() -> int:
    return simd.flush_denormals()


@numba.njit
def restore(mode: np.int32) -> None:
    simd.restore_mode(mode)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86 has this mode")
def test_denormals_are_flushed_and_the_mode_restored() -> None:
    small, factor = np.full(1, 1e-30, np.float32), np.full(1, 1e-10, np.float32)
    mode = flush()
    flushed = small * factor
    restore(np.int32(mode))
    assert flushed[0] == 0 and (small * factor)[0] > 0


def through(network: networks.Network, values: Sequence[int]) -> list[int]:
    wires = list(values)
    for i, j in network:
        wires[i], wires[j] = min(wires[i], wires[j]), max(wires[i], wires[j])
    return wires


@pytest.mark.parametrize(("network", "size"), [(networks.SORT_3, 3), (networks.SORT_5, 5)])
def test_sorting_networks_sort_all_zeros_and_ones(network: networks.Network, size: int) -> None:
    for values in itertools.product((0, 1), repeat=size):
        assert through(network, values) == sorted(values)


@pytest.mark.parametrize(
    ("network", "side", "median"),
    [(networks.SELECT_9, 3, networks.MEDIAN_9), (networks.SELECT_25, 5, networks.MEDIAN_25)],
)
def test_median_networks_find_the_median_of_all_zeros_and_ones(
    network: networks.Network, side: int, median: int
) -> None:
    for zeros in itertools.product(range(side + 1), repeat=side):  # in each sorted column
        values = [int(row >= zeros[column]) for row in range(side) for column in range(side)]
        assert through(network, values)[median] == sorted(values)[side * side // 2]


# Other processors: numba compiles for them in a process of its own.

SOLVE = """
import dataclasses
import zlib
import numpy as np
from flowprep.engines import make_engine
from flowprep.presets import PRESETS
few = dict(scales=2, warps=2, outer_iterations=2, inner_iterations=10, epsilon=0.0)
y, x = np.mgrid[:37, :45].astype(np.float32)
frames = np.stack([128 + 60 * np.sin((x - t) / 3) + 60 * np.cos((y + t / 2) / 4 + x / 9) for t in (0, 0.8)])
for preset in ("opencv", "accurate", "best"):
    settings = dataclasses.replace(PRESETS[preset], **few)
    ours, reference = (make_engine(name, settings).solve(frames, [0], [1]) for name in ("cpu", "reference"))
    tolerance = 2e-3 if settings.median_grey else 1e-4
    assert np.abs(ours - reference).mean() < tolerance, np.abs(ours - reference).mean()
    print(zlib.crc32(ours.tobytes()))
"""


def solve_on(processor: str = "") -> str:
    """What SOLVE prints when numba compiles for a processor; for this one by default."""
    return run_python("-c", SOLVE, **(of_processor(processor) if processor else {}))


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of x86 processors")
def test_a_processor_with_128_bits_and_no_fma() -> None:
    assert solve_on("x86-64-v2")


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of x86 processors")
def test_a_processor_with_256_bits_gives_the_same_results() -> None:
    flows = solve_on("x86-64-v3")
    if get_host_cpu_features().get("fma"):  # without fma, rounding differs
        assert flows == solve_on()
