r"""nf4, bnb_fp4: the 4-bit code books of QLoRA.

    nf4:     16 quantiles of the normal distribution, code = rank, -1 .. 1, asymmetric (8 positive, 7 negative)
    bnb_fp4: magnitudes by code 0 .. 7: (0, .0625, 8, 12, 4, 6, 2, 3) / 12 in float32, code + 8 negative

nf4: x goes to the nearest value, ties down (bitsandbytes' kernel compares `x > midpoint`). bnb_fp4: ties toward zero;
negative values that round to zero get code 8 (-0). Both expect x / absmax of a block (64 values, a float32 absmax),
|x| <= 1, and have no NaN. The first and last threshold of nf4 are -.8480964 and .8614784.
bitsandbytes' "int4" is 7 .. -7 over 7: int4 with a narrow range here. "af4" has its own page.
Gradient: none where the base is frozen (QLoRA), straight through where it is trained.

Source: bitsandbytes functional.py get_4bit_type, csrc/kernels.cu dQuantizeNF4 and dQuantizeFP4 (read); QLoRA, arXiv 2305.14314.
Pitfalls: midpoints here are exact means; bitsandbytes compares with their float32 roundings, so on the one float32
nearest to a midpoint that float32 cannot hold the codes may differ by one (6 such inputs, enumerated in the tests).
bnb_fp4 is not e2m1: its codes are not in order and .0625/12 is its smallest value; bitsandbytes sends -0.0 to 0.

>>> NF4.encode([-1, 0, 1, -0.8, 0.9]).tolist()
[0, 7, 15, 1, 15]
>>> BNB_FP4.encode([1.0, -1.0, 0.5, 0.001, -0.001]).tolist()
[3, 11, 5, 0, 8]
"""

from __future__ import annotations

import numpy as np

from lpref.ref.formats.codebook import CodebookFormat

NF4 = CodebookFormat(
    name="nf4", bits=4, title="NormalFloat4", standard="bitsandbytes functional.py get_4bit_type; arXiv 2305.14314",
    source_level="read", module=__name__, tie="down",
    values=(
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ),
)  # fmt: skip

_TWELFTHS = np.array([0.0, 0.0625, 8, 12, 4, 6, 2, 3], np.float32) / np.float32(12)
BNB_FP4 = CodebookFormat(
    name="bnb_fp4", bits=4, title="bitsandbytes FP4", standard="bitsandbytes functional.py get_4bit_type",
    source_level="read", module=__name__, tie="toward_zero",
    values=tuple(float(v) for v in np.concatenate([_TWELFTHS, -_TWELFTHS])),
)  # fmt: skip
