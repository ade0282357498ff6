r"""p3109_{K}p{P}{s|u}{e|f}: the binary formats of IEEE P3109, e.g. p3109_8p3se = Binary8p3se.

K bits, precision P (significand bits, the hidden one included; 0 < P < K signed, 0 < P <= K unsigned), s(igned) or
u(nsigned), e(xtended: with infinities) or f(inite). W = K - P exponent bits signed, K - P + 1 unsigned; bias
B = 2^(W-1). A magnitude code c has T = c mod 2^(P-1), E = c div 2^(P-1):

    value(c) = T 2^(1-P) 2^(1-B)              E = 0 (subnormals, always there; zero is c = 0)
               (1 + T 2^(1-P)) 2^(E-B)        otherwise
    signed: -value has code c + 2^(K-1)       unsigned: c is the code

One zero; one NaN: 2^(K-1) signed, 2^K - 1 unsigned. Extended: +infinity is 2^(K-1) - 1 signed, 2^K - 2 unsigned,
-infinity 2^K - 1 (signed). The distinct finite values: 2^K - 3 signed extended, 2^K - 1 signed finite, 2^K - 2
unsigned extended, 2^K - 1 unsigned finite. In every signed one the code of 1 is 2^(K-2). Any K, P whose values float64
holds (W <= 11) is a format here.

In the registry (max, smallest positive): p3109_8p3se (49152, 2^-17), p3109_8p4se (224, 2^-10), p3109_8p5se (15, 2^-7),
p3109_8p1se (2^62, 2^-63), p3109_8p3sf (57344, 2^-17), p3109_8p4sf (240, 2^-10), p3109_8p4ue (53248, 2^-18), p3109_8p1uf
(2^126, 2^-127), p3109_6p3sf (14, 2^-5), p3109_4p2sf (3, 2^-2).

Projection = round to precision with the exponent unbounded above, then saturate, then encode. `nearest_even` goes to
the even **code** (for P = 1, where a significand has no last bit, too). Half of the smallest subnormal goes to 0. The
saturation modes are overflow policies:

| x after rounding      | p3109_sat_finite | p3109_sat_propagate     | p3109_sat_none                                    |
|-----------------------|------------------|-------------------------|---------------------------------------------------|
| finite, above max     | max              | max                     | infinity if extended, else max                    |
| finite, below min     | min              | min                     | unsigned: NaN; -infinity if extended, else min    |
| +infinity             | max              | infinity if ext., else max | the same                                       |
| -infinity             | min              | signed: the same, else 0   | the same; unsigned: NaN                        |
| NaN                   | NaN              | NaN                     | NaN                                               |

p3109_sat_none with toward_zero, or with a directed rounding that points back into the range, stays at max or min (0 in
an unsigned format); so does to_odd in unsigned extended formats, where max has the odd code and infinity the even one.

Block conversion ConvertToBlockMaxAbsFinite (`convert_to_block`): s = project(largest finite |x|), elements
project(x / s), one rounding of the exact quotient; a zero scale gives zeros, an infinite one signs, NaN gives NaN.
The report mandates no default rounding or saturation: profiles do. Gradient: straight through.

Source: IEEE P3109 working group interim report v4.0 (26 June 2026), sec. 4.2 (decoding), 4.7.4 (rounding), 4.7.5
(saturation), 4.7.6 (encoding), 5.1.2 and 5.2.3 (blocks). The working group's value tables of K = 3 .. 16 (28 June
2026): all 454 formats within float64 have these values (compared once; the tests pin K up to 8).
Pitfalls: 8p4se is not OCP's e4m3: bias 8, max 224, no -0. The block conversion does not divide by the element format's
max: elements lie in [-1, 1], up to the rounding of the scale. "OvfInf" of v3.2 is "SatNone" of v4.0, and gfloat 0.5.2 and pychop 0.6.2 still give NaN
where a finite format overflows and v4.0 gives max or min.

>>> f = parse("p3109_8p3se")
>>> f.max, f.min_subnormal == 2**-17, f.encode([1.0, -1.0, 0.0, float("nan")]).tolist()
(49152.0, True, [64, 192, 0, 128])
>>> [f.round(v, overflow="p3109_sat_none").item() for v in (53248.0, 53249.0, 57344.0)]
[49152.0, inf, inf]
>>> parse("p3109_8p3sf").round(1e9, overflow="p3109_sat_none").item()
57344.0
>>> codes, scale = convert_to_block([0.5, -4.0, 6.0], "p3109_8p4se", "p3109_8p1uf", scale_rounding="toward_positive")
>>> parse("p3109_8p1uf").decode(scale).item(), parse("p3109_8p4se").decode(codes).tolist()
(8.0, [0.0625, -0.5, 0.75])
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.ref.errors import FormatError
from lpref.ref.formats.exact_input import as_float64
from lpref.ref.formats.floats import FloatFormat
from lpref.ref.rounding import Overflow, Rounding

STANDARD = "IEEE P3109 interim report v4.0 (26 June 2026), sec. 4"


@dataclass(frozen=True, kw_only=True)
class P3109Format(FloatFormat):
    """BinaryKpP{s|u}{e|f}: the ExMy family with E = W, M = P - 1, its NaN codes, and infinity on top if extended."""

    extended: bool = True

    @property
    def max_code(self) -> int:  # type: ignore[override]
        """The magnitude code of the largest finite value."""
        return 2 ** (self.bits - self.is_signed) - (1 if self.is_signed else 2) - self.extended

    @property
    def inf_code(self) -> int | None:
        return self.max_code + 1 if self.extended else None

    @property
    def targets(self) -> frozenset[str]:
        return super().targets - {"fnuz_nan"}

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        codes = np.asarray(codes, np.uint64)
        value = super()._decode(codes)
        if not self.extended:
            return value
        value = np.where(codes == self.inf_code, np.inf, value)
        return np.where(codes == 2**self.bits - 1, -np.inf, value) if self.is_signed else value

    def _stops(self, rule: Rounding, policy: Overflow, negative: np.ndarray, x: np.ndarray) -> np.ndarray:
        odd_stays = rule.name == "to_odd" and self.extended and not self.is_signed
        return super()._stops(rule, policy, negative, x) | (~negative & odd_stays)


def p3109(bits: int, precision: int, signed: bool = True, extended: bool = True) -> P3109Format:
    """Binary{bits}p{precision}{s|u}{e|f}.

    Raises: FormatError for parameters outside the standard's, and for formats whose values float64 does not hold.
    """
    name = f"p3109_{bits}p{precision}{'s' if signed else 'u'}{'e' if extended else 'f'}"
    width = bits - precision + (not signed)
    if bits < 3 or precision < 1 or width < 1:
        limit = "P < K" if signed else "P <= K"
        raise FormatError(f"K = {bits}, P = {precision}", where=f"format {name!r}", remedy=f"K >= 3, 0 < {limit}")
    if width > 11 or precision > 52:
        raise FormatError("its values are beyond float64", where=f"format {name!r}", remedy="at most 11 exponent bits")
    kind = f"{'signed' if signed else 'unsigned'}, {'extended' if extended else 'finite'}"
    return P3109Format(
        name=name, bits=bits, title=f"P3109 Binary{name[6:]}: {bits} bits, precision {precision}, {kind}", standard=STANDARD,
        source_level="read", module=__name__, tie="even_code" if precision == 1 else "even_significand",
        exponent_bits=width, trailing_bits=precision - 1, bias=2 ** (width - 1), is_signed=signed, zero="unsigned",
        specials="fnuz" if signed else "fn", extended=extended,
    )  # fmt: skip


_NAME = re.compile(r"(?:p3109_|[Bb]inary)(\d{1,2})p(\d{1,2})([su])([ef])")


def parse(name: str) -> P3109Format | None:
    """The format called p3109_8p3se or Binary8p3se, None for names of another shape."""
    match = _NAME.fullmatch(name)
    return p3109(int(match[1]), int(match[2]), match[3] == "s", match[4] == "e") if match else None


def convert_to_block(
    x: Any,
    element: str | FloatFormat,
    scale: str | FloatFormat,
    rounding: str | Rounding = "nearest_even",
    overflow: str | Overflow = "p3109_sat_finite",
    scale_rounding: str | Rounding = "nearest_even",
    scale_overflow: str | Overflow = "p3109_sat_finite",
) -> tuple[np.ndarray, np.ndarray]:
    """ConvertToBlockMaxAbsFinite: (element codes, scale code) of each block along the last axis of x.

        S = max of the finite |x_i| (the infinity where all are infinite, NaN where all are NaN);  s = project(S)
        r_i = project(NaN if s or x_i is NaN, 0 if s = 0, sgn(x_i) sgn(s) if |s| is infinite, else x_i / s)

    x: reals [..., B] -> codes [..., B], scale codes [...]. Deterministic roundings; the quotient is rounded once.

    Raises: FormatError for what is no P3109 format, or has more than 24 significand or 10 exponent bits; what `encode` raises.
    """
    f, g = _named(element), _named(scale)
    x = as_float64(x, "convert_to_block")
    finite, nan = np.isfinite(x), np.isnan(x)
    largest = np.max(np.where(finite, np.abs(x), -1.0), axis=-1, initial=-1.0)
    none = np.where(nan.all(axis=-1), np.nan, np.inf)  # no finite element: the infinity, if there is one
    codes = g.encode(np.where(largest < 0, none, largest), scale_rounding, scale_overflow)
    s = g.decode(codes)[..., None]
    ordinary = finite & np.isfinite(s) & (s != 0)
    # Rounding fl64(x / s) is rounding x / s: a value or midpoint v of the elements has at most 25 bits, s has 24, so v s
    # is on x's float64 grid; if x is not v s it is one unit of x away, and x / s more than half a unit of v away from v.
    z = np.where(ordinary, x, 0.0) / np.where(ordinary, s, 1.0)
    z = np.where(ordinary, z, np.where(s == 0, 0.0, np.where(np.isinf(s), np.sign(x) * np.sign(s), x)))
    z = np.where(nan | np.isnan(s), np.nan, z)
    return f.encode(z, rounding, overflow), codes


def _named(name: str | FloatFormat) -> FloatFormat:
    found = parse(name) if isinstance(name, str) else name
    if not isinstance(found, P3109Format) or found.precision > 24 or found.exponent_bits > 10:
        remedy = "a P3109 format of at most 24 significand bits and 10 exponent bits"
        raise FormatError(f"{name!r} cannot be a block's format", where="convert_to_block", remedy=remedy)
    return found


P3109: dict[str, P3109Format] = {
    f.name: f
    for f in (
        p3109(8, 3), p3109(8, 4), p3109(8, 5), p3109(8, 1), p3109(8, 3, extended=False), p3109(8, 4, extended=False),
        p3109(8, 4, signed=False), p3109(8, 1, signed=False, extended=False), p3109(6, 3, extended=False),
        p3109(4, 2, extended=False),
    )
}  # fmt: skip
