r"""A power of two near the block's standard deviation: $X = 2^{\lfloor \log_2(c\,\sigma + \epsilon) \rfloor}$ (Quartet's forward quantizer).

float32, in this order, over the n elements of a block::

    m2 = tree_sum(x * x) / n        m = tree_sum(x) / n         the defined sums, row-major, ragged edges filled with +0
    v  = max(m2 - m * m, 0)         sigma = sqrt(v)
    e  = floor(log2(sigma * c + eps)), clamped to [-127, 127]   from frexp; stored as E8M0
    u  = x / X                                                  elements beyond the format's range saturate

`std` is c: for E2M1 2.92247856 / 6, the scale with the least error for a Gaussian, whose largest |u| is then about 6.
Zero or constant block: sigma = 0, X from eps (e = -127 where that is 0). NaN or infinity, or squares that overflow: code 0xFF, the block
decodes to NaN.
Gradient: zero where |u| >= qmax, in the basis in which the block was measured; none through X.

Source: arXiv 2505.14669, sec. 4.2; IST-DASLab/Quartet src/models/quantization/quantizers/mxfp4_triton.py (read).
Source level: read.
Deviation: the kernel sums in the order of a Triton reduction, and takes the square root of a difference that rounding may make negative
(NaN); here it is 0.
Pitfalls: the standard deviation has the mean removed, QuEST's integer quantizer has the RMS (page `moments`); floor here, though the block may clip.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref import reduce
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales
from lpref.ref.scaling.statistics import block_mean


def deviation_scales(x: NDArray[np.float32], block: tuple[int, int], scale: Scale, tree_sum: Any = reduce.tree_sum) -> BlockScales:
    """Scales of the blocks of x [R, C]; E8M0 codes. tree_sum: the definition, or a backend's kernel with its bits.

    >>> deviation_scales(np.float32([[3, -3, 3, -3]]), (1, 4), Scale("deviation", format="e8m0", std=0.5)).values.tolist()
    [[1.0]]
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        mean = block_mean(x, block, tree_sum)
        variance = block_mean(x * x, block, tree_sum) - mean * mean
        level = np.sqrt(np.maximum(variance, np.float32(0))) * np.float32(scale.std) + np.float32(scale.eps)
    good = np.isfinite(level)
    exponent = np.frexp(np.where(good, level, np.float32(1)))[1] - 1
    e = np.where(level == 0, -127, np.clip(exponent, -127, 127)).astype(np.int32)
    codes = np.where(good, e + 127, 255).astype(np.uint8)
    values = np.where(good, np.ldexp(np.float32(1), e), np.float32(np.nan)).astype(np.float32)
    return BlockScales(codes, values, values, "divide")
