"""Eight Philox4x32-10 blocks at a time, in explicit vectors: `eight_blocks(lanes, at, first, step, stream, seed)` in a kernel.

lanes[at : at + 32] <- blocks first .. first + 7 of `lpref.ref.random`, lane 0 of each first. A loop around it may do other things between the
blocks, such as asking memory for lines, which would keep LLVM from making vectors of them.
A round multiplies the low halves of 64-bit lanes; what stands in the high halves afterwards is dropped by the next multiplication.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lpref.ref import random as ref

BLOCKS = 8
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_I64, BLOCKS)


def _all(value: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * BLOCKS)


_MASK, _32 = _all(0xFFFFFFFF), _all(32)


def _spread(builder: ir.IRBuilder, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, _I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_I32, BLOCKS), [0] * BLOCKS))


def _pairs(builder: ir.IRBuilder, first: Any, step: Any, stream: Any, seed: Any) -> tuple[Any, Any]:
    """Words 0 and 1 of the blocks, and words 2 and 3, each two in a 64-bit lane."""
    low = _I64(0xFFFFFFFF)
    block = builder.add(_spread(builder, first), ir.Constant(_VECTOR, list(range(BLOCKS))))
    c0, c1 = builder.and_(block, _MASK), builder.lshr(block, _32)
    c2, c3 = (builder.and_(_spread(builder, word), _MASK) for word in (step, stream))
    k0, k1 = builder.and_(seed, low), builder.lshr(seed, _I64(32))
    p0 = p1 = _all(0)
    for _ in range(10):
        p0, p1 = builder.mul(c0, _all(int(ref.MULTIPLIER_0))), builder.mul(c2, _all(int(ref.MULTIPLIER_1)))
        c0 = builder.xor(builder.xor(builder.lshr(p1, _32), c1), _spread(builder, k0))
        c2 = builder.xor(builder.xor(builder.lshr(p0, _32), c3), _spread(builder, k1))
        c1, c3 = builder.and_(p1, _MASK), builder.and_(p0, _MASK)
        k0, k1 = (builder.and_(builder.add(k, _I64(int(w))), low) for k, w in ((k0, ref.WEYL_0), (k1, ref.WEYL_1)))
    return builder.or_(c0, builder.shl(p1, _32)), builder.or_(c2, builder.shl(p0, _32))


@intrinsic
def _eight_blocks(typing: Any, lanes: Any, at: Any, first: Any, step: Any, stream: Any, seed: Any) -> Any:
    if not (isinstance(lanes, types.Array) and lanes.layout == "C" and lanes.ndim == 1 and lanes.dtype == types.uint32):
        return None

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        pairs = _pairs(builder, *args[2:])
        for half in (0, BLOCKS // 2):
            order = [half + i // 2 + BLOCKS * (i % 2) for i in range(BLOCKS)]
            words = builder.shuffle_vector(*pairs, ir.Constant(ir.VectorType(_I32, BLOCKS), order))
            index = builder.add(args[1], ir.Constant(args[1].type, 4 * half))
            builder.store(words, builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(lanes, types.intp, *[types.uint64] * 4), emit


eight_blocks: Any = _eight_blocks
