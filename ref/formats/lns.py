r"""lns8_g8 and the family lns{B}_g{gamma}: a sign and a logarithm to the base 2^(1/gamma).

    value = (-1)^s 2^(-k / gamma),   k = 0 .. 2^(B-1) - 1,   code = s 2^(B-1) + k,   gamma a power of two

The largest magnitude is 1 (k = 0), the smallest 2^(-(2^(B-1) - 1) / gamma): 2^-15.875 in lns8_g8. Meant to be used with
a scale per tensor or channel, the largest magnitude there. The paper counts the exponent upward from a scale that
stands for the smallest magnitude; with scales that are free the two are the same format.

Rounding is to nearest **in log space**: x goes to k = round(-gamma log2 |x|), clamped, that is, the midpoint of two
neighbours is their geometric mean 2^(-(2 k + 1) / (2 gamma)). It is irrational, so no float is ever a tie, and it is
compared exactly (integer square roots). The relative error inside the range is at most 2^(1 / (2 gamma)) - 1.

Zero: the paper uses all 2^B codes for nonzero values, and the sign function of its formula has nowhere to put zero. So
lns8_g8 has no zero: 0 becomes the smallest magnitude with a plus sign (-0 as well), like every |x| below it. The
variant lns8_g8_zero gives the code k = 2^(B-1) - 1 to zero (with s = 1: to -0): what would have rounded to that
magnitude or below becomes zero. No NaN, no infinity; |x| > 1 is an overflow, and there is no half step beyond 1.

decode: the values are irrational unless gamma divides k; `decode` gives their correct rounding to float64, `exact` is
False. Products are exact in codes: `multiply` adds k. Sums are not, they need tables of log2(1 + 2^-d).

Defaults of the paper: B = 8, gamma = 8 in the forward and backward pass, finer for the weight update, whose steps the
optimizer rounds to integers in the log domain (the published optimizer: steps of 2^(1/128)): |w| <- |w| 2^(-eta sgn(w) g*),
g* = g / sqrt(EMA(g^2)). The width of the update's quantizer, 16 bits, is from memory. Gradient: straight through.

Source: LNS-Madam, arXiv 2106.13914 (the multi-base definition and its quantizer: from memory, abstract read); the
published optimizer jiaweizzhao/lns-madam-optimizer lns_madam.py (read: it holds no format; a weight of zero stays zero,
since torch.sign(0) = 0; g* is clamped to +-10 and rounded to integers, the step is lr = 1/128). Logarithmic data:
arXiv 1603.01025 (sends 0 to 0, as lns*_zero does).
Pitfalls: rounding in log space is not nearest in value (in lns8_g8 what lies between the two means of 1 and 2^(-1/8),
.9576 and .9585, goes to 1, which is farther); log2(0); a rounded float log2 goes wrong next to
thresholds; a sparse tensor comes back without its zeros in lns8_g8.

>>> f = lns(8, 8)
>>> f.encode([1.0, -1.0, 0.5, 0.95, 0.96, 1e-9, 0.0]).tolist()
[0, 128, 8, 1, 0, 127, 127]
>>> [float(v) for v in f.decode([8, 4, 127])]
[0.5, 0.7071067811865476, 1.6639827463764308e-05]
>>> lns(8, 8, zero=True).round([1e-9, -0.25]).tolist()
[0.0, -0.25]
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lpref.ref.errors import FormatError
from lpref.ref.formats.inexact import InexactCodebook


@dataclass(frozen=True, kw_only=True)
class LnsFormat(InexactCodebook):
    """A member of the family; see the module's page."""

    gamma: int
    zero: bool = False


@lru_cache(maxsize=8192)
def power_of_root(j: int, n: int, bits: int) -> int:
    """floor(2^(j / n) 2^bits) for n a power of two, by repeated integer square roots.

    >>> power_of_root(1, 2, 20) / 2**20, power_of_root(4, 4, 3)
    (1.4142131805419922, 16)
    """
    root = 1 << (j + n * bits)
    while n > 1:  # floor(sqrt(floor(y))) = floor(sqrt(y))
        root, n = math.isqrt(root), n // 2
    return root


def _float(j: int, n: int, nearest: bool) -> float:
    """2^(-j / n) in float64: correctly rounded, or the float64 at or next below it."""
    whole, rest = divmod(-j, n)
    if rest == 0:
        return math.ldexp(1.0, whole)
    floor = power_of_root(rest, n, 53)  # 54 bits of an irrational number: the last one decides
    return math.ldexp((floor + nearest) >> 1, whole - 52)


@lru_cache(maxsize=64)
def lns(bits: int, gamma: int, zero: bool = False) -> LnsFormat:
    """lns{bits}_g{gamma}, lns{bits}_g{gamma}_zero.

    Raises: FormatError unless 3 <= bits <= 16, gamma is a power of two up to 2^(bits - 1), and all values are normal.
    """
    name = f"lns{bits}_g{gamma}{'_zero' if zero else ''}"
    count = 1 << (bits - 1)
    if not 3 <= bits <= 16 or gamma < 1 or gamma & (gamma - 1) or not count // 1000 <= gamma <= min(count, 1024):
        raise FormatError(
            f"bits = {bits}, gamma = {gamma} make no format", where=f"format {name!r}",
            remedy="3 .. 16 bits, gamma a power of two, exponents (2^(bits-1) - 1) / gamma below 1000",
        )  # fmt: skip
    magnitudes = [_float(k, gamma, True) for k in range(count)]
    middles = [_float(2 * k + 1, 2 * gamma, False) for k in range(count - 1)][::-1]  # ascending
    if zero:
        magnitudes[-1] = 0.0
    around_zero = [] if zero else [0.0]  # never asked: no x between the two smallest has a neighbour
    listed = [-m for m in reversed(middles)] + around_zero + middles
    return LnsFormat(
        name=name, bits=bits, gamma=gamma, zero=zero, module=__name__, source_level="memory",
        title=f"{bits}-bit logarithmic numbers, base 2^(1/{gamma}){', with a zero' if zero else ''}",
        standard="LNS-Madam, arXiv 2106.13914, sec. 3 (multi-base LNS)", tie="toward_zero",
        values=tuple(magnitudes + [-m for m in magnitudes]), middles=tuple(listed), ties=(False,) * len(listed),
    )  # fmt: skip


def multiply(f: LnsFormat, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Codes of the products, exact where the exponent fits: k = k_a + k_b, clamped to the largest; signs multiply.

    >>> f = lns(8, 8)
    >>> multiply(f, np.uint8([4, 130]), np.uint8([4, 3])).tolist()
    [8, 133]
    """
    top = (1 << (f.bits - 1)) - 1
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    k, sign = (a & top) + (b & top), (a ^ b) & (top + 1)
    if f.zero:
        k = np.where(((a & top) == top) | ((b & top) == top), top, k)
    return (np.minimum(k, top) | sign).astype(f.code_dtype)


def parse(name: str) -> LnsFormat | None:
    """The format of a family name, None for names of another shape.

    >>> parse("lns16_g128").bits, parse("lns8")
    (16, None)
    """
    match = re.fullmatch(r"lns(\d{1,2})_g(\d{1,4})(_zero)?", name)
    return None if match is None else lns(int(match[1]), int(match[2]), match[3] is not None)


LNS8_G8 = lns(8, 8)
LNS8_G8_ZERO = lns(8, 8, zero=True)
