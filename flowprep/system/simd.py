"""Operations for numba that LLVM emits directly: vectors of 16 floats or integers, and single instructions.

A vector is a numba value in registers. Operations use LLVM's generic vectors. LLVM translates each to the
instructions of the processor: one of AVX-512, two of AVX2, four of NEON or SSE. So no operation depends on
one processor. `engines.cpu.simd` has the operations of the solver, and `codec.words` those of the decoder.
"""

from __future__ import annotations

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
    """The numba type of 16 values of one scalar type."""

    def __init__(self, scalar: str, llvm: ir.Type) -> None:
        self.llvm = ir.VectorType(llvm, LANES)
        super().__init__(name=f"{scalar}x{LANES}")


@register_model(_VectorType)
class _VectorModel(PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: _VectorType) -> None:
        super().__init__(manager, vector, vector.llvm)


FLOATS = _VectorType("float32", ir.FloatType())
INTS = _VectorType("int32", ir.IntType(32))
FLOAT, INT, INDEX = types.float32, types.int32, types.int64
FLOAT_ARRAY = types.Array(types.float32, 1, "C")
INT_ARRAY = types.Array(types.int32, 1, "C")
L32 = ir.IntType(32)


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
