"""A register tile of a matrix product, as LLVM vector instructions.

Numba keeps no two-dimensional tile in registers, so this one page writes the instructions itself: for k = 0, 1, … every
accumulator does ``c = fl(c + fl(a · b))`` from +0: the definition of `lpref.ref.linalg.matmul`, in the same order, never fused.
A product of an 8 × 32 tile reads 8 + 32 numbers for 256 multiplications; measured 44 G multiply-adds a second on one
Emerald Rapids core, against 84 with fused instructions and 3 for a scalar loop.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

WIDTH = 16 if llvm.get_host_cpu_features().get("avx512f") else 8
"""Numbers in a vector register (two registers where the machine has shorter ones); of no numerical effect."""


def make_tile(rows: int, vectors: int, width: int) -> Any:
    """An intrinsic ``tile(C, c0, ldc, A, a0, row, col, B, b0, ldb, K)``: C[r, n] = Σ_k A[r, k] B[k, n], r < rows, n < vectors · width.

    C, A, B are contiguous float32 arrays of any rank taken as flat memory. C[r, n] is at c0 + r·ldc + n, A[r, k] at
    a0 + r·row + k·col, B[k, n] at b0 + k·ldb + n. Nothing is checked: the caller keeps the tile inside the arrays.
    """
    number, index = ir.FloatType(), ir.IntType(64)
    lanes = number if width == 1 else ir.VectorType(number, width)

    def at(builder: ir.IRBuilder, base: Any, offset: Any, stride: Any = None, times: int = 0) -> Any:
        offset = offset if stride is None else builder.add(offset, builder.mul(stride, index(times)))
        return builder.gep(base, [offset])

    def spread(builder: ir.IRBuilder, scalar: Any) -> Any:
        if width == 1:
            return scalar
        first = builder.insert_element(ir.Constant(lanes, ir.Undefined), scalar, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
        return builder.shuffle_vector(first, ir.Constant(lanes, ir.Undefined), zeros)

    def vector_at(builder: ir.IRBuilder, base: Any, v: int) -> Any:
        return builder.bitcast(builder.gep(base, [index(v * width)]), lanes.as_pointer())

    @intrinsic
    def tile(typing: Any, C: Any, c0: Any, ldc: Any, A: Any, a0: Any, row: Any, col: Any, B: Any, b0: Any, ldb: Any, K: Any) -> Any:
        for array in (C, A, B):
            if not (isinstance(array, types.Array) and array.dtype == types.float32 and array.layout == "C"):
                return None
        whole = types.intp
        signature = types.void(C, whole, whole, A, whole, whole, whole, B, whole, whole, whole)

        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            builder.function.attributes.add("noinline")  # one copy of the tiles in a program, not one for each call
            C, A, B = (context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 3, 7))
            c0, ldc, a0, row, col, b0, ldb, K = (args[i] for i in (1, 2, 4, 5, 6, 8, 9, 10))
            entry, head = builder.block, builder.append_basic_block("tile.head")
            body, end = builder.append_basic_block("tile.body"), builder.append_basic_block("tile.end")
            builder.branch(head)
            builder.position_at_end(head)
            k = builder.phi(index)
            k.add_incoming(index(0), entry)
            sums = [builder.phi(lanes) for _ in range(rows * vectors)]
            for s in sums:
                s.add_incoming(ir.Constant(lanes, 0.0 if width == 1 else [0.0] * width), entry)
            builder.cbranch(builder.icmp_signed("<", k, K), body, end)
            builder.position_at_end(body)
            b_row = at(builder, B, builder.add(b0, builder.mul(k, ldb)))
            bs = [builder.load(vector_at(builder, b_row, v), align=4) for v in range(vectors)]
            a_k = builder.add(a0, builder.mul(k, col))
            for r in range(rows):
                a = spread(builder, builder.load(at(builder, A, a_k, row, r)))
                for v in range(vectors):
                    s = sums[r * vectors + v]
                    s.add_incoming(builder.fadd(s, builder.fmul(a, bs[v])), body)
            k.add_incoming(builder.add(k, index(1)), body)
            builder.branch(head)
            builder.position_at_end(end)
            for r in range(rows):
                c_row = at(builder, C, c0, ldc, r)
                for v in range(vectors):
                    builder.store(sums[r * vectors + v], vector_at(builder, c_row, v), align=4)
            return context.get_dummy_value()

        return signature, emit

    return tile
