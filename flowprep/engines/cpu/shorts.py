"""Vectors of 32 integers of 16 bits: twice the lanes of floats. The median uses them.

See `system.simd` and `simd`. Sums and differences wrap around.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir

from flowprep.system.simd import (
    FLOATS,
    INDEX,
    INT,
    INTS,
    L32,
    LANES,
    SHORT_ARRAY,
    SHORTS,
    call,
    in_all_lanes,
    operation,
    pointer,
    shuffle,
    types,
)

SHORT_LANES = 2 * LANES

_WIDE = ir.VectorType(L32, SHORT_LANES)
_PAIR = types.UniTuple(FLOATS, 2)


def _constant(value: int) -> Any:
    return ir.Constant(SHORTS.llvm, [value] * SHORT_LANES)


# Memory and conversion


@operation(SHORTS, SHORT_ARRAY, INDEX)
def load_shorts(context: Any, builder: ir.IRBuilder, array: Any, index: Any) -> Any:
    """array[index : index + 32]."""
    return builder.load(pointer(context, builder, array, index, SHORTS.llvm, SHORT_ARRAY), align=2)


@operation(types.void, SHORT_ARRAY, INDEX, SHORTS)
def store_shorts(context: Any, builder: ir.IRBuilder, array: Any, index: Any, value: Any) -> None:
    """array[index : index + 32] = value."""
    builder.store(value, pointer(context, builder, array, index, SHORTS.llvm, SHORT_ARRAY), align=2)


@operation(SHORTS, INT)
def splat_shorts(context: Any, builder: ir.IRBuilder, value: Any) -> Any:
    """A vector with the same value, from -32768 to 65535, in all lanes."""
    return in_all_lanes(builder, builder.trunc(value, ir.IntType(16)), SHORT_LANES)


@operation(SHORTS, FLOATS, FLOATS)
def to_shorts(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """32 numbers, rounded towards 0; they must be from -32768 to 32767."""
    low, high = builder.fptosi(a, INTS.llvm), builder.fptosi(b, INTS.llvm)
    return builder.trunc(shuffle(builder, low, high, range(SHORT_LANES)), SHORTS.llvm)


@operation(_PAIR, SHORTS)
def to_floats(context: Any, builder: ir.IRBuilder, a: Any) -> Any:
    """The first 16 lanes, and the others."""
    halves = [shuffle(builder, a, a, range(start, start + LANES)) for start in (0, LANES)]
    floats = [builder.sitofp(half, FLOATS.llvm) for half in halves]
    return context.make_tuple(builder, _PAIR, floats)


# Lane by lane


@operation(SHORTS, SHORTS, SHORTS, key=operator.add)
def _add(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.add(a, b)


@operation(SHORTS, SHORTS, SHORTS, key=operator.sub)
def _sub(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.sub(a, b)


@operation(SHORTS, SHORTS, SHORTS, key=operator.mul)
def _mul(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.mul(a, b)


@operation(SHORTS, SHORTS, SHORTS, key=operator.or_)
def _or(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.or_(a, b)


@operation(SHORTS, SHORTS, SHORTS)
def high_product(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """a * b >> 16, for numbers from 0 to 65535."""
    product = builder.mul(builder.zext(a, _WIDE), builder.zext(b, _WIDE))
    high = builder.trunc(builder.lshr(product, ir.Constant(_WIDE, [16] * SHORT_LANES)), SHORTS.llvm)
    # Without a fence, LLVM joins this product with others, and does them in 32 bits.
    opaque = call(
        builder, f"llvm.arithmetic.fence.v{LANES}f32", FLOATS.llvm, builder.bitcast(high, FLOATS.llvm)
    )
    return builder.bitcast(opaque, SHORTS.llvm)


@operation(SHORTS, SHORTS)
def half_of(context: Any, builder: ir.IRBuilder, a: Any) -> Any:
    """a >> 1, for numbers from 0 to 65535."""
    return builder.lshr(a, _constant(1))


@operation(SHORTS, SHORTS, SHORTS)
def middle_of(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """(a + b) >> 1, rounded down, without overflow."""
    return builder.add(builder.and_(a, b), builder.ashr(builder.xor(a, b), _constant(1)))


@operation(SHORTS, SHORTS, SHORTS)
def bounded_difference(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """a - b, limited to -32768 to 32767."""
    return call(builder, f"llvm.ssub.sat.v{SHORT_LANES}i16", SHORTS.llvm, a, b)


@operation(SHORTS, SHORTS)
def absolute_shorts(context: Any, builder: ir.IRBuilder, a: Any) -> Any:
    """The absolute values, from 0 to 32768, which is -32768 with a sign."""
    negative = builder.sub(_constant(0), a)
    return builder.select(builder.icmp_signed(">", a, negative), a, negative)


@operation(SHORTS, SHORTS, SHORTS)
def smallest_shorts(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """The smaller values."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)


@operation(SHORTS, SHORTS, SHORTS)
def smallest_unsigned(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """The smaller values, for numbers from 0 to 65535."""
    return builder.select(builder.icmp_unsigned("<", a, b), a, b)


@operation(SHORTS, SHORTS, SHORTS)
def largest_shorts(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """The larger values."""
    return builder.select(builder.icmp_signed(">", a, b), a, b)


@operation(SHORTS, SHORTS, SHORTS, SHORTS, SHORTS)
def add_above(context: Any, builder: ir.IRBuilder, total: Any, a: Any, b: Any, value: Any) -> Any:
    """total + value where a > b, else total."""
    return builder.add(total, builder.select(builder.icmp_signed(">", a, b), value, _constant(0)))


@operation(SHORTS, SHORTS, SHORTS, SHORTS)
def where_positive(context: Any, builder: ir.IRBuilder, a: Any, value: Any, other: Any) -> Any:
    """value where a > 0, else other."""
    return builder.select(builder.icmp_signed(">", a, _constant(0)), value, other)


@operation(types.boolean, SHORTS)
def any_nonzero(context: Any, builder: ir.IRBuilder, a: Any) -> Any:
    """Whether a lane is not 0."""
    lanes = builder.icmp_signed("!=", a, _constant(0))
    bits = builder.bitcast(lanes, ir.IntType(SHORT_LANES))
    return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))
