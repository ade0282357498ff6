r"""tensor_core: the fused inner product of matrix units, where every term of a step is cut at one common place.

Matrix units do not add products one after the other. In one step they take n products and the running sum c together:

    E = max( e(a_i) + e(b_i) over the products that are not zero,  e(c) unless c = 0,  clamp ),        q = 2^(E - fraction)
    s = sum_i trunc(a_i b_i / q) + trunc(c / q)                                                       exact integers
    c <- s q, cut toward zero to `kept` fraction bits (of its own exponent, at least -126)

and walk through K in steps of n, k ascending, from c = +0. ``e(v)`` is floor(log2 |v|), but at least the smallest normal exponent of the
format that the unit reads (`inputs`): subnormal numbers are not normalised. Products are exact. ``trunc`` is toward zero.

Options: `late` leaves c out of the alignment and adds it afterwards by one float32 addition to nearest even. `accumulator` "binary16" rounds
s q to nearest even in binary16 instead of cutting it. `group` > 1 adds that many products exactly before the alignment, whose exponents are
then those of the block scales alone, also for sums that are zero. A rest of K that does not fill a step is padded with zeros, which changes nothing.

Zeros, NaN, infinities: zero products enter neither the sum nor E; a zero result is +0. A step whose products and c sum to NaN or an infinity by
IEEE arithmetic gives that; a finite result of 2^128 or more is an infinity of its sign.

Consequences: permuting the products of one step changes nothing, permuting across steps does. With fraction = 13, 2^14 + 1 loses the 1.
Truncation shrinks sums of one sign: -0.05, -1.35 and -6.6 % on average at K = 128, 1024 and 4096 for FP8 numbers drawn from U(0, 1) (DeepSeek-V3
reports relative errors up to about 2 % at K = 4096).

Source: arXiv 2511.10909 and microsoft/MMA-Sim mmasim/simulator/{nv_ptx,arithmetic}.py (read); Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior
of NVIDIA tensor cores", PeerJ Computer Science 7:e330, 2021; Khattak and Mikaitis, arXiv 2512.07004; DeepSeek-V3, arXiv 2412.19437, section 3.3.2.
The models of one GPU were compared with it bit for bit: docs/accumulation.md.
Pitfalls: zero products must not enter E. FP8 on sm_90 through mma.sync is another unit (25 bits, a late c) than through wgmma. Libraries split K
over several accumulators (split-K), which is another model: forbid it. The "14 bits" of the DeepSeek-V3 report are the hidden bit and 13 fraction
bits.

>>> fp8 = TensorCore(products=32, fraction=13, kept=13, inputs=("e4m3", "e5m2"), clamp=-132)
>>> chain(Side.of([[16.0, 1.0]], -6), Side.of([[1024.0, 1.0]], -14), fp8).tolist()
[[16384.0]]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import SpecError, UnknownNameError

F64 = NDArray[np.float64]

NONE = -(2**20)
"""The exponent of a term that does not take part."""
_PANEL = 1 << 20
"""Products worked on at a time; of no numerical effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorCore:
    """The parameters of one matrix unit; the page above says what each does."""

    products: int
    fraction: int
    kept: int = 23
    inputs: tuple[str, ...] = ("bfloat16",)
    clamp: int = -126
    late: bool = False
    accumulator: str = "float32"
    group: int = 1

    def __post_init__(self) -> None:
        problems = []
        if not 1 <= self.products <= 1024:
            problems.append(f"products: {self.products} is not in 1 .. 1024")
        if not 1 <= self.fraction <= 40:
            problems.append(f"fraction: {self.fraction} is not in 1 .. 40")
        if not 1 <= self.kept <= 23:
            problems.append(f"kept: {self.kept} is not in 1 .. 23")
        if not -300 <= self.clamp <= -126:
            problems.append(f"clamp: {self.clamp} is not in -300 .. -126")
        if self.group < 1 or self.products % self.group:
            problems.append(f"group: {self.group} does not divide products: {self.products}")
        if problems:
            raise SpecError(problems)
        if self.accumulator not in ("float32", "binary16"):
            raise UnknownNameError("accumulator", self.accumulator, ("float32", "binary16"), where="core.accumulator")

    @property
    def smallest(self) -> int:
        """The smallest normal exponent of the accumulator."""
        return -126 if self.accumulator == "float32" else -14


class Side(NamedTuple):
    """One operand as the unit sees it: values [other, K] exact in float64, and the exponent of each (NONE for zero)."""

    values: F64
    exponents: NDArray[np.int32]

    @classmethod
    def of(cls, values: Any, emin: int) -> Side:
        """`values` of a format whose smallest normal exponent is `emin`."""
        v = np.asarray(values, np.float64)
        return cls(v, exponents(v, emin))

    def cut(self, start: int, stop: int) -> Side:
        """k = start .. stop - 1."""
        return Side(self.values[:, start:stop], self.exponents[:, start:stop])


def exponents(values: F64, emin: int) -> NDArray[np.int32]:
    """floor(log2 |v|), at least `emin`; NONE for zero. NaN and infinities get `emin`: they decide the sum whatever it is."""
    finite = np.isfinite(values)
    e = np.frexp(np.where(finite, values, 0.0))[1].astype(np.int32) - 1
    return np.where(values == 0, np.int32(NONE), np.maximum(e, np.int32(emin)))


def chain(a: Side, b: Side, core: TensorCore) -> NDArray[np.float32]:
    """[M, K] and [N, K] -> [M, N]: the steps of the unit over all of K."""
    m, depth = a.values.shape
    n = b.values.shape[0]
    out = np.zeros((m, n))
    rows = max(1, _PANEL // max(1, n * core.products))
    for top in range(0, m, rows):
        part = slice(top, top + rows)
        c = out[part]
        for start in range(0, depth, core.products):
            stop = min(start + core.products, depth)
            c = step(c, Side(a.values[part], a.exponents[part]).cut(start, stop), b.cut(start, stop), core)
        out[part] = c
    return out.astype(np.float32)  # every c is a value of float32


def step(c: F64, a: Side, b: Side, core: TensorCore) -> F64:
    """c [M, N] after one step over at most `products` elements of k."""
    p = a.values[:, None, :] * b.values[None, :, :]  # exact: at most 26 bits a factor
    e = a.exponents[:, None, :] + b.exponents[None, :, :]
    plain = bool(np.isfinite(p).all() and np.isfinite(c).all())
    ieee = None if plain else _ordered(p) + c
    p, c0 = (p, c) if plain else (np.where(np.isfinite(p), p, 0.0), np.where(np.isfinite(c), c, 0.0))
    if core.group > 1:
        p, e = _groups(p, core.group), e[:, :, :: core.group]  # one block, one exponent
    top = np.max(e, axis=2, initial=core.clamp)
    if not core.late:
        top = np.maximum(top, exponents(c0, core.smallest))
    scale = np.ldexp(1.0, core.fraction - top)  # |p| scale < 2^(fraction + 2), and nothing is subnormal in float64
    s = _ordered(np.trunc(p * scale[:, :, None]))
    if not core.late:
        s = s + np.trunc(c0 * scale)
    d = _output(s / scale, core)
    if core.late:
        d = (d.astype(np.float32) + c0.astype(np.float32)).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        d = np.where(np.abs(d) >= 2.0**128, np.copysign(np.inf, d), d) + 0.0
        return d if ieee is None else np.where(np.isfinite(ieee), d, ieee)


def _ordered(terms: F64) -> F64:
    """The sum over the last axis, k ascending: of integers below 2^53, so exact."""
    with np.errstate(invalid="ignore"):
        total = np.zeros(terms.shape[:2])
        for k in range(terms.shape[2]):
            total = total + terms[:, :, k]
    return total


def _groups(p: F64, size: int) -> F64:
    """Exact sums of `size` neighbours."""
    return np.stack([_ordered(p[:, :, k : k + size]) for k in range(0, p.shape[2], size)], axis=2)


def _output(v: F64, core: TensorCore) -> F64:
    """The sum in the accumulator's format."""
    if core.accumulator == "binary16":
        with np.errstate(over="ignore"):
            return v.astype(np.float16).astype(np.float64)  # one rounding, to nearest even
    unit = np.ldexp(1.0, core.kept - np.maximum(np.frexp(v)[1] - 1, core.smallest))
    return np.trunc(v * unit) / unit
