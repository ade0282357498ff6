r"""ExMy: binary floating point with every option explicit.

Fields s, e, m (E exponent bits, M trailing significand bits), read from the top:

    e > 0:  (-1)^s 2^(e - bias) (1 + m 2^-M)
    e = 0:  (-1)^s 2^(1 - bias) (m 2^-M)            subnormals = "yes"
            0                                       subnormals = "flush"  (all of e = 0 denotes zero)
            (-1)^s 2^(-bias) (1 + m 2^-M)           subnormals = "none"   (an ordinary binade; code 0 is zero
                                                                          unless zero = "absent", as in E8M0)

Options: bias (default 2^(E-1) - 1; FNUZ: 2^(E-1)); signed; zero = signed | unsigned | absent; specials =
ieee (e all ones: infinity for m = 0, NaN otherwise) | fn (only the all-ones code is NaN, no infinity) |
fnuz (only the code of -0 is NaN, no infinity, no -0) | none (every code is finite). P3109's are on the page `p3109`.

Conversion of a finite x, closed form: e = max(floor(log2 |x|), emin), S = |x| 2^(M - e) (both exact: `frexp`, `ldexp`),
code = floor(S) + (e - emin) 2^M, and rounding up adds 1 to the code, also across binades.

Generic names: `e5m10_ieee`, `e4m2_fn`, `e3m2_none`, `e4m3_fnuz`, with `u` in front for unsigned and `_b11` behind for
a bias.
Gradient: straight through; the clipped variant is zero where |x| > max.

Source: P3109 interim report v4.0, sec. 4.7 (projection); ml_dtypes README (the suffixes).
Pitfalls: floor(log2 x) evaluated in floating point is wrong just below powers of two; a float64 source that passes
through float32 is rounded twice (ml_dtypes and torch do so); negative values that round to zero keep their sign; kernels
that round subnormals at the normal bit, or drop the sticky bit of what was shifted out, are wrong on few inputs.

>>> f = exmy("e2m1", 2, 1, specials="none", title="", standard="", source_level="memory")
>>> [float(v) for v in f.decode(np.arange(8))]
[0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
>>> f.encode([0.25, 0.75, 2.5, 5.0, 7.0, -0.1]).tolist()
[0, 2, 4, 6, 7, 8]
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lpref.ref.errors import FormatError
from lpref.ref.formats.base import Format
from lpref.ref.rounding import Remainder


@dataclass(frozen=True, kw_only=True)
class FloatFormat(Format):
    """A member of the ExMy family; see the module's page."""

    exponent_bits: int
    trailing_bits: int
    bias: int
    is_signed: bool = True
    subnormals: str = "yes"  # yes | flush | none
    zero: str = "signed"  # signed | unsigned | absent
    specials: str = "ieee"  # ieee | fn | fnuz | none

    def __post_init__(self) -> None:
        e, m = self.exponent_bits, self.trailing_bits
        wrong = [
            (not (1 <= e <= 11 and 0 <= m <= 52), f"E = {e}, M = {m} are not in 1 .. 11, 0 .. 52"),
            (self.bits != self.is_signed + e + m, f"bits = {self.bits}, the fields have {self.is_signed + e + m}"),
            (self.specials not in ("ieee", "fn", "fnuz", "none"), f"specials = {self.specials!r}"),
            (self.subnormals not in ("yes", "flush", "none"), f"subnormals = {self.subnormals!r}"),
            (self.zero not in ("signed", "unsigned", "absent"), f"zero = {self.zero!r}"),
            (self.specials == "ieee" and m == 0, "specials = 'ieee' needs M >= 1: NaN and infinity differ in m"),
            (self.specials == "fnuz" and not (self.is_signed and self.zero == "unsigned"), "fnuz: signed, one zero"),
            (self.zero == "absent" and self.subnormals != "none", "subnormals imply a zero"),
            (self.zero == "signed" and not self.is_signed, "an unsigned format has no -0"),
            (self.zero == "unsigned" and self.is_signed and self.specials != "fnuz", "-0's code needs a meaning: fnuz"),
            (not -1074 <= self._emin - m <= 0, f"the smallest spacing 2^{self._emin - m} is not in 2^-1074 .. 1"),
        ]
        for broken, text in wrong:
            if broken:
                raise FormatError(text, where=f"format {self.name!r}")

    @property
    def _emin(self) -> int:
        return -self.bias if self.subnormals == "none" else 1 - self.bias

    @property
    def signed(self) -> bool:
        return self.is_signed

    @property
    def precision(self) -> int:
        return self.trailing_bits + 1

    @property
    def emin(self) -> int:
        return self._emin

    @cached_property
    def max_code(self) -> int:
        """The magnitude code of the largest finite value."""
        e, m = self.exponent_bits, self.trailing_bits
        return {"ieee": ((2**e - 1) << m) - 1, "fn": 2 ** (e + m) - 2}.get(self.specials, 2 ** (e + m) - 1)

    @cached_property
    def max(self) -> float:
        return float(self._decode(np.array(self.max_code, np.uint64)))

    @property
    def min(self) -> float:
        return -self.max if self.is_signed else float(self._decode(np.array(0, np.uint64)))

    @cached_property
    def min_normal(self) -> float:
        first = {"yes": 1 << self.trailing_bits, "flush": 1 << self.trailing_bits, "none": int(self.zero != "absent")}
        return float(self._decode(np.array(first[self.subnormals], np.uint64)))

    @cached_property
    def min_subnormal(self) -> float:
        has = self.subnormals == "yes" and self.trailing_bits > 0
        return float(self._decode(np.array(1, np.uint64))) if has else self.min_normal

    @property
    def nan_code(self) -> int | None:
        e, m = self.exponent_bits, self.trailing_bits
        quiet = ((2**e - 1) << m) | (1 << m >> 1)  # IEEE 754-2019, sec. 6.2.1: the leading trailing bit set
        return {"ieee": quiet, "fn": 2 ** (e + m) - 1, "fnuz": 1 << (self.bits - 1)}.get(self.specials)

    @property
    def inf_code(self) -> int | None:
        return (2**self.exponent_bits - 1) << self.trailing_bits if self.specials == "ieee" else None

    @property
    def targets(self) -> frozenset[str]:
        has = super().targets
        has = has | {"negative_zero"} if self.zero == "signed" else has
        has = has - {"zero"} if self.zero == "absent" else has
        return has | {"fnuz_nan"} if self.specials == "fnuz" or self.zero == "absent" else has

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        e_bits, m_bits = self.exponent_bits, self.trailing_bits
        codes = np.asarray(codes, np.uint64)
        magnitude = codes & np.uint64(2 ** (e_bits + m_bits) - 1)
        e = (magnitude >> np.uint64(m_bits)).astype(np.int64)
        m = (magnitude & np.uint64(2**m_bits - 1)).astype(np.float64)
        hidden = (e > 0) | (self.subnormals == "none")
        exponent = (e if self.subnormals == "none" else np.maximum(e, 1)) - (self.bias + m_bits)
        with np.errstate(over="ignore"):  # the exponent of infinities is beyond float64's in the widest formats
            value = np.ldexp(m + hidden * 2.0**m_bits, exponent)
        if self.subnormals == "flush":
            value = np.where(e == 0, 0.0, value)
        if self.subnormals == "none" and self.zero != "absent":
            value = np.where(magnitude == 0, 0.0, value)
        top = e == 2**e_bits - 1
        if self.specials == "ieee":
            value = np.where(top, np.where(m == 0, np.inf, np.nan), value)
        elif self.specials == "fn":
            value = np.where(magnitude == 2 ** (e_bits + m_bits) - 1, np.nan, value)
        if self.is_signed:
            value = np.where(codes >> np.uint64(self.bits - 1), -value, value)
        if self.specials == "fnuz":
            value = np.where(codes == 1 << (self.bits - 1), np.nan, value)
        return value

    def _locate(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | int, Remainder]:
        m, emin, negative, a = self.trailing_bits, self._emin, np.signbit(x), np.abs(x)
        e = np.where(a == 0, emin, np.maximum(np.frexp(a)[1].astype(np.int64) - 1, emin))
        scaled = np.ldexp(a, m - e)
        whole = np.floor(scaled)
        d: np.ndarray = scaled - whole
        w: np.ndarray | float = 1.0
        step: np.ndarray | int = 1
        position = whole.astype(np.int64) + ((e - emin) << m)
        if self.subnormals == "none":
            position -= 1 << m
        if self.subnormals != "yes":  # between zero (or nothing) and the smallest value there is no even spacing
            tiny = a < self.min_normal
            position = np.where(tiny, 0, position)
            d = np.where(tiny, 0.0 if self.zero == "absent" else a, d)
            w = np.where(tiny, self.min_normal, 1.0)
            step = np.where(tiny & (self.subnormals == "flush"), 1 << m, 1)
        odd = position % 2 == 1
        return position, step, Remainder(d, w, odd, self.tie_up(odd, negative), negative)

    def _finish(self, position: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        negative, over = np.signbit(x), position > self.max_code
        codes = np.minimum(position, self.max_code).astype(np.uint64)
        if self.is_signed:
            return self._with_sign(codes, negative), over
        below = (negative & (x != 0)) | (x == 0) if self.zero == "absent" else negative & (position > 0)
        return np.where(below, np.uint64(0), codes), over | below

    def _with_sign(self, codes: np.ndarray, negative: np.ndarray) -> np.ndarray:
        flip = negative if self.zero == "signed" else negative & (codes > 0)
        return codes | (flip.astype(np.uint64) << np.uint64(self.bits - 1))

    def _target_code(self, target: str, negative: np.ndarray) -> np.ndarray:
        if target == "nan":
            return np.full(negative.shape, self.nan_code, np.uint64)
        if target in ("zero", "negative_zero"):
            return np.full(negative.shape, (target == "negative_zero") << (self.bits - 1), np.uint64)
        codes = np.full(negative.shape, self.max_code if target == "max" else self.inf_code, np.uint64)
        return self._with_sign(codes, negative) if self.is_signed else np.where(negative, np.uint64(0), codes)


def exmy(
    name: str,
    exponent_bits: int,
    trailing_bits: int,
    *,
    title: str,
    standard: str,
    source_level: str,
    specials: str = "ieee",
    bias: int | None = None,
    signed: bool = True,
    subnormals: str = "yes",
    zero: str | None = None,
    tie: str | None = None,
    revision: int = 1,
    module: str = __name__,
) -> FloatFormat:
    """A `FloatFormat` with the defaults of its specials filled in: bias, zero, tie rule, bits."""
    one_zero = specials == "fnuz" or not signed
    return FloatFormat(
        name=name,
        bits=signed + exponent_bits + trailing_bits,
        title=title,
        standard=standard,
        source_level=source_level,
        revision=revision,
        module=module,
        tie=tie or ("even_significand" if trailing_bits else "even_code"),
        exponent_bits=exponent_bits,
        trailing_bits=trailing_bits,
        bias=2 ** (exponent_bits - 1) - (specials != "fnuz") if bias is None else bias,
        is_signed=signed,
        subnormals=subnormals,
        zero=zero or ("unsigned" if one_zero else "signed"),
        specials=specials,
    )


_GENERIC = re.compile(r"(u?)e(\d{1,2})m(\d{1,2})_(ieee|fnuz|fn|none)(?:_b(\d{1,4}))?")


def parse(name: str) -> FloatFormat | None:
    """The format of a generic name, None for names of another shape.

    >>> f = parse("e5m10_ieee")
    >>> f.max, f.bits, f.bias
    (65504.0, 16, 15)
    >>> parse("e4m3_fnuz_b11").max
    30.0

    Raises: FormatError for parameters that make no format.
    """
    match = _GENERIC.fullmatch(name)
    if match is None:
        return None
    unsigned, e, m, specials, bias = match.groups()
    return exmy(
        name,
        int(e),
        int(m),
        specials=specials,
        bias=None if bias is None else int(bias),
        signed=not unsigned,
        title=f"generic {'unsigned ' if unsigned else ''}E{e}M{m} with {specials} specials",
        standard="the ExMy family (P3109 interim report v4.0, sec. 4.7; suffixes of the ml_dtypes README)",
        source_level="read",
    )
