"""A register tile of sums that are rounded to a narrow format after every addition, as LLVM vector instructions.

For k = 0, 1, … every accumulator does ``c = round(s)``, s = c + a b, where the product is exact in the numbers of the tile (float32 or float64) and
`round` is to nearest even, to P bits. With D = digits of the tile's numbers - P there are two ways to do it:

    free        t = fl(s (2^D - 1)),  c = 2^D s - t. Where t lies in the binade of 2^D s, its unit in the last place is the narrow format's at s, and
                2^D s is an even multiple of it wherever s is a tie: so t = 2^D s - round(s). t lies a binade lower only for |s| within 2^-D of a
                power of two, which then is the result. Three instructions a product; sums of zero are +0
    with floor  m = 1.5 · 2^(e + D), e the exponent of s but at least emin, c = (s + m) - m: the unit of m's binade, in which s + m lies, is
                that of the format at s, subnormal numbers included; a sum of zero keeps the sign of s

A third kind of tile has integers for sums, which saturate: ``c = min(max(s, low), high)``.

That the two roundings, to the tile's numbers and to P bits, are as one is the caller's to know: `lpref.accel.cpu.narrow`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lpref.accel.cpu.tile import WIDTH

ROWS, VECTORS = WIDTH // 2, 2
"""Accumulators of a tile: enough of them to hide the latency of three instructions one after the other, in the registers there are."""


class Numbers(NamedTuple):
    """The numbers of a tile: their digits, how many make a vector, whether sums may be subnormal in the narrow format, or are integers."""

    kind: Any
    digits: int
    lanes: int
    floor: bool
    integers: bool = False

    @property
    def bits(self) -> int:
        """Of one number."""
        return 32 if self.digits == 24 else 64

    @property
    def number(self) -> Any:
        """LLVM's type."""
        return ir.FloatType() if self.digits == 24 else ir.DoubleType()


SHORT = Numbers(types.float32, 24, WIDTH, False)
WHOLE = Numbers(types.float32, 24, WIDTH, False, True)
LONG = Numbers(types.float64, 53, WIDTH // 2, True)


class _Free:
    """`round` without a floor, for vectors; the constants of the format are made once, before the loop."""

    def __init__(self, builder: ir.IRBuilder, n: Numbers, precision: Any, emin: Any) -> None:
        self.n, self.numbers = n, ir.VectorType(n.number, n.lanes)
        shift = builder.sub(ir.IntType(64)(n.digits), precision)
        power = builder.shl(ir.IntType(64)(1), shift)
        self.power = spread(builder, builder.sitofp(power, n.number), self.numbers)
        self.less = spread(builder, builder.sitofp(builder.sub(power, ir.IntType(64)(1)), n.number), self.numbers)

    def __call__(self, builder: ir.IRBuilder, s: Any) -> Any:
        return fused(builder, s, self.power, builder.fneg(builder.fmul(s, self.less)), self.n)

    across = __call__


class _Clamp:
    """Integers that saturate at every addition, which are added as they are across chunks; the bounds come where the format does elsewhere."""

    def __init__(self, builder: ir.IRBuilder, n: Numbers, low: Any, high: Any) -> None:
        self.numbers = ir.VectorType(n.number, n.lanes)
        self.low, self.high = (spread(builder, builder.sitofp(bound, n.number), self.numbers) for bound in (low, high))

    def __call__(self, builder: ir.IRBuilder, s: Any) -> Any:
        s = builder.select(builder.fcmp_ordered(">", s, self.low), s, self.low)
        return builder.select(builder.fcmp_ordered("<", s, self.high), s, self.high)

    @staticmethod
    def across(builder: ir.IRBuilder, s: Any) -> Any:
        return s


class _Floor:
    """`round` with a floor."""

    def __init__(self, builder: ir.IRBuilder, n: Numbers, precision: Any, emin: Any) -> None:
        integer, self.numbers = ir.IntType(n.bits), ir.VectorType(n.number, n.lanes)
        self.ints = ir.VectorType(integer, n.lanes)
        place, bias = n.digits - 1, (1 << (n.bits - n.digits - 1)) - 1
        self.mask = ir.Constant(self.ints, [((2 * bias + 1) << place)] * n.lanes)
        self.sign = ir.Constant(self.ints, [1 << (n.bits - 1)] * n.lanes)
        shift = builder.sub(integer(n.digits), precision)
        half = integer(1 << (place - 1))
        self.raised = spread(builder, builder.add(builder.shl(shift, integer(place)), half), self.ints)
        least = builder.add(emin, integer(bias))
        self.least = spread(builder, builder.shl(least, integer(place)), self.ints)

    def __call__(self, builder: ir.IRBuilder, s: Any) -> Any:
        bits = builder.bitcast(s, self.ints)
        e = builder.and_(bits, self.mask)
        e = builder.select(builder.icmp_signed(">", e, self.least), e, self.least)
        m = builder.bitcast(builder.add(e, self.raised), self.numbers)
        c = builder.fsub(builder.fadd(s, m), m)
        signed = builder.or_(builder.bitcast(c, self.ints), builder.and_(bits, self.sign))
        return builder.bitcast(signed, self.numbers)

    across = __call__


def spread(builder: ir.IRBuilder, scalar: Any, vector: ir.VectorType) -> Any:
    """The scalar in every lane."""
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def make_narrow_tile(n: Numbers) -> Any:
    """An intrinsic ``tile(C, c0, ldc, A, a0, row, B, b0, ldb, K, precision, emin)``: C[r, j] <- round(C[r, j] + d[r, j]), C + d for integers.

    d[r, j] is the sum of A[r, k] B[k, j] from +0, r < ROWS, j < VECTORS · lanes. C, A, B are contiguous arrays of the tile's numbers taken as
    flat memory, C[r, j] at c0 + r·ldc + j, A[r, k] at a0 + r·row + k, B[k, j] at b0 + k·ldb + j; the caller keeps the tile inside them.
    """
    index = ir.IntType(64)

    def vectors(builder: ir.IRBuilder, base: Any, offset: Any, rounding: Any) -> list[Any]:
        places = [builder.gep(base, [builder.add(offset, index(v * n.lanes))]) for v in range(VECTORS)]
        return [builder.bitcast(place, rounding.numbers.as_pointer()) for place in places]

    def loop(builder: ir.IRBuilder, A: Any, B: Any, places: Any, K: Any, rounding: Any) -> list[Any]:
        a0, row, b0, ldb = places
        zero = ir.Constant(rounding.numbers, [0.0] * n.lanes)
        entry, head, body, end = builder.block, *(builder.append_basic_block(f"narrow.{name}") for name in ("head", "body", "end"))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(index)
        k.add_incoming(index(0), entry)
        sums = [builder.phi(rounding.numbers) for _ in range(ROWS * VECTORS)]
        for s in sums:
            s.add_incoming(zero, entry)
        builder.cbranch(builder.icmp_signed("<", k, K), body, end)
        builder.position_at_end(body)
        bs = [builder.load(p, align=4) for p in vectors(builder, B, builder.add(b0, builder.mul(k, ldb)), rounding)]
        for r in range(ROWS):
            at = builder.add(builder.add(a0, k), builder.mul(row, index(r)))
            a = spread(builder, builder.load(builder.gep(A, [at])), rounding.numbers)
            for v, b in enumerate(bs):
                s = sums[r * VECTORS + v]
                s.add_incoming(rounding(builder, fused(builder, a, b, s, n)), body)
        k.add_incoming(builder.add(k, index(1)), body)
        builder.branch(head)
        builder.position_at_end(end)
        return sums

    @intrinsic
    def tile(
        typing: Any, C: Any, c0: Any, ldc: Any, A: Any, a0: Any, row: Any, B: Any, b0: Any, ldb: Any, K: Any, precision: Any, emin: Any
    ) -> Any:  # fmt: skip
        if not all(isinstance(array, types.Array) and array.dtype == n.kind and array.layout == "C" for array in (C, A, B)):
            return None
        whole = types.intp
        signature = types.void(C, whole, whole, A, whole, whole, B, whole, whole, whole, whole, whole)

        def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            C, A, B = (context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 3, 6))
            rounding = (_Clamp if n.integers else _Floor if n.floor else _Free)(builder, n, args[10], args[11])
            sums = loop(builder, A, B, (args[4], args[5], args[7], args[8]), args[9], rounding)
            for r in range(ROWS):
                row = builder.add(args[1], builder.mul(args[2], index(r)))
                for v, place in enumerate(vectors(builder, C, row, rounding)):
                    total = builder.fadd(builder.load(place, align=4), sums[r * VECTORS + v])
                    builder.store(rounding.across(builder, total), place, align=4)
            return context.get_dummy_value()

        return signature, emit

    return tile


def fused(builder: ir.IRBuilder, a: Any, b: Any, c: Any, n: Numbers) -> Any:
    """a b + c, in one instruction where the machine has it: the product is exact, so that makes no difference."""
    lanes = a.type
    name = f"llvm.fmuladd.v{n.lanes}f{n.bits}"
    function = builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(lanes, [lanes] * 3), name)
    return builder.call(function, [a, b, c])
