r"""hif8: HiFloat8, Huawei's 8-bit tapered float with a prefix-coded "dot" field.

sign, dot D (prefix code), exponent (D bits, sign and magnitude with a hidden leading 1), mantissa (the rest, w bits):

    dot    11   10   01   001   0001   0000
    D       4    3    2    1     0     denormal
    |E|   8-15  4-7  2-3   1     0
    w       1    2    3    3     3

    value = (-1)^S 2^E (1 + m 2^-w);     exponent bits: the sign of E (1: negative), then |E| without its leading 1
    denormal: 3 bits M: (-1)^S 2^(M - 23), M = 1 .. 7 (no mantissa); 00 is zero

80 is NaN, 6F and EF (E = 15, m = 1) are the infinities; one zero, no -0. 253 finite values, max 2^15 = 32768, smallest
2^-22, 1.0 = 08; 3 mantissa bits for |E| <= 3, 2 up to 7, 1 up to 15, none below 2^-15 (`min_normal`).

Rounding to nearest takes ties away from zero (TA, the format's only nearest mode), at the arithmetic mean of the
neighbours, so 2^-23 goes to 2^-22; a value of at least 1.25 2^15 = 40960 rounds beyond max: infinity under
`to_infinity` and `ocp_nonsat` (what the official code does), max under `saturate`. -0 -> 0.
Stochastic roundings use the caller's words here. The paper's hybrid rounding for the backward pass, TA where |E| is
small and a simplified stochastic rounding elsewhere, takes its "random" threshold from the low 14 bits of the float32
source itself; it is not a rounding of this library.
Gradient: straight through.

Source: Huawei's own implementations, read: en_dtypes 0.0.4 (include/hifloat8.h) and CANN ge base/common/math/hif8_t.cc,
which agree with each other; en_dtypes run: equal codes on all 2^16 float16 and 8.4 million float32 values. arXiv
2409.16626 is the definition; its text only through these and a summary.
Pitfalls: the exponent is sign-magnitude, so the order of codes is not the order of values (7F = 1.5 2^-15 is below 08 =
1): encode by table. en_dtypes reads float64 through float32 (double rounding), and its saturating template still gives
infinity for 40960 <= |x| < 49152.

>>> HIF8.decode([0x08, 0x01, 0x7E, 0x6E, 0x6F, 0x80]).tolist()
[1.0, 2.384185791015625e-07, 3.0517578125e-05, 32768.0, inf, nan]
>>> [hex(c) for c in HIF8.encode([1.0625, 40959, 40960, 2**-23, -0.0], overflow="ocp_nonsat").tolist()]
['0x9', '0x6e', '0x6f', '0x1', '0x0']
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

from lpref.ref.formats.codebook import CodebookFormat

_DOTS = ((0b11, 2, 4), (0b10, 2, 3), (0b01, 2, 2), (0b001, 3, 1), (0b0001, 4, 0))  # prefix, its length, D


def value(code: int) -> float:
    """The value of a code.

    >>> value(0b0_11_1_111_0), value(0b1_0001_100)
    (3.0517578125e-05, -1.5)
    """
    if code in (0x80, 0x6F, 0xEF):
        return {0x80: nan, 0x6F: inf, 0xEF: -inf}[code]
    sign, string = (-1.0 if code >> 7 else 1.0), code & 0x7F
    for prefix, length, d in _DOTS:
        if string >> (7 - length) == prefix:
            w = 7 - length - d
            field, m = (string >> w) & (2**d - 1), string & (2**w - 1)
            magnitude = (field & (2 ** (d - 1) - 1) | 2 ** (d - 1)) if d else 0
            exponent = -magnitude if d and field >> (d - 1) else magnitude
            return sign * 2.0**exponent * (1 + m * 2.0**-w)
    return sign * 2.0 ** (string - 23) if string else 0.0


@dataclass(frozen=True, kw_only=True)
class HiF8Format(CodebookFormat):
    """A code book with a range of full precision."""

    @property
    def min_normal(self) -> float:
        return 2.0**-15

    @property
    def min_subnormal(self) -> float:
        return 2.0**-22


HIF8 = HiF8Format(
    name="hif8", bits=8, title="HiFloat8", standard="en_dtypes 0.0.4 include/hifloat8.h; HiFloat8, arXiv 2409.16626",
    source_level="read", module=__name__, tie="away", values=tuple(value(c) for c in range(256)), beyond=1.5 * 2.0**15,
)  # fmt: skip
