r"""af4: AbnormalFloat4, the 4-bit code book that minimizes the expected absolute error of blocks scaled by absmax.

    16 values, code = rank, -1 .. 1, with 0; for blocks of 64. x / absmax goes to the nearest value, ties down.

NF4 divides the normal distribution itself into equal parts, although x / absmax of a block is not normal: it has mass
1 / (2 B) at each of +-1 and is squeezed between. af4 takes the distribution F of x / absmax for the block size B,

    F(x) = 1 / (2 B) + (B - 1) / B  Int_0^inf P(z < m x given |z| < m) p_absmax(m) dm,

and chooses codes that are medians of their cells, F(c_i) - F((c_(i-1) + c_i) / 2) = F((c_i + c_(i+1)) / 2) - F(c_i)
for the six codes between -1 and 0 and, separately, the seven between 0 and 1, where the cell of the code next to 0 ends
at 0 itself; -1, 0 and 1 are kept.
The values are the published eight decimals, read as float32.

Ties: the author's code takes the first of equal distances in the ascending list, so the lower value.
Gradient: as nf4.
Source: NF4 isn't information theoretically optimal (and that's good), arXiv 2306.06965; its code
davisyoshida/abnormal-floats generate_af4.py and transform.py (read); the values for block 64 as in bitsandbytes
functional.py get_4bit_type("af4") (read), which the tests recompute from the definition.
Pitfalls: bitsandbytes lists the values from 1 down to -1, so its code 0 is +1 (here it is -1); every block size has its
own code book, this one is for 64; a smaller expected error of the weights did not make better language models, which is
the note's point.

>>> AF4.encode([-1, 0, 1, -0.84720504, 0.02]).tolist()
[0, 7, 15, 1, 7]
"""

from __future__ import annotations

import numpy as np

from lpref.ref.formats.codebook import CodebookFormat

_PUBLISHED = (
    -1.0, -0.69441008, -0.51243739, -0.3736951, -0.25607552, -0.14982478, -0.04934812, 0.0,
    0.04273164, 0.12934483, 0.21961274, 0.31675666, 0.42563882, 0.55496234, 0.72424863, 1.0,
)  # fmt: skip

AF4 = CodebookFormat(
    name="af4", bits=4, title="AbnormalFloat4 for blocks of 64", tie="down", source_level="read", module=__name__,
    standard="arXiv 2306.06965; davisyoshida/abnormal-floats generate_af4.py",
    values=tuple(float(np.float32(v)) for v in _PUBLISHED),
)  # fmt: skip
