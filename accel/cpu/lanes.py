"""Explicit vectors of sixteen 32-bit lanes, for loops in which LLVM does not find them itself.

    copies(out, at, value)      out[at : at + 16] <- value
    turn(row, at, out, b)       out[c, b + i] <- |row[at + 16 i + c]|, c and i < 16

Each is plain LLVM vector code, which every processor has in pieces of its own width. Indices are not tested: `at` and `b` must leave room
for all that is read and written.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

WIDTH = 16
_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(_I32, WIDTH)
_LOW = ir.Constant(_VECTOR, [i // 2 + WIDTH * (i % 2) for i in range(WIDTH)])
_HIGH = ir.Constant(_VECTOR, [WIDTH // 2 + i // 2 + WIDTH * (i % 2) for i in range(WIDTH)])
_MAGNITUDE = ir.Constant(_VECTOR, [0x7FFFFFFF] * WIDTH)
_FIRST = ir.Constant(_VECTOR, [0] * WIDTH)


def floats(kind: Any, rank: int) -> bool:
    """Is this the Numba type of a contiguous float32 array of that rank?"""
    return isinstance(kind, types.Array) and kind.layout == "C" and kind.ndim == rank and kind.dtype == types.float32


def _place(builder: ir.IRBuilder, data: Any, index: Any) -> Any:
    """The vector that begins at data[index]."""
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic
def _copies(typing: Any, out: Any, at: Any, value: Any) -> Any:
    if not floats(out, 1):
        return None

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        bits = builder.bitcast(args[2], _I32)
        one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), bits, _I32(0))
        builder.store(builder.shuffle_vector(one, one, _FIRST), _place(builder, data, args[1]), align=4)
        return context.get_dummy_value()

    return types.void(out, types.intp, types.float32), emit


@intrinsic
def _turn(typing: Any, row: Any, at: Any, out: Any, b: Any) -> Any:
    if not (floats(row, 1) and floats(out, 2)):
        return None

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        source = context.make_array(signature.args[0])(context, builder, args[0]).data
        target = context.make_array(signature.args[2])(context, builder, args[2])
        stride = builder.extract_value(target.shape, 1)
        lines = []
        for i in range(WIDTH):
            index = builder.add(args[1], ir.Constant(args[1].type, WIDTH * i))
            lines.append(builder.and_(builder.load(_place(builder, source, index), align=4), _MAGNITUDE))
        for _ in range(4):  # each round interleaves the lines of the two halves: four of them exchange rows and columns
            pairs = list(zip(lines[: WIDTH // 2], lines[WIDTH // 2 :], strict=True))
            lines = [builder.shuffle_vector(x, y, mask) for x, y in pairs for mask in (_LOW, _HIGH)]
        for c, line in enumerate(lines):
            index = builder.add(builder.mul(stride, ir.Constant(stride.type, c)), args[3])
            builder.store(line, _place(builder, target.data, index), align=4)
        return context.get_dummy_value()

    return types.void(row, types.intp, out, types.intp), emit


copies: Any = _copies
turn: Any = _turn
