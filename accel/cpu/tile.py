"""A register tile of a matrix product, as LLVM vector instructions.

Numba keeps no two-dimensional tile in registers, so this one page writes the instructions itself: for k = 0, 1, … every
accumulator does ``c = fl(c + fl(a · b))``: the definition of `lpref.ref.linalg.matmul`, in the same order, never fused; or, where
the caller asks for it, ``c = fl(c + a · b)``, fused where the machine has such instructions. A product of an 8 × 32 tile reads
8 + 32 numbers for 256 multiplications; measured 44 G multiply-adds a second on one Emerald Rapids core, 84 fused, 3 for a
scalar loop. `make_copy` moves rows of panels by the same vectors.
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
    """An intrinsic ``tile(C, c0, ldc, A, a0, row, col, B, b0, ldb, K, more, fused)``: Σ_k A[r, k] B[k, n], r < rows, n < vectors · width.

    The sum starts at +0, or at C[r, n] where `more` is true. C, A, B are contiguous float32 arrays of any rank taken as flat memory.
    C[r, n] is at c0 + r·ldc + n, A[r, k] at a0 + r·row + k·col, B[k, n] at b0 + k·ldb + n. Nothing is checked: the caller keeps the
    tile inside the arrays.
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

    def added(builder: ir.IRBuilder, total: Any, a: Any, b: Any, fused: bool) -> Any:
        if not fused:
            return builder.fadd(total, builder.fmul(a, b))
        name = "llvm.fmuladd." + ("f32" if width == 1 else f"v{width}f32")
        function = builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(lanes, [lanes] * 3), name)
        return builder.call(function, [a, b, total])

    def loop(builder: ir.IRBuilder, args: Any, fused: bool, start: Any, end: Any) -> list[Any]:
        """The sums over k, which begin as `start`, then a jump to `end`."""
        A, a0, row, col, B, b0, ldb, K = args
        entry, head, body = builder.block, builder.append_basic_block("tile.head"), builder.append_basic_block("tile.body")
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(index)
        k.add_incoming(index(0), entry)
        sums = [builder.phi(lanes) for _ in start]
        for s, first in zip(sums, start, strict=True):
            s.add_incoming(first, entry)
        builder.cbranch(builder.icmp_signed("<", k, K), body, end)
        builder.position_at_end(body)
        b_row = at(builder, B, builder.add(b0, builder.mul(k, ldb)))
        bs = [builder.load(vector_at(builder, b_row, v), align=4) for v in range(vectors)]
        a_k = builder.add(a0, builder.mul(k, col))
        for r in range(rows):
            a = spread(builder, builder.load(at(builder, A, a_k, row, r)))
            for v in range(vectors):
                sums[r * vectors + v].add_incoming(added(builder, sums[r * vectors + v], a, bs[v], fused), body)
        k.add_incoming(builder.add(k, index(1)), body)
        builder.branch(head)
        return sums

    @intrinsic
    def tile(
        typing: Any, C: Any, c0: Any, ldc: Any, A: Any, a0: Any, row: Any, col: Any, B: Any, b0: Any, ldb: Any, K: Any, more: Any, fused: Any
    ) -> Any:  # fmt: skip
        for array in (C, A, B):
            if not (isinstance(array, types.Array) and array.dtype == types.float32 and array.layout == "C"):
                return None
        whole, flag = types.intp, types.boolean
        signature = types.void(C, whole, whole, A, whole, whole, whole, B, whole, whole, whole, flag, flag)

        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            builder.function.attributes.add("noinline")  # one copy of the tiles in a program, not one for each call
            C, A, B = (context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 3, 7))
            c0, ldc, more, fused = (args[i] for i in (1, 2, 11, 12))
            places = [vector_at(builder, at(builder, C, c0, ldc, r), v) for r in range(rows) for v in range(vectors)]
            zero = ir.Constant(lanes, 0.0 if width == 1 else [0.0] * width)
            entry, kept, ready = builder.block, builder.append_basic_block("tile.more"), builder.append_basic_block("tile.start")
            builder.cbranch(more, kept, ready)
            builder.position_at_end(kept)
            before = [builder.load(place, align=4) for place in places]
            builder.branch(ready)
            builder.position_at_end(ready)
            start = [builder.phi(lanes) for _ in places]
            for s, old in zip(start, before, strict=True):
                s.add_incoming(zero, entry)
                s.add_incoming(old, kept)
            both = [builder.append_basic_block("tile.rounded"), builder.append_basic_block("tile.fused")]
            ends = [builder.append_basic_block("tile.end"), builder.append_basic_block("tile.end")]
            builder.cbranch(fused, both[1], both[0])
            last = builder.append_basic_block("tile.last")
            for i in range(2):
                builder.position_at_end(both[i])
                sums = loop(builder, (A, *args[4:7], B, *args[8:11]), bool(i), start, ends[i])
                builder.position_at_end(ends[i])
                for s, place in zip(sums, places, strict=True):
                    builder.store(s, place, align=4)
                builder.branch(last)
            builder.position_at_end(last)
            return context.get_dummy_value()

        return signature, emit

    return tile


def make_copy(vectors: int, width: int) -> Any:
    """An intrinsic ``copy(out, o0, x, x0)``: out[o0 + i] = x[x0 + i], i < vectors · width; arrays as in `make_tile`."""
    lanes, index = ir.VectorType(ir.FloatType(), width), ir.IntType(64)

    @intrinsic
    def copy(typing: Any, out: Any, o0: Any, x: Any, x0: Any) -> Any:
        signature = types.void(out, types.intp, x, types.intp)

        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            to, source = (context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 2))
            for v in range(vectors):
                place, old = (builder.gep(base, [builder.add(args[i], index(v * width))]) for base, i in ((to, 1), (source, 3)))
                number = builder.load(builder.bitcast(old, lanes.as_pointer()), align=4)
                builder.store(number, builder.bitcast(place, lanes.as_pointer()), align=4)
            return context.get_dummy_value()

        return signature, emit

    return copy
