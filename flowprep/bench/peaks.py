"""The peaks of a processor core: what it can do at most in a nanosecond, measured by small loops.

All figures are for vectors of 16 floats: one instruction of AVX-512, two of AVX2, four of NEON. They hold for
the instructions that numba compiles for. To measure AVX2 on a processor with AVX-512, set NUMBA_CPU_NAME to
x86-64-v3 and NUMBA_CPU_FEATURES to nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir

from flowprep.engines.cpu.memory import Floats, aligned
from flowprep.engines.cpu.simd import LANES, load, store, total
from flowprep.system.jit import jit
from flowprep.system.simd import FLOAT_ARRAY, FLOATS, INDEX, L64, call, cgutils, operation, shuffle

_ROUNDS = 15  # of each loop: the least time counts
_STEPS = 20_000  # of a loop of arithmetic
_FIRST_LEVEL = 16 * 1024  # bytes that lie in the first-level cache of any processor
_BYTES_OF_LINE = 64


@dataclass(frozen=True)
class Peaks:
    """Nanoseconds of one operation with a vector of 16 floats, if the core does nothing else.

    Attributes:
        target: the processor that the code is compiled for.
        ghz: clock, from a chain of dependent operations with whole numbers, one cycle each.
        multiply: a multiplication, or one with an addition.
        add: an addition, minimum or comparison.
        arithmetic: the same, half of them multiplications.
        divide: a division or a square root: they share one unit. The mean of both.
        shuffle: a move of lanes of two vectors inside groups of four; other moves take longer with AVX2.
        load: a load from the first-level cache.
        store: a store to it.
        second_bytes: size of the second-level cache.
        second_read: a vector (64 bytes) that is read from the second-level cache.
        second_update: a vector that is read from there and written back.
        far_read: a vector that is read from beyond the second-level cache, from an array of 8 times its size.
        far_update: a vector that is read from there and written back.
    """

    target: str
    ghz: float
    multiply: float
    add: float
    arithmetic: float
    divide: float
    shuffle: float
    load: float
    store: float
    second_bytes: int
    second_read: float
    second_update: float
    far_read: float
    far_update: float


def measure_peaks() -> Peaks:
    """Measure this core; it takes some 0.2 s, and 5 s more if the loops are compiled first."""
    second = _second_level_bytes()
    near, middle, far = (aligned(size // 4) for size in (_FIRST_LEVEL, second // 4, 8 * second))
    return Peaks(
        target=os.environ.get("NUMBA_CPU_NAME") or llvmlite.binding.get_host_cpu_name(),
        ghz=round(2 * _STEPS / _least_ns(_clock_chain, _STEPS), 3),
        multiply=min(_per_step(_multiply_6, 6), _per_step(_multiply_10, 10)),
        add=min(_per_step(_add_6, 6), _per_step(_add_10, 10)),
        arithmetic=min(_per_step(_both_6, 6), _per_step(_both_20, 20)),
        divide=_per_step(_divide_and_root_6, 6),
        shuffle=min(_per_step(_shuffle_6, 6), _per_step(_shuffle_12, 12)),
        load=_per_vector(_read, near),
        store=_per_vector(_write, near),
        second_bytes=second,
        second_read=_per_vector(_read, middle),
        second_update=_per_vector(_update, middle),
        far_read=_per_vector(_read, far),
        far_update=_per_vector(_update, far),
    )


def _second_level_bytes() -> int:
    """Size of the second-level cache; 1 MiB if the system does not tell."""
    try:
        size = os.sysconf("SC_LEVEL2_CACHE_SIZE")
    except (AttributeError, OSError, ValueError):
        size = 0
    return size if size > 0 else 2**20


def _least_ns(function: Callable[..., Any], *arguments: Any) -> float:
    """The least time of a call, ns."""
    function(*arguments)
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter_ns()
        function(*arguments)
        times.append(time.perf_counter_ns() - began)
    return max(min(times), 1)


def _per_step(loop: Callable[[Floats, int], float], chains: int) -> float:
    start = np.linspace(1, 2, chains * LANES, dtype=np.float32)
    return round(_least_ns(loop, start, _STEPS) / (_STEPS * chains), 4)


def _per_vector(loop: Callable[[Floats, int], float], array: Floats) -> float:
    passes = max(1, 2**18 // array.nbytes)
    return round(_least_ns(loop, array, passes) / (passes * len(array) / LANES), 4)


# Arithmetic: chains of operations that wait for their own last result only. More chains than registers would
# measure memory, and few chains the time until a result is ready: so there are two numbers of chains.


def _chains(step: Callable[[Any, Sequence[Any], int], Any], chains: int, name: str) -> Any:
    """An operation of the first vectors, in an array, and the number of steps.

    Args:
        step: emits the operation of a chain from (builder, the vectors of all chains, number of the chain).
        chains: number of vectors.
        name: name of the function.
    """

    def emit(context: Any, builder: ir.IRBuilder, start: Any, steps: Any) -> Any:
        at = [L64(LANES * k) for k in range(chains)]
        places = [cgutils.alloca_once_value(builder, load(context, builder, start, i)) for i in at]
        with cgutils.for_range(builder, steps):
            values = [builder.load(place) for place in places]
            for k, place in enumerate(places):
                builder.store(step(builder, values, k), place)
        result = builder.load(places[0])
        for place in places[1:]:
            result = builder.fadd(result, builder.load(place))
        return result

    emit.__name__ = name
    return operation(FLOATS, FLOAT_ARRAY, INDEX)(emit)


def _constant(value: float) -> Any:
    return ir.Constant(FLOATS.llvm, [value] * LANES)


def _fma(builder: ir.IRBuilder, values: Sequence[Any], k: int) -> Any:
    name, constant = f"llvm.fmuladd.v{LANES}f32", _constant(0.25)
    return call(builder, name, FLOATS.llvm, values[k], constant, constant)


def _fadd(builder: ir.IRBuilder, values: Sequence[Any], k: int) -> Any:
    return builder.fadd(values[k], _constant(0.25))


def _fma_or_fadd(builder: ir.IRBuilder, values: Sequence[Any], k: int) -> Any:
    return (_fma if k % 2 else _fadd)(builder, values, k)


def _divide_or_root(builder: ir.IRBuilder, values: Sequence[Any], k: int) -> Any:
    if k % 2:
        return call(builder, f"llvm.sqrt.v{LANES}f32", FLOATS.llvm, values[k])
    return builder.fdiv(_constant(3.0), values[k])


def _move(builder: ir.IRBuilder, values: Sequence[Any], k: int) -> Any:
    lanes = [lane for four in range(0, LANES, 4) for lane in (four, four + 2, four + 17, four + 19)]
    moved = shuffle(builder, values[k], values[(k + 1) % len(values)], lanes)
    return builder.fadd(moved, _constant(0.25))  # without it, LLVM unites the moves of several steps


_fma_6, _fma_10 = (_chains(_fma, k, f"_fma_{k}") for k in (6, 10))
_fadd_6, _fadd_10 = (_chains(_fadd, k, f"_fadd_{k}") for k in (6, 10))
_fma_fadd_6, _fma_fadd_20 = (_chains(_fma_or_fadd, k, f"_fma_fadd_{k}") for k in (6, 20))
_divider = _chains(_divide_or_root, 6, "_divider")
_moves_6, _moves_12 = (_chains(_move, k, f"_moves_{k}") for k in (6, 12))


@jit
def _multiply_6(start: Floats, steps: int) -> float:
    return float(total(_fma_6(start, steps)))


@jit
def _multiply_10(start: Floats, steps: int) -> float:
    return float(total(_fma_10(start, steps)))


@jit
def _add_6(start: Floats, steps: int) -> float:
    return float(total(_fadd_6(start, steps)))


@jit
def _add_10(start: Floats, steps: int) -> float:
    return float(total(_fadd_10(start, steps)))


@jit
def _both_6(start: Floats, steps: int) -> float:
    return float(total(_fma_fadd_6(start, steps)))


@jit
def _both_20(start: Floats, steps: int) -> float:
    return float(total(_fma_fadd_20(start, steps)))


@jit
def _divide_and_root_6(start: Floats, steps: int) -> float:
    return float(total(_divider(start, steps)))


@jit
def _shuffle_6(start: Floats, steps: int) -> float:
    return float(total(_moves_6(start, steps)))


@jit
def _shuffle_12(start: Floats, steps: int) -> float:
    return float(total(_moves_12(start, steps)))


@jit
def _clock_chain(steps: int) -> int:
    """Two cycles a step: each operation waits for the one before, and no compiler can shorten the chain."""
    value = 1
    for i in range(steps):
        value = (value + 0x5555) ^ i
    return value


# Memory


@jit
def _read(array: Floats, passes: int) -> float:
    a = b = c = d = e = f = g = h = load(array, 0)  # as many sums as additions that wait for each other
    for _ in range(passes):
        for i in range(0, len(array), 8 * LANES):
            a, b = a + load(array, i), b + load(array, i + LANES)
            c, d = c + load(array, i + 2 * LANES), d + load(array, i + 3 * LANES)
            e, f = e + load(array, i + 4 * LANES), f + load(array, i + 5 * LANES)
            g, h = g + load(array, i + 6 * LANES), h + load(array, i + 7 * LANES)
    return float(total(a + b + c + d + e + f + g + h))


@jit
def _write(array: Floats, passes: int) -> float:
    value = load(array, 0)
    for _ in range(passes):
        for i in range(0, len(array), 4 * LANES):
            store(array, i, value)
            store(array, i + LANES, value)
            store(array, i + 2 * LANES, value)
            store(array, i + 3 * LANES, value)
        value = value + value
    return 0.0


@jit
def _update(array: Floats, passes: int) -> float:
    for _ in range(passes):
        for i in range(0, len(array), 4 * LANES):
            for k in range(0, 4 * LANES, LANES):
                value = load(array, i + k)
                store(array, i + k, value + value)
    return 0.0
