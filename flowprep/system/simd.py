"""Operations for numba that LLVM emits directly: vectors of 16 floats or integers, and single instructions.

A vector is a numba value in registers. Operations use LLVM's generic vectors. LLVM translates each to the
instructions of the processor: one of AVX-512, two of AVX2, four of NEON or SSE. So no operation depends on
one processor. `engines.cpu.simd` has the operations of the solver, and `codec.tiles` those of resampling.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numba.core.typing.templates
import numba.extending
from llvmlite import ir
from numba.core import cgutils as _cgutils

# Numba's annotations are incomplete, so these names count as untyped.
types: Any = numba.types
cgutils: Any = _cgutils
signature: Any = numba.core.typing.templates.signature
infer_global: Any = numba.core.typing.templates.infer_global
ConcreteTemplate: Any = numba.core.typing.templates.ConcreteTemplate
PrimitiveModel: Any = numba.extending.models.PrimitiveModel
register_model: Any = numba.extending.register_model
lower_builtin: Any = numba.extending.lower_builtin

LANES = 16


class _VectorType(types.Type):  # type: ignore[misc]
    """The numba type of several values of one scalar type."""

    def __init__(self, scalar: str, llvm: ir.Type, lanes: int = LANES) -> None:
        self.llvm = ir.VectorType(llvm, lanes)
        super().__init__(name=f"{scalar}x{lanes}")


@register_model(_VectorType)
class _VectorModel(PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: _VectorType) -> None:
        super().__init__(manager, vector, vector.llvm)


FLOATS = _VectorType("float32", ir.FloatType())
INTS = _VectorType("int32", ir.IntType(32))
SHORTS = _VectorType("int16", ir.IntType(16), 2 * LANES)
FLOAT, INT, INDEX, WORD = types.float32, types.int32, types.int64, types.uint64
FLOAT_ARRAY = types.Array(types.float32, 1, "C")
SHORT_ARRAY = types.Array(types.int16, 1, "C")
INT_ARRAY = types.Array(types.int32, 1, "C")
LONG_ARRAY = types.Array(types.int64, 1, "C")
BYTES = types.Array(types.uint8, 1, "C")
CONSTANT_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
L32 = ir.IntType(32)
L64 = ir.IntType(64)


def operation(result: Any, *parameters: Any, key: Any = None) -> Callable[[Callable[..., Any]], Any]:
    """Register the decorated function as an operation that compiled functions can call by its name.

    The decorated function emits LLVM code. Its arguments are numba's context, the builder, and one LLVM value
    per parameter.

    Args:
        result: the numba type of the result.
        parameters: the numba types of the arguments.
        key: the name in compiled functions, if it is not that of the function: an operator, say.
    """

    def register(emit: Callable[..., Any]) -> Any:
        name = emit if key is None else key

        template = type(
            "Template", (ConcreteTemplate,), {"key": name, "cases": [signature(result, *parameters)]}
        )

        def lower(context: Any, builder: ir.IRBuilder, sig: Any, values: Sequence[Any]) -> Any:
            value = emit(context, builder, *values)
            return context.get_dummy_value() if result is types.void else value

        infer_global(name, types.Function(template))
        lower_builtin(name, *parameters)(lower)
        return emit

    return register


def pointer(context: Any, builder: ir.IRBuilder, array: Any, index: Any, of: ir.Type, kind: Any) -> Any:
    """A pointer to element `index` of a contiguous array of type `kind`, as a pointer to `of`."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), of.as_pointer())


def call(builder: ir.IRBuilder, name: str, result: ir.Type, *values: Any) -> Any:
    """Call an LLVM intrinsic."""
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


def shuffle(builder: ir.IRBuilder, a: Any, b: Any, lanes: Sequence[int]) -> Any:
    """The lanes of two vectors, numbered through, that form a new vector."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(L32, len(lanes)), list(lanes)))


def in_all_lanes(builder: ir.IRBuilder, value: Any, lanes: int = LANES) -> Any:
    """A vector with the same value in all lanes."""
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    return shuffle(builder, builder.insert_element(empty, value, L32(0)), empty, [0] * lanes)


# Vectors of floats


@operation(FLOATS, FLOAT_ARRAY, INDEX)
def load(context: Any, builder: ir.IRBuilder, array: Any, index: Any) -> Any:
    """array[index : index + 16]."""
    return builder.load(pointer(context, builder, array, index, FLOATS.llvm, FLOAT_ARRAY), align=4)


@operation(types.void, FLOAT_ARRAY, INDEX, FLOATS)
def store(context: Any, builder: ir.IRBuilder, array: Any, index: Any, value: Any) -> None:
    """array[index : index + 16] = value."""
    builder.store(value, pointer(context, builder, array, index, FLOATS.llvm, FLOAT_ARRAY), align=4)


# Vectors of integers, lane by lane


@operation(INTS, INT_ARRAY, INDEX)
def load_ints(context: Any, builder: ir.IRBuilder, array: Any, index: Any) -> Any:
    """array[index : index + 16]."""
    return builder.load(pointer(context, builder, array, index, INTS.llvm, INT_ARRAY), align=4)


@operation(types.void, INT_ARRAY, INDEX, INTS)
def store_ints(context: Any, builder: ir.IRBuilder, array: Any, index: Any, value: Any) -> None:
    """array[index : index + 16] = value."""
    builder.store(value, pointer(context, builder, array, index, INTS.llvm, INT_ARRAY), align=4)


@operation(INTS, LONG_ARRAY, INDEX)
def load_high_ints(context: Any, builder: ir.IRBuilder, array: Any, index: Any) -> Any:
    """array[index : index + 16] >> 32."""
    halves = ir.VectorType(L32, 2 * LANES)
    values = builder.load(pointer(context, builder, array, index, halves, LONG_ARRAY), align=8)
    return shuffle(builder, values, values, range(1, 2 * LANES, 2))


@operation(types.void, LONG_ARRAY, INDEX, INDEX)
def store_8_times(context: Any, builder: ir.IRBuilder, array: Any, index: Any, value: Any) -> None:
    """array[index : index + 8] = value, a number."""
    empty = ir.Constant(ir.VectorType(L64, 8), ir.Undefined)
    values = shuffle(builder, builder.insert_element(empty, value, L32(0)), empty, [0] * 8)
    builder.store(values, pointer(context, builder, array, index, values.type, LONG_ARRAY), align=8)


@operation(INTS, INT)
def splat_ints(context: Any, builder: ir.IRBuilder, value: Any) -> Any:
    """A vector with the same value in all lanes."""
    return in_all_lanes(builder, value)


@operation(INTS, INTS, INTS, key=operator.add)
def _add_ints(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.add(a, b)


@operation(INTS, INTS, INTS, key=operator.sub)
def _sub_ints(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.sub(a, b)


@operation(INTS, INTS, INTS, key=operator.mul)
def _mul_ints(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.mul(a, b)


@operation(INTS, INTS, INTS, key=operator.rshift)
def _shift_ints(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.ashr(a, b)


@operation(INTS, INTS)
def absolute_ints(context: Any, builder: ir.IRBuilder, a: Any) -> Any:
    """The absolute values."""
    zero = ir.Constant(INTS.llvm, [0] * LANES)
    return builder.select(builder.icmp_signed("<", a, zero), builder.sub(zero, a), a)


@operation(INTS, INTS, INTS)
def largest_ints(context: Any, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """The larger values."""
    return builder.select(builder.icmp_signed(">", a, b), a, b)


@operation(INT, INTS)
def largest_lane(context: Any, builder: ir.IRBuilder, a: Any) -> Any:
    """The largest of the 16 values."""
    return call(builder, f"llvm.vector.reduce.smax.v{LANES}i32", L32, a)


def _to_bytes(builder: ir.IRBuilder, value: Any) -> Any:
    """16 bytes, from numbers that are first limited to 0 to 255."""
    least, most = (ir.Constant(INTS.llvm, [bound] * LANES) for bound in (0, 255))
    value = builder.select(builder.icmp_signed(">", value, least), value, least)
    value = builder.select(builder.icmp_signed("<", value, most), value, most)
    return builder.trunc(value, ir.VectorType(ir.IntType(8), LANES))


@operation(types.void, BYTES, INDEX, INTS)
def store_repeated(context: Any, builder: ir.IRBuilder, array: Any, index: Any, value: Any) -> None:
    """array[index : index + 128] = value[0] 8 times, value[1] 8 times, ... as in store_bytes."""
    value = _to_bytes(builder, value)
    value = shuffle(builder, value, value, [lane // 8 for lane in range(8 * LANES)])
    builder.store(value, pointer(context, builder, array, index, value.type, BYTES), align=1)


@operation(types.void, BYTES, INDEX, types.UniTuple(INTS, 8))
def store_bytes(context: Any, builder: ir.IRBuilder, array: Any, index: Any, values: Any) -> None:
    """array[index : index + 128] = values[0][0], ... values[7][0], values[0][1], ... as bytes from 0 to 255.

    Values under 0 become 0, and values above 255 become 255.
    """
    parts = [_to_bytes(builder, value) for value in cgutils.unpack_tuple(builder, values)]
    size = 1  # bytes of a part that stay side by side
    while len(parts) > 1:
        lanes = parts[0].type.count
        starts = range(0, lanes, size)
        order = [part * lanes + i + k for i in starts for part in (0, 1) for k in range(size)]
        parts = [shuffle(builder, parts[i], parts[i + 1], order) for i in range(0, len(parts), 2)]
        size *= 2
    builder.store(parts[0], pointer(context, builder, array, index, parts[0].type, BYTES), align=1)


# Words of 64 bits


@operation(WORD, CONSTANT_BYTES, INDEX)
def load_word(context: Any, builder: ir.IRBuilder, array: Any, index: Any) -> Any:
    """The bytes array[index : index + 8] as a number, the first byte lowest."""
    return builder.load(pointer(context, builder, array, index, L64, CONSTANT_BYTES), align=1)


@operation(types.void, BYTES, INDEX, WORD)
def store_word(context: Any, builder: ir.IRBuilder, array: Any, index: Any, value: Any) -> None:
    """Store a number as the bytes array[index : index + 8]."""
    builder.store(value, pointer(context, builder, array, index, L64, BYTES), align=1)


@operation(types.void, BYTES, INDEX, CONSTANT_BYTES, INDEX)
def copy_64_bytes(context: Any, builder: ir.IRBuilder, array: Any, index: Any, source: Any, at: Any) -> None:
    """array[index : index + 64] = source[at : at + 64]."""
    line = ir.VectorType(ir.IntType(8), 64)
    value = builder.load(pointer(context, builder, source, at, line, CONSTANT_BYTES), align=1)
    builder.store(value, pointer(context, builder, array, index, line, BYTES), align=1)


@operation(WORD, WORD)
def swap_bytes(context: Any, builder: ir.IRBuilder, value: Any) -> Any:
    """The bytes of a number in the opposite order."""
    return call(builder, "llvm.bswap.i64", L64, value)


@operation(INDEX, WORD)
def leading_zeros(context: Any, builder: ir.IRBuilder, value: Any) -> Any:
    """The number of zero bits above the highest bit that is set; 64 for 0."""
    return call(builder, "llvm.ctlz.i64", L64, value, ir.IntType(1)(0))


@operation(INDEX, WORD)
def trailing_zeros(context: Any, builder: ir.IRBuilder, value: Any) -> Any:
    """The number of zero bits below the lowest bit that is set; 64 for 0."""
    return call(builder, "llvm.cttz.i64", L64, value, ir.IntType(1)(0))
