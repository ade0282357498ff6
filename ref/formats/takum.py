r"""takum{n}_linear, takum{n}: takums, posit-like formats whose exponent has at most 8 bits and a range that does not grow with n.

Behind the sign S: direction D, regime R (3 bits), characteristic C (r bits), mantissa (the other p = n - 5 - r bits);
bits beyond the end are 0 (n < 12). For S = 0:

    r = 7 - R if D = 0, R if D = 1
    c = -2^(r+1) + 1 + C if D = 0, 2^r - 1 + C if D = 1           -255 <= c <= 254
    m = mantissa / 2^p
    linear:       value = (1 + m) 2^c
    logarithmic:  value = sqrt(e)^(c + m)

0 = 0..0, NaR = 10..0, and the negative of a code is its two's complement (in the paper's words: (1 - 3S + m)
2^((-1)^S (c + S)) and (-1)^S sqrt(e)^((-1)^S (c + m)); the same values). Largest and smallest positive values:
takum8_linear 2^239 and 2^-239, takum16_linear (2 - 2^-4) 2^254 and (1 + 2^-4) 2^-255, takum8 exp(119.5) and exp(-119.5).

Rounding is on the bit string, to the nearest, ties to the even code, never to 0 or NaR: the page of `tapered`.
In logarithmic takums the values but 1 are irrational: `exact` is False, decode gives the nearest float64 (computed with
40 digits), midpoints sqrt(e)^(l + 1/2 unit) are compared as they are and never met. Stochastic rounding takes nu from
the float64 values.

n = 8 .. 32 (linear), 8 .. 16 (logarithmic); in the registry takum8_linear, takum16_linear, takum8.
Gradient: straight through.

Source: Hunhold, arXiv 2404.18603 (takums); libtakum (4 December 2024), read and run: all values of the three registered
ones equal, logarithmic ones to the last bit of float64.
Pitfalls: the base of the logarithmic ones is sqrt(e), not 2; takum8_linear reaches 2^239, beyond float32. libtakum
rounds c + m to a float before it rounds to the format, so that inputs within some float64 units of a midpoint differ.

>>> f = parse("takum8_linear")
>>> f.encode([1.0, -1.0, 2.0, 0.0]).tolist(), f.max == 2.0**239, f.min_subnormal == 2.0**-239
([64, 192, 72, 0], True, True)
>>> [round(v, 4) for v in parse("takum8").decode([65, 72, 76]).tolist()]
[1.0645, 1.6487, 2.7183]
"""

from __future__ import annotations

import decimal
import math
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lpref.ref.errors import FormatError
from lpref.ref.formats.tapered import TaperedFormat


@dataclass(frozen=True, kw_only=True)
class TakumFormat(TaperedFormat):
    """A takum; `linear` or logarithmic."""

    linear: bool = True

    def _magnitude(self, codes: np.ndarray, bits: int) -> np.ndarray:
        codes = np.asarray(codes, np.uint64)
        if not self.linear:
            return _logarithmic(bits)[codes]
        c, mantissa, p = fields(codes, bits)
        return np.where(codes == 0, 0.0, np.ldexp((mantissa + (1 << p)).astype(np.float64), c - p))

    def _middle(self, codes: np.ndarray) -> np.ndarray:
        return super()._middle(codes) if self.linear else _logarithmic_middles(self.bits)[codes]


def fields(codes: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(c, mantissa, p) of positive codes."""
    width = max(bits, 12)
    string = codes.astype(np.int64) << (width - bits)
    direction, regime = (string >> (width - 2)) & 1, (string >> (width - 5)) & 7
    r = np.where(direction == 1, regime, 7 - regime)
    p = width - 5 - r
    characteristic = (string >> p) & ((1 << r) - 1)
    c = np.where(direction == 1, (1 << r) - 1, 1 - (2 << r)) + characteristic
    return c, string & ((1 << p) - 1), p


def _powers(bits: int) -> list[decimal.Decimal]:
    """sqrt(e)^(c + m) of the codes 1, 2, ... with 40 digits."""
    c, mantissa, p = fields(np.arange(1, 2 ** (bits - 1), dtype=np.uint64), bits)
    with decimal.localcontext(prec=40):
        return [
            ((int(ci) + decimal.Decimal(int(mi)) / 2 ** int(pi)) / 2).exp()
            for ci, mi, pi in zip(c, mantissa, p, strict=True)
        ]


@lru_cache(maxsize=8)
def _logarithmic(bits: int) -> np.ndarray:
    """The values of the codes 0 .. 2^(bits-1) - 1, each the nearest float64."""
    return np.array([0.0, *(float(v) for v in _powers(bits))])


@lru_cache(maxsize=8)
def _logarithmic_middles(bits: int) -> np.ndarray:
    """The float64 next below each midpoint: the odd codes of one bit more."""
    nearest = [(float(v), v) for v in _powers(bits + 1)[::2]]
    return np.array([f if decimal.Decimal(f) < v else math.nextafter(f, 0.0) for f, v in nearest])


def takum(bits: int, linear: bool = True) -> TakumFormat:
    """A takum of n bits.

    Raises: FormatError outside n = 8 .. 32 (linear), 8 .. 16 (logarithmic).
    """
    name = f"takum{bits}{'_linear' if linear else ''}"
    if not 8 <= bits <= (32 if linear else 16):
        raise FormatError(f"n = {bits}", where=f"format {name!r}", remedy="n = 8 .. 32 (linear), 8 .. 16 (logarithmic)")
    return TakumFormat(
        name=name, bits=bits, title=f"{bits}-bit {'linear' if linear else 'logarithmic'} takum", exact=linear, linear=linear,
        standard="libtakum; Hunhold, Takum Arithmetic, arXiv 2404.18603", source_level="read",
        module=__name__, tie="even_code",
    )  # fmt: skip


def parse(name: str) -> TakumFormat | None:
    """The takum of a name such as takum16_linear, None for names of another shape."""
    match = re.fullmatch(r"takum(\d{1,2})(_linear)?", name)
    return takum(int(match[1]), match[2] is not None) if match else None


TAKUMS: dict[str, TakumFormat] = {f.name: f for f in (takum(8), takum(16), takum(8, linear=False))}
