r"""posit{n}_{es}: posits of n bits with es exponent bits, tapered precision by a regime. posit8_2 is the 2022 standard's.

sign, regime, exponent (es bits), fraction; a negative one is the two's complement of its magnitude. The regime is a run
of equal bits, ended by the opposite one or by the end of the string; bits beyond the end are 0:

    k = (length of the run) - 1 for ones, -(length) for zeros
    value = (1 + f) 2^(k 2^es + e),     0 = 0..0,     NaR = 10..0
    max = 2^((n-2) 2^es),   smallest positive = 1 / max

posit4_1: 1/16 1/4 1/2 1 2 4 16; posit4_0: 1/4 1/2 3/4 1 3/2 2 4. Others (max, spacing above 1): posit8_0 (64, 2^-5), posit8_1 (4096, 2^-4), posit8_2
(2^24, 2^-3), posit16_1 (2^28, 2^-12), posit16_2 (2^56, 2^-11). Here n = 2 .. 32, es = 0 .. 5, as far as float64 holds the
values of one bit more: (n-1) 2^es <= 1023.

Rounding is on the bit string, to the nearest, ties to the even code; never to 0 or to NaR (all of it on the page of
`tapered`, directed and stochastic roundings too). posit8_0: 48, the midpoint of 32 and 64, goes to 32; posit4_1: the
midpoint of 4 and 16 is 8, not 10. The standard's conversion is overflow="posit": |x| > max -> max, infinity and NaN ->
NaR; under `saturate` infinity becomes max.

Exact dot products: `lpref.ref.linalg.quire`.
Gradient: straight through; no value underflows to zero, so neither do its products. XR-NPE uses posit4_1, posit8_0, posit16_1.

Source: Standard for Posit Arithmetic (2022), sec. 3 and 4 (es = 2 there; read through SoftPosit and this page's peer
test, which runs softposit 0.3.4.4); Gustafson and Yonemoto 2017 for other es.
Pitfalls: SoftPosit's posit8 is es = 0, posit16 es = 1, posit32 es = 2 (before the standard); posit_2 is es = 2.
qtorch_plus refuses es = 0, and XR-NPE's training code turns it into es = 1, so its published "posit(8,0)" runs are
posit(8,1); its "posit4 / posit8" files of Gaze-LLE are uniform quantizers of 16 and 256 levels on [-16, 16], no posits.

>>> f = parse("posit8_0")
>>> f.max, f.round([1e-9, 1e9, 48.0, -3.2]).tolist(), f.encode([1.0, -1.0, 0.0]).tolist()
(64.0, [0.015625, 64.0, 32.0, -3.25], [64, 192, 0])
>>> parse("posit4_1").decode(range(8)).tolist()
[0.0, 0.0625, 0.25, 0.5, 1.0, 2.0, 4.0, 16.0]
>>> f.encode([float("inf"), 1e9], overflow="posit").tolist()
[128, 127]
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from lpref.ref.errors import FormatError
from lpref.ref.formats.tapered import TaperedFormat


@dataclass(frozen=True, kw_only=True)
class PositFormat(TaperedFormat):
    """posit(n, es)."""

    es: int

    def _magnitude(self, codes: np.ndarray, bits: int) -> np.ndarray:
        codes = np.asarray(codes, np.uint64).astype(np.int64)
        length = bits - 1  # of the string behind the sign
        ones = (codes >> (length - 1)) & 1 == 1
        other = np.where(ones, ~codes & (2**length - 1), codes)  # the run as leading zeros
        run = length - np.frexp(other.astype(np.float64))[1].astype(np.int64)
        k = np.where(ones, run - 1, -run)
        rest = np.maximum(length - run - 1, 0)  # bits behind the regime and its end
        tail = codes & ((1 << rest) - 1)
        stored = np.minimum(rest, self.es)
        fraction_bits = rest - stored
        e = (tail >> fraction_bits) << (self.es - stored)
        significand = (tail & ((1 << fraction_bits) - 1)) + (1 << fraction_bits)
        values = np.ldexp(significand.astype(np.float64), k * 2**self.es + e - fraction_bits)
        return np.where(codes == 0, 0.0, values)


def posit(bits: int, es: int) -> PositFormat:
    """posit(n, es).

    Raises: FormatError outside n = 2 .. 32, es = 0 .. 5, (n-1) 2^es <= 1023.
    """
    name = f"posit{bits}_{es}"
    if not (2 <= bits <= 32 and 0 <= es <= 5 and (bits - 1) * 2**es <= 1023):
        raise FormatError(
            f"n = {bits}, es = {es}", where=f"format {name!r}", remedy="n = 2 .. 32, es = 0 .. 5, (n-1) 2^es <= 1023"
        )
    return PositFormat(
        name=name, bits=bits, title=f"posit({bits}, {es})", source_level="secondary", module=__name__, tie="even_code", es=es,
        standard="Standard for Posit Arithmetic (2022), sec. 3-4" if es == 2 else "Gustafson and Yonemoto 2017, posits before the standard",
    )  # fmt: skip


def parse(name: str) -> PositFormat | None:
    """The posit of a name such as posit8_2, None for names of another shape."""
    match = re.fullmatch(r"posit(\d{1,2})_(\d)", name)
    return posit(int(match[1]), int(match[2])) if match else None


POSITS: dict[str, PositFormat] = {
    f.name: f for f in (posit(4, 1), posit(8, 0), posit(8, 1), posit(8, 2), posit(16, 1), posit(16, 2))
}
