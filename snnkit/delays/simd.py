"""Short vectors inside Numba kernels.

Numba leaves vectors to LLVM's auto-vectoriser, which does not keep a vector in a register over a loop
whose stores might alias. `vector(width)` gives load, store and arithmetic on LLVM's own vector type
``<width x float>`` (or double), which every CPU target lowers to what it has. An array of uint16 is read
and written as bfloat16, the upper half of a float32.
"""

from functools import lru_cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model


class _VectorType(types.Type):
    """Numba's name for ``<width x element>``."""

    def __init__(self, element: types.Float, width: int) -> None:
        self.element, self.width = element, width
        super().__init__(name=f"vector({element}, {width})")


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: _VectorType) -> None:
        element = dmm.lookup(fe_type.element).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.width))  # type: ignore[no-untyped-call]


class Vector(NamedTuple):
    """Operations on vectors of one width; `a` is a one-dimensional contiguous array."""

    load: Any  # load(a, i) → a[i : i + width]
    store: Any  # store(a, i, v); into bfloat16 rounded to nearest, ties to even
    splat: Any  # splat(a, value) → a vector of the array's dtype, every lane `value`
    fma: Any  # fma(u, v, w) → u · v + w, rounded once where the CPU can
    add: Any  # add(u, v)
    sub: Any  # sub(u, v)
    mul: Any  # mul(u, v)
    lane: Any  # lane(v, i) → one element
    nonzero: Any  # nonzero(v) → an integer whose bit i is set where lane i is not 0


def _pointer(context: Any, builder: Any, array: types.Array, value: Any, index: Any, vector: Any) -> Any:
    data = context.make_array(array)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


@lru_cache(maxsize=8)
def vector(width: int) -> Vector:
    """The operations for vectors of `width` elements."""

    @intrinsic
    def load(typingctx, a, i):  # type: ignore[no-untyped-def]
        halves = a.dtype == types.uint16
        out = _VectorType(types.float32 if halves else a.dtype, width)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            kind = context.get_value_type(out)
            if halves:
                short, whole = (ir.VectorType(ir.IntType(n), width) for n in (16, 32))
                pointer = _pointer(context, builder, signature.args[0], args[0], args[1], short)
                bits = builder.zext(builder.load(pointer, align=2), whole)
                return builder.bitcast(builder.shl(bits, ir.Constant(whole, [16] * width)), kind)
            pointer = _pointer(context, builder, signature.args[0], args[0], args[1], kind)
            return builder.load(pointer, align=a.dtype.bitwidth // 8)

        return out(a, types.intp), codegen

    @intrinsic
    def store(typingctx, a, i, v):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            kind, value = context.get_value_type(signature.args[2]), args[2]
            if a.dtype == types.uint16:
                kind, whole = (ir.VectorType(ir.IntType(n), width) for n in (16, 32))
                shift = ir.Constant(whole, [16] * width)
                bits = builder.bitcast(value, whole)
                odd = builder.and_(builder.lshr(bits, shift), ir.Constant(whole, [1] * width))
                bits = builder.add(bits, builder.add(odd, ir.Constant(whole, [0x7FFF] * width)))
                value = builder.trunc(builder.lshr(bits, shift), kind)
            pointer = _pointer(context, builder, signature.args[0], args[0], args[1], kind)
            builder.store(value, pointer, align=a.dtype.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(a, types.intp, v), codegen

    @intrinsic
    def splat(typingctx, a, value):  # type: ignore[no-untyped-def]
        out = _VectorType(a.dtype, width)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            kind = context.get_value_type(out)
            zero = ir.Constant(ir.IntType(32), 0)
            one = builder.insert_element(ir.Constant(kind, ir.Undefined), args[1], zero)
            mask = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
            return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), mask)

        return out(a, a.dtype), codegen

    @intrinsic
    def fma(typingctx, u, v, w):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            kind = context.get_value_type(u)
            suffix = f"v{width}f{u.element.bitwidth}"
            function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
                builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fmuladd.{suffix}"
            )
            return builder.call(function, args)

        return u(u, v, w), codegen

    @intrinsic
    def add(typingctx, u, v):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.fadd(*args)

        return u(u, v), codegen

    @intrinsic
    def sub(typingctx, u, v):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.fsub(*args)

        return u(u, v), codegen

    @intrinsic
    def mul(typingctx, u, v):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.fmul(*args)

        return u(u, v), codegen

    @intrinsic
    def lane(typingctx, v, i):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.extract_element(args[0], builder.trunc(args[1], ir.IntType(32)))

        return v.element(v, types.intp), codegen

    @intrinsic
    def nonzero(typingctx, v):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            zero = ir.Constant(context.get_value_type(v), None)
            flags = builder.fcmp_unordered("!=", args[0], zero)
            return builder.zext(builder.bitcast(flags, ir.IntType(width)), ir.IntType(64))

        return types.int64(v), codegen

    return Vector(load, store, splat, fma, add, sub, mul, lane, nonzero)


@intrinsic
def lowest(typingctx, bits):  # type: ignore[no-untyped-def]
    """Number of the lowest bit that is set in `bits`, which is not 0."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.int64), codegen


@intrinsic
def count(typingctx, bits):  # type: ignore[no-untyped-def]
    """How many bits of `bits` are set."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.ctpop(args[0])

    return types.intp(types.int64), codegen
