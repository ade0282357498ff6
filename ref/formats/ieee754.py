r"""float64, float32, binary16: the IEEE 754 interchange formats.

    value = (-1)^s 2^(e - bias) (1 + m 2^-M) (normal),  (-1)^s 2^(1 - bias) m 2^-M (e = 0);
    e all ones: infinity (m = 0), NaN

| format   | E  | M  | bias | max                    | min normal | min subnormal |
|----------|----|----|------|------------------------|------------|---------------|
| float64  | 11 | 52 | 1023 | (2 - 2^-52) 2^1023     | 2^-1022    | 2^-1074       |
| float32  | 8  | 23 | 127  | (2 - 2^-23) 2^127      | 2^-126     | 2^-149        |
| binary16 | 5  | 10 | 15   | 65504                  | 2^-14      | 2^-24         |

Distinct finite values (+0 = -0): 2^64 - 2^53 - 1, 2^32 - 2^24 - 1, 63487. Infinities 7C00 and FC00 in binary16; NaN are
the other codes with e all ones, 2046 of them there. The canonical NaN is the positive quiet one with an empty payload
(7E00 in binary16); payloads are not kept.
Gradient: the identity.

Source: IEEE 754-2019, table 3.5 and sec. 3.4 (not read; every constant compared with NumPy's types).
Pitfalls: `saturate` is the default overflow here, so that 65520 becomes 65504; the arithmetic of IEEE 754 is
`overflow="to_infinity"`. float64 to binary16 through float32 rounds twice: 1 + 2^-11 + 2^-40 is 1.000977, torch says 1.

>>> [hex(c) for c in BINARY16.encode([1.0, 1 + 2**-11 + 2**-40, 65520.0, 2**-25]).tolist()]
['0x3c00', '0x3c01', '0x7bff', '0x0']
>>> hex(BINARY16.encode(65520.0, overflow="to_infinity"))
'0x7c00'
"""

from __future__ import annotations

from lpref.ref.formats.floats import FloatFormat, exmy


def _ieee(name: str, e: int, m: int, title: str) -> FloatFormat:
    return exmy(name, e, m, title=title, standard="IEEE 754-2019, table 3.5", source_level="secondary", module=__name__)


FLOAT64 = _ieee("float64", 11, 52, "IEEE 754 binary64")
FLOAT32 = _ieee("float32", 8, 23, "IEEE 754 binary32")
BINARY16 = _ieee("binary16", 5, 10, "IEEE 754 binary16 (half)")
