r"""quire: exact sums of products of posits, rounded once.

The quire of posit(n, es) is a two's complement fixed-point number whose unit is minpos^2, minpos = 2^-s, s = (n-2) 2^es:

    quire = sum_i a_i b_i  (exact),      1 + 31 + 4 s bits;      for es = 2: 16 n bits, unit 2^(16-8n)

so that 2^31 - 1 products of any posits fit. A NaR among the operands makes the quire NaR for good, and so does a sum
that needs more bits. The one rounding is the conversion back to a posit (rounding on the bit string; nonzero sums never
become 0). Here the sums are Python integers. Stochastic roundings are refused: the conversion keeps a sticky bit in
place of the bits beyond float64, which deterministic roundings cannot tell apart.

Source: Standard for Posit Arithmetic (2022), sec. 3 (quire format; size and limit for es = 2 from its summary and from
SoftPosit's quires, which the peer test runs; NaR on overflow is this page's choice).
Source level: secondary.
Pitfalls: SoftPosit's quire8 has 32 bits (es = 0), its quire16 128 (es = 1): 4 s bits and 8 or 16 for carries, and they
wrap silently. A product of two posits is not a posit: rounding each product first is another accumulator.

>>> f = format("posit8_2")
>>> ones, huge = f.encode([1.0, 1.0, -1.0]), f.encode([2.0**24, 2.0**-20, 2.0**24])
>>> float(f.decode(quire_dot(ones, huge, f))) == 2.0**-20        # 2^24 + 2^-20 - 2^24
True
>>> Quire(f).bits
128
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from lpref.ref.errors import FormatError, ShapeError
from lpref.ref.formats import format
from lpref.ref.formats.posit import PositFormat
from lpref.ref.rounding import Rounding
from lpref.ref.rounding import rounding as rounding_of


@dataclass(frozen=True)
class Quire:
    """An accumulator of one posit format; operations return a new one."""

    format: PositFormat
    total: int | None = 0  # in units of minpos^2; None: NaR

    @property
    def scale(self) -> int:
        """s: minpos = 2^-s."""
        return int((self.format.bits - 2) << self.format.es)

    @property
    def bits(self) -> int:
        """The width of the register, sign and carry bits included."""
        return 4 * self.scale + 32

    def _plus(self, units: int | None) -> Quire:
        if self.total is None or units is None:
            return replace(self, total=None)
        total = self.total + units
        fits = -(2 ** (self.bits - 1)) < total < 2 ** (self.bits - 1)  # the most negative pattern is NaR
        return replace(self, total=total if fits else None)

    def add(self, code: int) -> Quire:
        """quire + posit."""
        units = _units(self.format, int(code))
        return self._plus(None if units is None else units << self.scale)

    def add_product(self, a: int, b: int) -> Quire:
        """quire + a b, for codes a and b."""
        x, y = _units(self.format, int(a)), _units(self.format, int(b))
        return self._plus(None if x is None or y is None else x * y)

    def round(self, rounding: str | Rounding = "nearest_even") -> int:
        """The posit's code.

        Raises: FormatError for stochastic roundings.
        """
        if rounding_of(rounding).stochastic:
            raise FormatError("a quire is rounded deterministically", where="quire.round", remedy="nearest_even")
        value = math.nan if self.total is None else _sticky(self.total, 2 * self.scale, self.scale + 1)
        return int(self.format.encode(value, rounding, "posit"))


def quire_dot(
    a: Any, b: Any, posit: str | PositFormat, rounding: str | Rounding = "nearest_even", initial: Quire | None = None
) -> np.ndarray:
    """Codes of round(initial + sum_k a[..., k] b[..., k]): codes [..., K] of one posit format -> codes [...].

    Raises: FormatError for other formats and codes; ShapeError for unequal shapes.
    """
    f = format(posit)
    if not isinstance(f, PositFormat):
        raise FormatError(f"{f.name} is no posit", where="quire_dot", remedy="posit8_2, posit16_1, …")
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.ndim == 0:
        raise ShapeError(f"operands of shapes {a.shape} and {b.shape}", where="quire_dot", remedy="[..., K] twice")
    f.decode(a), f.decode(b)  # raises for what is no code
    out = np.empty(a.shape[:-1], f.code_dtype)
    for index in np.ndindex(out.shape):
        quire = initial or Quire(f)
        for x, y in zip(a[index].tolist(), b[index].tolist(), strict=True):
            quire = quire.add_product(x, y)
        out[index] = quire.round(rounding)
    return out


@lru_cache(maxsize=1 << 17)
def _units(f: PositFormat, code: int) -> int | None:
    """The value in units of minpos, None for NaR."""
    value = float(f.decode(np.array(code)))
    if math.isnan(value):
        return None
    m, e = math.frexp(value)
    shift = e - 53 + ((f.bits - 2) << f.es)
    whole = int(math.ldexp(m, 53))
    return whole << shift if shift >= 0 else whole >> -shift  # exact: every posit is a multiple of minpos


def _sticky(total: int, fraction_bits: int, limit: int) -> float:
    """total 2^-fraction_bits rounded to odd in float64; magnitudes outside 2^-limit .. 2^limit become those."""
    magnitude = abs(total)
    drop = max(magnitude.bit_length() - 53, 0)
    kept = magnitude >> drop
    kept |= int(magnitude != kept << drop)
    exponent = magnitude.bit_length() - fraction_bits
    if total == 0:
        return 0.0
    value = (
        math.ldexp(kept, drop - fraction_bits)
        if abs(exponent) < limit
        else math.ldexp(1.0, limit if exponent > 0 else -limit)
    )
    return -value if total < 0 else value
