r"""flag8: WAGEUBN's 8-bit integers with a flag that divides them by 128: integers above 1, fractions of 1/128 below.

    code = flag 256 + sign 128 + i;   value = (-1)^sign i           flag 0, i = 1 .. 127
                                            (-1)^sign i / 128       flag 1, i = 0 .. 127

In order: steps of 1/128 up to 127/128, then the integers 1 .. 127. i = 0 without a flag is spare, and so is the negative zero: both are NaN.
Below 1 the error is at most 1/256, above at most 1/2: with u the unit of the tensor, u 2^-8 for what would vanish in 8 bits.

Ties are between neighbours, to the even code under `nearest_even` (round half to even in both parts; between 127/128 and 1 too).
Gradient: straight through: this format is for the gradients that flow back.

Source: yang-yk/wageubn Quantize.py, the flag quantizer of errors before batch normalization (read); arXiv 1909.02384, eq. for Q_E2 (k = 8).
Pitfalls: 8 stored bits and the flag are 9; clipping is to +-127 units, so the largest element may lose up to sqrt(2) where the unit is
2^round(log2 amax) / 128.

>>> FLAG8.round([0.3, 0.001, 0.9999, 5.4, -200.0]).tolist()
[0.296875, 0.0, 1.0, 5.0, -127.0]
"""

from __future__ import annotations

from lpref.ref.formats.codebook import CodebookFormat

_WHOLE = (float("nan"), *(float(i) for i in range(1, 128)))
_PARTS = tuple(i / 128 for i in range(128))

FLAG8 = CodebookFormat(
    name="flag8", bits=9, title="8-bit integers, fractions of 1/128 under a flag", tie="even_code", source_level="read", module=__name__,
    standard="WAGEUBN, arXiv 1909.02384; yang-yk/wageubn Quantize.py",
    values=(*_WHOLE, *(-v for v in _WHOLE), *_PARTS, float("nan"), *(-v for v in _PARTS[1:])),
)  # fmt: skip


def parse(name: str) -> CodebookFormat | None:
    """``flag8``; None for other names."""
    return FLAG8 if name == "flag8" else None
