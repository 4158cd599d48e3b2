"""Operations on tiles of 16 x 16 floats, for numba: what resampling consists of.

`system.simd` says how they are compiled. A tile is a 1-D float32 array of 256 values, row after row. No
operation checks an index.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from flowprep.system.simd import (
    BYTES,
    FLOAT,
    FLOAT_ARRAY,
    FLOATS,
    INDEX,
    INTS,
    LANES,
    in_all_lanes,
    load,
    operation,
    pointer,
    shuffle,
    store,
    types,
)

TILE = LANES * LANES

_BYTE_LANES = ir.VectorType(ir.IntType(8), LANES)


@operation(FLOATS)
def zeros(context: Any, builder: ir.IRBuilder) -> Any:
    """A vector of zeros."""
    return ir.Constant(FLOATS.llvm, [0.0] * LANES)


@operation(FLOATS, FLOATS, FLOAT_ARRAY, INDEX, BYTES, INDEX)
def add_bytes(
    context: Any, builder: ir.IRBuilder, total: Any, weights: Any, k: Any, array: Any, index: Any
) -> Any:
    """total + weights[k] * array[index : index + 16]."""
    values = builder.load(pointer(context, builder, array, index, _BYTE_LANES, BYTES), align=1)
    values = builder.sitofp(builder.zext(values, INTS.llvm), FLOATS.llvm)
    return builder.fadd(total, builder.fmul(values, _weight(context, builder, weights, k)))


@operation(FLOATS, FLOATS, FLOAT_ARRAY, INDEX, FLOAT_ARRAY, INDEX)
def add_floats(
    context: Any, builder: ir.IRBuilder, total: Any, weights: Any, k: Any, array: Any, index: Any
) -> Any:
    """total + weights[k] * array[index : index + 16]."""
    values = load(context, builder, array, index)
    return builder.fadd(total, builder.fmul(values, _weight(context, builder, weights, k)))


@operation(types.void, FLOAT_ARRAY, INDEX, FLOATS)
def set_row(context: Any, builder: ir.IRBuilder, tile: Any, row: Any, values: Any) -> None:
    """Set one row of a tile."""
    store(context, builder, tile, builder.mul(row, ir.Constant(row.type, LANES)), values)


@operation(types.void, FLOAT_ARRAY, FLOAT_ARRAY, INDEX)
def transpose(context: Any, builder: ir.IRBuilder, tile: Any, out: Any, index: Any) -> None:
    """out[index : index + 256] = the tile, with rows and columns exchanged."""
    for row, values in enumerate(_transposed(context, builder, tile)):
        store(context, builder, out, _plus(builder, index, row * LANES), values)


@operation(types.void, FLOAT_ARRAY, BYTES, INDEX, INDEX)
def put_bytes(context: Any, builder: ir.IRBuilder, tile: Any, out: Any, index: Any, row_length: Any) -> None:
    """Exchange rows and columns of a tile, round it, and write it into rows of bytes, from `index` on."""
    half = ir.Constant(FLOATS.llvm, [0.5] * LANES)
    for values in _transposed(context, builder, tile):
        numbers = builder.fptosi(builder.fadd(values, half), INTS.llvm)
        place = pointer(context, builder, out, index, _BYTE_LANES, BYTES)
        builder.store(builder.trunc(numbers, _BYTE_LANES), place, align=1)
        index = builder.add(index, row_length)


@operation(types.void, FLOAT_ARRAY, FLOAT, FLOAT, FLOAT_ARRAY, INDEX, INDEX)
def put_pixels(
    context: Any,
    builder: ir.IRBuilder,
    tile: Any,
    scale: Any,
    zero_point: Any,
    out: Any,
    index: Any,
    row_length: Any,
) -> None:
    """Exchange rows and columns of a tile of codes, and write (code - zero_point) * scale into rows."""
    factor, subtracted = in_all_lanes(builder, scale), in_all_lanes(builder, zero_point)
    for values in _transposed(context, builder, tile):
        store(context, builder, out, index, builder.fmul(builder.fsub(values, subtracted), factor))
        index = builder.add(index, row_length)


def _transposed(context: Any, builder: ir.IRBuilder, tile: Any) -> list[Any]:
    """The columns of a tile. In four steps, halves of blocks of 2, 4, 8 and 16 lanes change places."""
    zero = ir.Constant(ir.IntType(64), 0)
    rows = [load(context, builder, tile, _plus(builder, zero, row * LANES)) for row in range(LANES)]
    for distance in (1, 2, 4, 8):
        upper = [bool(lane & distance) for lane in range(LANES)]
        low_lanes = [LANES + lane - distance if is_upper else lane for lane, is_upper in enumerate(upper)]
        high_lanes = [LANES + lane if is_upper else lane + distance for lane, is_upper in enumerate(upper)]
        for i in (lane for lane, is_upper in enumerate(upper) if not is_upper):
            low, high = rows[i], rows[i + distance]
            rows[i] = shuffle(builder, low, high, low_lanes)
            rows[i + distance] = shuffle(builder, low, high, high_lanes)
    return rows


def _weight(context: Any, builder: ir.IRBuilder, weights: Any, k: Any) -> Any:
    """weights[k] in all lanes."""
    place = pointer(context, builder, weights, k, ir.FloatType(), FLOAT_ARRAY)
    return in_all_lanes(builder, builder.load(place))


def _plus(builder: ir.IRBuilder, index: Any, number: int) -> Any:
    return builder.add(index, ir.Constant(index.type, number))
