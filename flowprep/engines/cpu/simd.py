"""Vectors of 16 floats for numba, with one function for each operation.

`system.simd` says how they are compiled. AVX-512's approximate reciprocal and reciprocal square root are not
used: on an EPYC of 2024, the correctly rounded instructions are faster than the approximate ones with a
Newton step.

Use the functions only in functions that numba compiles:

    a = load(array, i)                  # array: 1-D float32, contiguous; i: any offset, aligned or not
    store(array, i, maximum(a, splat(x)) * a)
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir

from flowprep.engines.networks import MEDIAN_9, MEDIAN_25, SELECT_9, SELECT_25, SORT_3, SORT_5, Network
from flowprep.system.simd import (
    FLOAT,
    FLOAT_ARRAY,
    FLOATS,
    INDEX,
    INT,
    INT_ARRAY,
    INTS,
    L32,
    L64,
    call,
    cgutils,
    in_all_lanes,
    operation,
    pointer,
    shuffle,
    types,
)
from flowprep.system.simd import LANES as LANES
from flowprep.system.simd import load as load
from flowprep.system.simd import splat_ints as splat_ints
from flowprep.system.simd import store as store
from flowprep.system.simd import store_ints as store_ints

_TWO, _FOUR, _SIXTEEN = (types.UniTuple(FLOATS, count) for count in (2, 4, 16))

# Memory


@operation(types.void, FLOAT_ARRAY, INDEX, FLOATS, FLOATS, FLOATS, FLOATS)
def store_interleaved(
    context: Any, builder: ir.IRBuilder, array: Any, index: Any, a: Any, b: Any, c: Any, d: Any
) -> None:
    """array[index : index + 64] = a[0], b[0], c[0], d[0], a[1], b[1], ..."""
    for half in (0, 8):
        pairs = [lane for i in range(half, half + 8) for lane in (i, i + LANES)]
        ab, cd = shuffle(builder, a, b, pairs), shuffle(builder, c, d, pairs)
        for quarter in (0, 8):
            fours = [
                lane + source
                for i in range(quarter, quarter + 8, 2)
                for source in (0, LANES)
                for lane in (i, i + 1)
            ]
            at = builder.add(index, ir.Constant(index.type, 4 * half + 4 * quarter // 2))
            store(context, builder, array, at, shuffle(builder, ab, cd, fours))


@operation(_FOUR, FLOAT_ARRAY, INDEX)
def load_interleaved(context: Any, builder: ir.IRBuilder, array: Any, index: Any) -> Any:
    """(a, b, c, d) with array[index : index + 64] = a[0], b[0], c[0], d[0], a[1], b[1], ..."""
    parts = [
        load(context, builder, array, builder.add(index, ir.Constant(index.type, LANES * i)))
        for i in range(4)
    ]
    every_fourth = [4 * i for i in range(LANES // 2)]
    whole = range(LANES)
    planes = []
    for k in range(4):
        low, high = (
            shuffle(builder, parts[i], parts[i + 1], [lane + k for lane in every_fourth]) for i in (0, 2)
        )
        planes.append(shuffle(builder, low, high, whole))
    return context.make_tuple(builder, _FOUR, planes)


@operation(FLOATS, FLOAT_ARRAY, INDEX)
def load_each_four_times(context: Any, builder: ir.IRBuilder, array: Any, index: Any) -> Any:
    """array[index] four times, then array[index + 1] four times, up to array[index + 3]."""
    four = ir.VectorType(ir.FloatType(), 4)
    values = builder.load(pointer(context, builder, array, index, four, FLOAT_ARRAY), align=4)
    return shuffle(builder, values, values, [i // 4 for i in range(LANES)])


def _index(context: Any, builder: ir.IRBuilder, indices: Any, at: Any) -> Any:
    """indices[at], which is not negative."""
    place = pointer(context, builder, indices, at, L32, INT_ARRAY)
    return builder.zext(builder.load(place), L64)


@operation(_TWO, FLOAT_ARRAY, INT_ARRAY, INDEX)
def load_pairs(context: Any, builder: ir.IRBuilder, array: Any, indices: Any, first: Any) -> Any:
    """(left, right): lane k is array[i] and array[i + 1] with i = indices[first + k]."""
    two, parts = ir.VectorType(ir.FloatType(), 2), []
    for k in range(LANES):
        at = _index(context, builder, indices, builder.add(first, L64(k)))
        parts.append(builder.load(pointer(context, builder, array, at, two, FLOAT_ARRAY), align=4))
    while len(parts) > 2:
        lanes = range(2 * parts[0].type.count)
        parts = [shuffle(builder, a, b, lanes) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    low, high = parts
    sides = [shuffle(builder, low, high, range(side, 2 * LANES, 2)) for side in range(2)]
    return context.make_tuple(builder, _TWO, sides)


@operation(_SIXTEEN, FLOAT_ARRAY, INT_ARRAY, INDEX)
def load_transposed(context: Any, builder: ir.IRBuilder, array: Any, indices: Any, first: Any) -> Any:
    """16 vectors: lane k of vector i is array[indices[first + k] + i]."""

    def mixed(x: Any, y: Any, *lanes: int) -> Any:
        """A shuffle in each group of four lanes; 4 to 7 are lanes of y."""
        places = [4 * four + lane + (lane > 3) * (LANES - 4) for four in range(4) for lane in lanes]
        return shuffle(builder, x, y, places)

    def groups(x: Any, y: Any, first: int) -> Any:
        """Every second group of four lanes."""
        return shuffle(builder, x, y, [4 * four + i for four in range(first, 8, 2) for i in range(4)])

    rows = []
    for k in range(LANES):
        rows.append(
            load(context, builder, array, _index(context, builder, indices, builder.add(first, L64(k))))
        )
    # First the 4 x 4 lanes of each group of four rows, then the groups.
    fours = []
    for a, b, c, d in (rows[k : k + 4] for k in range(0, LANES, 4)):
        low_ab, high_ab, low_cd, high_cd = (
            mixed(x, y, *lanes) for x, y in ((a, b), (c, d)) for lanes in ((0, 4, 1, 5), (2, 6, 3, 7))
        )
        fours.append(
            [
                mixed(x, y, *lanes)
                for x, y in ((low_ab, low_cd), (high_ab, high_cd))
                for lanes in ((0, 1, 4, 5), (2, 3, 6, 7))
            ]
        )
    columns: list[Any] = [None] * LANES
    for i, (a, b, c, d) in enumerate(zip(*fours, strict=True)):
        for odd in range(2):
            ab, cd = groups(a, b, odd), groups(c, d, odd)
            columns[4 * odd + i], columns[4 * odd + 8 + i] = groups(ab, cd, 0), groups(ab, cd, 1)
    return context.make_tuple(builder, _SIXTEEN, columns)


# Arithmetic, lane by lane


@operation(FLOATS, FLOAT)
def splat(context: Any, builder: ir.IRBuilder, value: Any) -> Any:
    """A vector with the same value in all lanes."""
    return in_all_lanes(builder, value)


@operation(FLOATS)
def lane_numbers(context: Any, builder: ir.IRBuilder) -> Any:
    """0, 1, ... 15."""
    return ir.Constant(FLOATS.llvm, [float(i) for i in range(LANES)])


@operation(FLOATS, FLOATS, FLOATS, key=operator.add)
def _add(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.fadd(a, b)


@operation(FLOATS, FLOATS, FLOATS, key=operator.sub)
def _sub(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.fsub(a, b)


@operation(FLOATS, FLOATS, FLOATS, key=operator.mul)
def _mul(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.fmul(a, b)


@operation(FLOATS, FLOATS, FLOATS, key=operator.truediv)
def _div(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.fdiv(a, b)


@operation(FLOATS, FLOATS, FLOATS, FLOATS)
def fma(context: Any, builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once if the processor can, otherwise twice."""
    return call(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS.llvm, a, b, c)


@operation(FLOATS, FLOATS, FLOATS)
def minimum(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """The smaller value; b where one is NaN."""
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


@operation(FLOATS, FLOATS, FLOATS)
def maximum(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """The larger value; b where one is NaN."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@operation(FLOATS, FLOATS, FLOATS, FLOATS)
def where_above(context: Any, builder: ir.IRBuilder, a: Any, b: Any, value: Any) -> Any:
    """value where a > b, else 0."""
    zero = ir.Constant(FLOATS.llvm, [0.0] * LANES)
    return builder.select(builder.fcmp_ordered(">", a, b), value, zero)


@operation(FLOATS, FLOATS, FLOATS, FLOATS, FLOATS)
def choose_above(context: Any, builder: ir.IRBuilder, a: Any, b: Any, value: Any, other: Any) -> Any:
    """value where a > b, else other."""
    return builder.select(builder.fcmp_ordered(">", a, b), value, other)


@operation(FLOATS, FLOATS)
def floor(context: Any, builder: ir.IRBuilder, a: Any) -> Any:
    """The largest whole number that is not above a."""
    return call(builder, f"llvm.floor.v{LANES}f32", FLOATS.llvm, a)


@operation(INTS, FLOATS)
def to_ints(context: Any, builder: ir.IRBuilder, a: Any) -> Any:
    """Whole numbers, rounded towards 0."""
    return builder.fptosi(a, INTS.llvm)


@operation(FLOATS, FLOATS)
def square_root(context: Any, builder: ir.IRBuilder, a: Any) -> Any:
    """The square root, correctly rounded: results are the same on every processor that has fma."""
    return call(builder, f"llvm.sqrt.v{LANES}f32", FLOATS.llvm, a)


# Across lanes


@operation(FLOATS, FLOATS, FLOATS)
def from_left(context: Any, builder: ir.IRBuilder, left: Any, right: Any) -> Any:
    """Move by one lane: left[15], right[0], ... right[14]."""
    return shuffle(builder, left, right, range(LANES - 1, 2 * LANES - 1))


@operation(FLOATS, FLOATS, FLOATS)
def from_right(context: Any, builder: ir.IRBuilder, left: Any, right: Any) -> Any:
    """Move by one lane: left[1], ... left[15], right[0]."""
    return shuffle(builder, left, right, range(1, LANES + 1))


@operation(FLOATS, FLOATS)
def reverse(context: Any, builder: ir.IRBuilder, a: Any) -> Any:
    """a[15], a[14], ... a[0]."""
    return shuffle(builder, a, a, range(LANES)[::-1])


@operation(FLOAT, FLOATS)
def total(context: Any, builder: ir.IRBuilder, a: Any) -> Any:
    """The sum of the lanes, added in halves."""
    lanes = LANES // 2
    while lanes:
        low, high = (shuffle(builder, a, a, range(start, start + lanes)) for start in (0, lanes))
        a, lanes = builder.fadd(low, high), lanes // 2
    return builder.extract_element(a, L32(0))


@operation(FLOAT, FLOATS)
def largest(context: Any, builder: ir.IRBuilder, a: Any) -> Any:
    """The largest of the lanes."""
    lanes = LANES // 2
    while lanes:
        low, high = (shuffle(builder, a, a, range(start, start + lanes)) for start in (0, lanes))
        a, lanes = maximum(context, builder, low, high), lanes // 2
    return builder.extract_element(a, L32(0))


@operation(FLOATS, FLOATS, FLOATS, FLOATS, FLOATS)
def sums_of_fours(context: Any, builder: ir.IRBuilder, a: Any, b: Any, c: Any, d: Any) -> Any:
    """a[0:4] + a[4:8] + a[8:12] + a[12:16], then the same of b, of c and of d."""

    def fours(x: Any, y: Any, *numbers: int) -> Any:
        return shuffle(builder, x, y, [4 * number + lane for number in numbers for lane in range(4)])

    ab = builder.fadd(fours(a, b, 0, 1, 4, 5), fours(a, b, 2, 3, 6, 7))
    cd = builder.fadd(fours(c, d, 0, 1, 4, 5), fours(c, d, 2, 3, 6, 7))
    return builder.fadd(fours(ab, cd, 0, 2, 4, 6), fours(ab, cd, 1, 3, 5, 7))


# The processor's clock and mode


@operation(INDEX)
def ticks(context: Any, builder: ir.IRBuilder) -> Any:
    """A counter that runs at a constant rate; 0 on processors other than x86 and ARM.

    x86 counts at its nominal frequency, whatever the present one.
    """
    if _is_x86(context):
        return call(builder, "llvm.readcyclecounter", L64)
    if str(context.codegen().magic_tuple()[0]).startswith(("aarch64", "arm64")):
        kind = ir.FunctionType(L64, [])
        return builder.asm(kind, "mrs $0, cntvct_el0", "=r", [], side_effect=True)
    return L64(0)


_FLUSH = 0x8040  # of x86's MXCSR: denormal results and operands count as 0


def _is_x86(context: Any) -> bool:
    return str(context.codegen().magic_tuple()[0]).startswith(("x86", "i686"))


@operation(INT)
def flush_denormals(context: Any, builder: ir.IRBuilder) -> Any:
    """From now on, replace numbers under 1.2e-38 by 0 in this thread; returns the mode for restore_mode.

    Where nothing moves, the flow shrinks from pixel to pixel to such numbers. x86 processors are many times
    slower with them. Other processors are not, and keep them.
    """
    if not _is_x86(context):
        return L32(0)
    memory = cgutils.alloca_once(builder, L32)
    address = builder.bitcast(memory, ir.IntType(8).as_pointer())
    call(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), address)
    before = builder.load(memory)
    builder.store(builder.or_(before, L32(_FLUSH)), memory)
    call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), address)
    return before


@operation(types.void, INT)
def restore_mode(context: Any, builder: ir.IRBuilder, mode: Any) -> None:
    """Undo flush_denormals."""
    if _is_x86(context):
        memory = cgutils.alloca_once_value(builder, mode)
        address = builder.bitcast(memory, ir.IntType(8).as_pointer())
        call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), address)


def _compare(context: Any, builder: ir.IRBuilder, network: Network, values: list[Any]) -> None:
    """Apply a network to values. LLVM leaves out the comparisons that no result needs."""
    for i, j in network:
        a, b = values[i], values[j]
        values[i], values[j] = minimum(context, builder, a, b), maximum(context, builder, a, b)


def _at(builder: ir.IRBuilder, index: Any, stride: Any, rows: int, columns: int) -> Any:
    start = builder.add(index, builder.mul(stride, ir.Constant(stride.type, rows)))
    return builder.add(start, ir.Constant(start.type, columns))


def _median_operations(side: int, sort: Network, select: Network, median: int) -> tuple[Any, Any]:
    @operation(types.void, FLOAT_ARRAY, INDEX, INDEX, FLOAT_ARRAY, INDEX, INDEX)
    def sort_columns(
        context: Any,
        builder: ir.IRBuilder,
        source: Any,
        index: Any,
        stride: Any,
        out: Any,
        at: Any,
        step: Any,
    ) -> None:
        """Sort 16 columns of `side` values, from source[index + r * stride] to out[at + r * step]."""
        values = [load(context, builder, source, _at(builder, index, stride, row, 0)) for row in range(side)]
        _compare(context, builder, sort, values)
        for row, value in enumerate(values):
            store(context, builder, out, _at(builder, at, step, row, 0), value)

    @operation(FLOATS, FLOAT_ARRAY, INDEX, INDEX)
    def median_of_columns(context: Any, builder: ir.IRBuilder, array: Any, index: Any, stride: Any) -> Any:
        """16 medians of array[index + r * stride + c] for r and c under `side`, sorted along r."""
        values = [
            load(context, builder, array, _at(builder, index, stride, row, column))
            for row in range(side)
            for column in range(side)
        ]
        _compare(context, builder, select, values)
        return values[median]

    return sort_columns, median_of_columns


sort_columns_3, median_of_columns_3 = _median_operations(3, SORT_3, SELECT_9, MEDIAN_9)
sort_columns_5, median_of_columns_5 = _median_operations(5, SORT_5, SELECT_25, MEDIAN_25)
