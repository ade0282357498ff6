"""One step of a matrix unit (`lpref.ref.linalg.tensor_core`) for a tile of sums, as LLVM vector instructions, in float32 and 32-bit integers.

    E = max over k of e(a_k) + e(b_k), and e(c)            8-bit integers, a vector of them as wide as the tile
    s = sum_k int(a_k b_k 2^(F - E)) + int(c 2^(F - E))    int: the conversion, which cuts toward zero
    c = s 2^(E - F), with the lowest `drop` bits of its float32 cut off

Everything is exact where products have at most 24 bits, every number keeps well inside float32, and |s| < 2^24. E starts at `LEAST`, which lies below
the exponent of any nonzero term; where all terms are zero, so is c, whatever E is.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lpref.accel.cpu.narrow_tile import spread
from lpref.accel.cpu.tile import WIDTH

ROWS, VECTORS = 2, 4
COLUMNS = VECTORS * WIDTH
LEAST = -64
TOGETHER = 4

_WHOLE, _I32, _I8, _FLOAT = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.FloatType()
_INTS, _FLOATS, _PLACES = ir.VectorType(_I32, WIDTH), ir.VectorType(_FLOAT, WIDTH), ir.VectorType(_I8, COLUMNS)


def _const(vector: ir.VectorType, value: int) -> Any:
    return ir.Constant(vector, [value] * vector.count)


def _max(builder: ir.IRBuilder, x: Any, y: Any) -> Any:
    return builder.select(builder.icmp_signed(">", x, y), x, y)


def _at(builder: ir.IRBuilder, base: Any, offset: Any, vector: ir.VectorType) -> Any:
    return builder.bitcast(builder.gep(base, [offset]), vector.as_pointer())


def _loop(builder: ir.IRBuilder, K: Any, values: list[Any], body: Any) -> list[Any]:
    """The values of `body(builder, k, values)` after k = 0 … K - 1, `TOGETHER` of them between two branches as long as there are as many."""
    k = _WHOLE(0)
    for count in (TOGETHER, 1):
        entry, head, inside, end = builder.block, *(builder.append_basic_block(f"unit.{name}") for name in ("head", "body", "end"))
        builder.branch(head)
        builder.position_at_end(head)
        states = [(builder.phi(start.type), start) for start in (k, *values)]
        for now, start in states:
            now.add_incoming(start, entry)
        k, *values = (now for now, _ in states)
        builder.cbranch(builder.icmp_signed("<=", builder.add(k, _WHOLE(count)), K), inside, end)
        builder.position_at_end(inside)
        later = values
        for i in range(count):
            later = body(builder, builder.add(k, _WHOLE(i)), later)
        for (now, _), new in zip(states, (builder.add(k, _WHOLE(count)), *later), strict=True):
            now.add_incoming(new, inside)
        builder.branch(head)
        builder.position_at_end(end)
    return values


class _Step:
    """The pieces of a step; `places` are those of the arguments of `unit_step`."""

    def __init__(self, builder: ir.IRBuilder, arrays: list[Any], numbers: list[Any]) -> None:
        self.C, self.codes, self.A, self.EA, self.B, self.EB = arrays
        self.a0, self.row, self.b0, self.ldb, self.K, fraction, drop = numbers
        self.high = spread(builder, builder.add(builder.trunc(fraction, _I32), _I32(127)), _INTS)
        self.low = spread(builder, builder.sub(_I32(127), builder.trunc(fraction, _I32)), _INTS)
        self.mask = spread(builder, builder.shl(_I32(-1), builder.trunc(drop, _I32)), _INTS)

    def sums(self, builder: ir.IRBuilder) -> list[Any]:
        """c, the vectors of a row one after the other."""
        offsets = [_WHOLE(i * WIDTH) for i in range(VECTORS * ROWS)]
        return [builder.load(_at(builder, self.C, offset, _FLOATS), align=4) for offset in offsets]

    def a(self, builder: ir.IRBuilder, table: Any, k: Any, r: int, vector: ir.VectorType) -> Any:
        at = builder.add(builder.add(self.a0, k), builder.mul(self.row, _WHOLE(r)))
        code = builder.zext(builder.load(builder.gep(self.codes, [at])), _WHOLE)
        return spread(builder, builder.load(builder.gep(table, [code])), vector)

    def b(self, builder: ir.IRBuilder, array: Any, k: Any, first: int, vector: ir.VectorType) -> Any:
        at = builder.add(builder.add(self.b0, builder.mul(k, self.ldb)), _WHOLE(first))
        return builder.load(_at(builder, array, at, vector), align=1 if vector is _PLACES else 4)

    def exponents(self, builder: ir.IRBuilder, sums: list[Any]) -> list[Any]:
        """E, likewise."""

        def body(builder: ir.IRBuilder, k: Any, tops: list[Any]) -> list[Any]:
            of_b = self.b(builder, self.EB, k, 0, _PLACES)
            of_a = [builder.bitcast(self.a(builder, self.EA, k, r, _INTS), _PLACES) for r in range(ROWS)]
            return [_max(builder, top, builder.add(e, of_b)) for e, top in zip(of_a, tops, strict=True)]

        tops = _loop(builder, self.K, [_const(_PLACES, LEAST)] * ROWS, body)
        found = []
        for i, c in enumerate(sums):
            own, top = ir.Constant(_INTS, [i % VECTORS * WIDTH + j for j in range(WIDTH)]), tops[i // VECTORS]
            part = builder.sext(builder.shuffle_vector(top, top, own), _INTS)
            field = builder.and_(builder.lshr(builder.bitcast(c, _INTS), _const(_INTS, 23)), _const(_INTS, 255))
            found.append(_max(builder, part, builder.sub(field, _const(_INTS, 127))))
        return found

    def power(self, builder: ir.IRBuilder, biased: Any) -> Any:
        return builder.bitcast(builder.shl(biased, _const(_INTS, 23)), _FLOATS)

    def emit(self, builder: ir.IRBuilder) -> None:
        sums = self.sums(builder)
        tops = self.exponents(builder, sums)
        scales = [self.power(builder, builder.sub(self.high, top)) for top in tops]

        def body(builder: ir.IRBuilder, k: Any, totals: list[Any]) -> list[Any]:
            bs = [self.b(builder, self.B, k, v * WIDTH, _FLOATS) for v in range(VECTORS)]
            found = []
            for r in range(ROWS):
                a = self.a(builder, self.A, k, r, _FLOATS)
                for b, scale, total in zip(bs, scales[VECTORS * r :], totals[VECTORS * r :], strict=False):
                    term = builder.fmul(builder.fmul(a, b), scale)
                    found.append(builder.add(total, builder.fptosi(term, _INTS)))
            return found

        start = [builder.fptosi(builder.fmul(c, scale), _INTS) for c, scale in zip(sums, scales, strict=True)]
        for i, (total, top) in enumerate(zip(_loop(builder, self.K, start, body), tops, strict=True)):
            value = builder.fmul(builder.sitofp(total, _FLOATS), self.power(builder, builder.add(self.low, top)))
            cut = builder.bitcast(builder.and_(builder.bitcast(value, _INTS), self.mask), _FLOATS)
            builder.store(cut, _at(builder, self.C, _WHOLE(i * WIDTH), _FLOATS), align=4)


@intrinsic
def _unit_step(
    typing: Any, C: Any, codes: Any, A: Any, EA: Any, a0: Any, row: Any, B: Any, EB: Any, b0: Any, ldb: Any, K: Any, fraction: Any, drop: Any
) -> Any:  # fmt: skip
    """C [ROWS, COLUMNS] after a step of K products; the code of a[r, k] at a0 + r·row + k, B[k, j] and its exponent at b0 + k·ldb + j.

    A and EA are the values and the exponents by code; each exponent four times, in the bytes of 32 bits: those spread over a vector without a
    shuffle.
    """
    kinds = ((C, types.float32), (codes, types.uint8), (A, types.float32), (EA, types.int32), (B, types.float32), (EB, types.int8))
    if not all(isinstance(array, types.Array) and array.dtype == kind and array.layout == "C" for array, kind in kinds):
        return None
    whole = types.intp
    signature = types.void(C, codes, A, EA, whole, whole, B, EB, whole, whole, whole, whole, whole)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        arrays = [context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 1, 2, 3, 6, 7)]
        _Step(builder, arrays, [args[i] for i in (4, 5, 8, 9, 10, 11, 12)]).emit(builder)
        return context.get_dummy_value()

    return signature, emit


unit_step: Any = _unit_step
