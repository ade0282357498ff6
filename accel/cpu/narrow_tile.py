"""A register tile of sums that are rounded to a narrow format after every addition, as LLVM vector instructions.

For k = 0, 1, … every accumulator does ``c = round(s)``, s = c + a b, where the product is exact in the numbers of the tile (float32 or float64) and
`round` is to nearest even, to P bits. With D = digits of the tile's numbers - P there are two ways to do it:

    free        t = fl(s (2^D - 1)),  c = 2^D s - t. Where t lies in the binade of 2^D s, its unit in the last place is the narrow format's at s, and
                2^D s is an even multiple of it wherever s is a tie: so t = 2^D s - round(s). t lies a binade lower only for |s| within 2^-D of a
                power of two, which then is the result. Three instructions a product; sums of zero are +0
    with floor  m = 1.5 · 2^(e + D), e the exponent of s but at least emin, c = (s + m) - m: the unit of m's binade, in which s + m lies, is
                that of the format at s, subnormal numbers included; a sum of zero keeps the sign of s

Two more tiles have integers for sums, of 32 or of 16 bits, which saturate: ``c = min(max(s, low), high)``.

That the two roundings, to the tile's numbers and to P bits, are as one, and that no s leaves the tile's integers, is the caller's to know:
`lpref.accel.cpu.narrow`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lpref.accel.cpu.tile import WIDTH

ROWS, VECTORS = WIDTH // 2, 2
"""Accumulators of a tile: enough of them to hide the latency of three instructions one after the other, in the registers there are."""


class Numbers(NamedTuple):
    """The numbers of a tile: Numba's type of the operands, their digits, how many make a vector."""

    kind: Any
    digits: int
    lanes: int

    @property
    def number(self) -> Any:
        """LLVM's type."""
        if isinstance(self.kind, types.Integer):
            return ir.IntType(8 * self.dtype.itemsize)
        return ir.FloatType() if self.digits == 24 else ir.DoubleType()

    @property
    def sums(self) -> Any:
        """Numba's type of sums over chunks."""
        return types.float32 if isinstance(self.kind, types.Integer) else self.kind

    @property
    def dtype(self) -> np.dtype:
        """NumPy's type of the operands."""
        return np.dtype(self.kind.name)


SHORT = Numbers(types.float32, 24, WIDTH)
LONG = Numbers(types.float64, 53, WIDTH // 2)
WHOLE = Numbers(types.int32, 31, WIDTH)
HALVES = Numbers(types.int16, 15, 2 * WIDTH)


class _Free:
    """Float32 numbers, rounded without a floor; the constants of the format are made once, before the loop."""

    def __init__(self, builder: ir.IRBuilder, n: Numbers, precision: Any, emin: Any) -> None:
        self.floats = self.numbers = ir.VectorType(n.number, n.lanes)
        shift = builder.sub(ir.IntType(64)(n.digits), precision)
        power = builder.shl(ir.IntType(64)(1), shift)
        self.power = spread(builder, builder.sitofp(power, n.number), self.numbers)
        self.less = spread(builder, builder.sitofp(builder.sub(power, ir.IntType(64)(1)), n.number), self.numbers)

    def rounded(self, builder: ir.IRBuilder, s: Any) -> Any:
        return fused(builder, s, self.power, builder.fneg(builder.fmul(s, self.less)))

    def step(self, builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
        """c after one more product."""
        return self.rounded(builder, fused(builder, a, b, c))

    def across(self, builder: ir.IRBuilder, total: Any, c: Any) -> Any:
        """The total of the chunks, vectors of `floats`, after one more of them."""
        return self.rounded(builder, builder.fadd(total, c))


class _Floor(_Free):
    """Float64 numbers, rounded with a floor."""

    def __init__(self, builder: ir.IRBuilder, n: Numbers, precision: Any, emin: Any) -> None:
        bits = n.kind.bitwidth
        integer, self.floats = ir.IntType(bits), ir.VectorType(n.number, n.lanes)
        self.numbers, self.ints = self.floats, ir.VectorType(integer, n.lanes)
        place, bias = n.digits - 1, (1 << (bits - n.digits - 1)) - 1
        self.mask = ir.Constant(self.ints, [((2 * bias + 1) << place)] * n.lanes)
        self.sign = ir.Constant(self.ints, [1 << (bits - 1)] * n.lanes)
        shift = builder.sub(integer(n.digits), precision)
        half = integer(1 << (place - 1))
        self.raised = spread(builder, builder.add(builder.shl(shift, integer(place)), half), self.ints)
        least = builder.add(emin, integer(bias))
        self.least = spread(builder, builder.shl(least, integer(place)), self.ints)

    def rounded(self, builder: ir.IRBuilder, s: Any) -> Any:
        bits = builder.bitcast(s, self.ints)
        e = builder.and_(bits, self.mask)
        e = builder.select(builder.icmp_signed(">", e, self.least), e, self.least)
        m = builder.bitcast(builder.add(e, self.raised), self.numbers)
        c = builder.fsub(builder.fadd(s, m), m)
        signed = builder.or_(builder.bitcast(c, self.ints), builder.and_(bits, self.sign))
        return builder.bitcast(signed, self.numbers)


class _Clamp:
    """Integers that saturate at every addition, which are added as they are across chunks; the bounds come where the format does elsewhere."""

    def __init__(self, builder: ir.IRBuilder, n: Numbers, low: Any, high: Any) -> None:
        self.numbers, self.floats = ir.VectorType(n.number, n.lanes), ir.VectorType(ir.FloatType(), n.lanes)
        self.low, self.high = (spread(builder, builder.trunc(bound, n.number), self.numbers) for bound in (low, high))

    def step(self, builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
        s = builder.add(c, builder.mul(a, b))
        s = builder.select(builder.icmp_signed(">", s, self.low), s, self.low)
        return builder.select(builder.icmp_signed("<", s, self.high), s, self.high)

    def across(self, builder: ir.IRBuilder, total: Any, c: Any) -> Any:
        return builder.fadd(total, builder.sitofp(c, self.floats))


_TILES: dict[Any, tuple[Numbers, Any]] = {n.kind: (n, of) for n, of in ((SHORT, _Free), (LONG, _Floor), (WHOLE, _Clamp), (HALVES, _Clamp))}


def spread(builder: ir.IRBuilder, scalar: Any, vector: ir.VectorType) -> Any:
    """The scalar in every lane."""
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _vectors(builder: ir.IRBuilder, base: Any, offset: Any, vector: ir.VectorType) -> list[Any]:
    """Where the vectors of a row of the tile lie."""
    places = [builder.gep(base, [builder.add(offset, ir.IntType(64)(v * vector.count))]) for v in range(VECTORS)]
    return [builder.bitcast(place, vector.as_pointer()) for place in places]


def _sums(builder: ir.IRBuilder, A: Any, B: Any, places: Any, K: Any, rounding: Any, align: int) -> list[Any]:
    """The sums of a chunk, row after row."""
    index, (a0, row, b0, ldb) = ir.IntType(64), places
    zero = ir.Constant(rounding.numbers, [0] * rounding.numbers.count)
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
    bs = [builder.load(p, align=align) for p in _vectors(builder, B, builder.add(b0, builder.mul(k, ldb)), rounding.numbers)]
    for r in range(ROWS):
        at = builder.add(builder.add(a0, k), builder.mul(row, index(r)))
        a = spread(builder, builder.load(builder.gep(A, [at])), rounding.numbers)
        for v, b in enumerate(bs):
            s = sums[r * VECTORS + v]
            s.add_incoming(rounding.step(builder, a, b, s), body)
    k.add_incoming(builder.add(k, index(1)), body)
    builder.branch(head)
    builder.position_at_end(end)
    return sums


@intrinsic
def _narrow_tile(
    typing: Any, C: Any, c0: Any, ldc: Any, A: Any, a0: Any, row: Any, B: Any, b0: Any, ldb: Any, K: Any, x: Any, y: Any
) -> Any:  # fmt: skip
    """C[r, j] <- round(C[r, j] + d[r, j]), C + d for integers; d[r, j] is the sum of A[r, k] B[k, j] from +0, r < ROWS, j < VECTORS · lanes.

    The type of A and B chooses the tile; x and y are the precision and emin of its format, or the bounds of its integers. All are contiguous
    arrays taken as flat memory, C[r, j] at c0 + r·ldc + j, A[r, k] at a0 + r·row + k, B[k, j] at b0 + k·ldb + j; the caller keeps the tile inside.
    """
    if not all(isinstance(array, types.Array) and array.layout == "C" for array in (C, A, B)):
        return None
    n, form = _TILES[A.dtype]
    if B.dtype != n.kind or C.dtype != n.sums:
        return None
    whole = types.intp
    signature = types.void(C, whole, whole, A, whole, whole, B, whole, whole, whole, whole, whole)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        C, A, B = (context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 3, 6))
        rounding, wide = form(builder, n, args[10], args[11]), n.sums.bitwidth // 8
        sums = _sums(builder, A, B, (args[4], args[5], args[7], args[8]), args[9], rounding, n.kind.bitwidth // 8)
        for r in range(ROWS):
            row = builder.add(args[1], builder.mul(args[2], ir.IntType(64)(r)))
            for v, place in enumerate(_vectors(builder, C, row, rounding.floats)):
                total = rounding.across(builder, builder.load(place, align=wide), sums[r * VECTORS + v])
                builder.store(total, place, align=wide)
        return context.get_dummy_value()

    return signature, emit


narrow_tile: Any = _narrow_tile


def fused(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """a b + c, in one instruction where the machine has it: the product is exact, so that makes no difference."""
    lanes = a.type
    name = f"llvm.fmuladd.v{lanes.count}f{32 if isinstance(lanes.element, ir.FloatType) else 64}"
    function = builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(lanes, [lanes] * 3), name)
    return builder.call(function, [a, b, c])
