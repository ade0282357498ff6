r"""Clipping level from the moments of the block: $a = c_2 \sqrt{\mathrm{mean}\,x^2} + c_1\,\mathrm{mean}|x|$, $s = a / q_{max}$.

QuEST clips at the multiple of the RMS that is best for a Gaussian (c_1 = 0); SAWB fits both coefficients to the best clipping level of several
distributions. float32, in this order::

    m2 = tree_sum(x * x) / n        m1 = tree_sum(|x|) / n      the defined sums of the block, row-major, ragged edges filled with +0
    a  = sqrt(m2) * c2 + m1 * c1    (a term whose coefficient is 0 is left out)
    a  = amax where a <= 0          SAWB's safety check
    s  = (a + eps) / target         target: the largest value of the element format (`narrow` respected)
    pow2 up: s = 2^ceil(log2 s)     down: s = 2^floor(log2 s)      nearest: as in amax; from exponent bits
    divide: u = x / s               mul_inverse: r = min(1 / s, FLT_MAX);  u = x * r

`rms` is c2, `mean` is c1. Squares that overflow make the whole block NaN. Zero block: s = eps / target, or 1 where that is 0; codes of
zero (of 1 in formats without one). NaN or infinity: s = NaN, the block decodes to NaN. Elements beyond a saturate: that is what the rule is for.

SAWB, symmetric with a zero level, 2^b - 1 levels: b = 2: c2 = 2.6, c1 = -1.71; 4: 12.035, -12.03; 7: 28.24, -30.81; 8: 31.76, -35.04. Without a
zero level (2^b levels, formats midrise): b = 2: 3.12, -2.064; 3: 7.509, -6.892; 4: 12.68, -12.80; 5: 17.74, -18.64.
QuEST, of midrise formats: b = 1: .7978845587140913, 2: 1.4935346200015913, 3: 2.051068354131873, 4: 2.513930578568423, 5: 2.9160938834961225,
6: 3.276597282593217, 7: 3.6010497188221655, 8: 3.884938678807525.

Scalify's data over scale is c2 = 1, target 1, pow2 down: the scale is the RMS rounded down to a power of two, and elements lie around 1
(graphcore-research/jax-scalify jax_scalify/ops/rescaling.py dynamic_rescale_l2; arXiv 2407.17353).

Gradient: QuEST a trust mask, SAWB clipped straight-through; none through a.
Source: SAWB, arXiv 1807.06964; foundation-model-stack/fms-model-optimizer fms_mo/quant/quantizers.py, sawb_params and sawb_params_code. QuEST,
arXiv 2502.05003; IST-DASLab/QuEST src/models/quantization/base_linear.py, OPTIMAL_GAUSSIAN_SCALES.
Source level: read (the codes).
Deviation: QuEST divides by its step 2 s, rounds, and multiplies; here s multiplies the odd integers, so values may differ in the last bits.
Pitfalls: the RMS is not the standard deviation (no mean is subtracted); SAWB's coefficients belong to the number of levels, not of bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref.scaling.amax import with_apply
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales, power_of_two, stored
from lpref.ref.scaling.statistics import block_mean


def moments_scales(x: NDArray[np.float32], block: tuple[int, int], amax: NDArray[np.float32], target: float, scale: Scale) -> BlockScales:
    """Scales of the blocks of x [R, C] whose largest magnitudes are `amax`.

    >>> moments_scales(np.float32([[3, -3, 3, -3]]), (1, 2), np.float32([[3, 3]]), 6.0, Scale("moments", rms=2.0)).values.tolist()
    [[1.0, 1.0]]
    """
    level: NDArray = np.zeros(amax.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if scale.rms:
            level = np.sqrt(block_mean(x * x, block)) * np.float32(scale.rms)
        if scale.mean:
            level = level + block_mean(np.abs(x), block) * np.float32(scale.mean)
        level = np.where(level <= 0, amax, level)
        s = (level + np.float32(scale.eps)) / np.float32(target)
        if scale.pow2 != "none":
            s = power_of_two(s, scale.pow2)
        s = np.where(s == 0, np.float32(1), np.where(np.isfinite(s) & np.isfinite(amax), s, np.float32(np.nan))).astype(np.float32)
    return with_apply(s, stored(s, "float32"), scale.apply)
