r"""midrise{b}: the odd integers -(2^b - 1), ..., -3, -1, 1, 3, ..., 2^b - 1: a uniform grid without a zero.

Code c is the value (2^b - 1) - 2 c, so code 0 is the largest (as in `binary`, code 0 = +1). With a scale s: steps of 2 s, the outermost level at
(2^b - 1) s. b = 1 .. 8. QuEST's grid, and SAWB's with 2^b levels.

Ties, the even integers but 0, go to the even code; that is where q = (round(x / step + 1/2) - 1/2) step puts them with round half to even.
Zero has no sign here: +0 and -0 become 1, as in every format without a zero. Beyond the outermost levels is an overflow; no NaN.

Source: QuEST, arXiv 2502.05003; IST-DASLab/QuEST src/models/quantization/base_linear.py, centered quantizers.
Source level: read.
Gradient: the recipe's rule (QuEST: a trust mask).
Deviation: QuEST's formula sends 0 to -1.
Pitfalls: zeros (padding, ReLU) become half a step; mid-rise grids have no code for "off".

>>> midrise(2).decode([0, 1, 2, 3]).tolist()
[3.0, 1.0, -1.0, -3.0]
>>> midrise(2).decode(midrise(2).encode([-2.0, 0.0, 2.0, -0.1, 9.0])).tolist()
[-1.0, 1.0, 3.0, -1.0, 3.0]
"""

from __future__ import annotations

import re
from functools import cache

from lpref.ref.errors import FormatError
from lpref.ref.formats.codebook import CodebookFormat


@cache
def midrise(bits: int) -> CodebookFormat:
    """midrise{bits}. Raises: FormatError outside 1 .. 8 bits."""
    if not 1 <= bits <= 8:
        raise FormatError(f"bits = {bits} is not in 1 .. 8", where=f"format 'midrise{bits}'")
    top = 2**bits - 1
    return CodebookFormat(
        name=f"midrise{bits}", bits=bits, title=f"{bits}-bit odd integers", tie="even_code", source_level="read", module=__name__,
        standard="QuEST, arXiv 2502.05003", values=tuple(float(top - 2 * c) for c in range(2**bits)),
    )  # fmt: skip


def parse(name: str) -> CodebookFormat | None:
    """The format of a name midrise{b}, None for other names."""
    found = re.fullmatch(r"midrise(\d+)", name)
    return midrise(int(found[1])) if found else None


MIDRISE4 = midrise(4)
