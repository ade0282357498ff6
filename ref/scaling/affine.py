r"""Affine integers: a scale and a zero point from the smallest and the largest element, $\hat x = s (q - z)$.

With the integer format's range qmin .. qmax (`narrow` respected) and n = qmax - qmin, float32, in this order::

    lo = min(min x, 0)              hi = max(max x, 0)          zero is always in the range, so it is represented exactly
    s  = (hi - lo) / n              s = hi / n - lo / n where hi - lo overflows
    s  = max(s, eps);  s = 1 where that is 0;  s = 2^-149 where the division underflowed to 0
    z  = clamp(qmin + rint(-lo / s), qmin, qmax)                ties to even
    divide: u = x / s               mul_inverse: r = min(1 / s, FLT_MAX);  u = x * r
    q  = clamp(round(u) + z, qmin, qmax)                        round: the quantizer's, before z is added
    x^ = s * (q - z)                exact in float64

With ``zero: widen`` the zero point comes first and the range follows it, so that no code saturates and stochastic rounding stays unbiased::

    z  = clamp(floor(-lo / s), 1 where lo < 0 else 0, n - 1 where hi > 0 else n)
    s  = max(s, -lo / z, hi / (n - z))      the terms with a denominator above 0;   the zero point is qmin + z

Per tensor, row, column or group: the blocks decide. `QTensor.zero` holds z (int32) on the grid of the scales, `element_values` is q - z,
so a matrix product is that of the integers q - z under the scales: $\sum_k (q_a - z_a)(q_b - z_b)$, exact, as integer hardware computes
it after expanding the bracket.

Zero block: s = 1 (or eps), z = qmin, all codes qmin. Constant block c > 0: lo = 0, s = c / n, code qmax. NaN or infinity: s = NaN, codes of the
zero point, the block decodes to NaN. Saturation: round(u) + z may leave the range by one code and is clamped.
Gradient: straight through; the range is measured, so nothing is clipped.

Source: pytorch torch/ao/quantization/observer.py (min and max with zero included, scale, zero_point = qmin - round(min / scale)); AWQ and
GPTQ use the same pair per group of 128.
widen: cjf00000/StatQuant image_classification/preconditioner.py ScalarPreconditioner, which widens hi alone and divides by 0 where z is 0.
Source level: read (torch 2.13, UniformQuantizationObserverBase._calculate_qparams); the limits of s and the order of roundings are ours.
Pitfalls: round(x / s) + z is not round(x / s + z): for odd z the ties fall the other way; rint (half even) is not roundf; torch's eps is
2^-23 on the scale, not on the range; unsigned and signed codes differ by 2^(b-1), not by a bit pattern.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref.scaling.amax import with_apply
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import TINIEST, BlockScales, stored


def affine_scales(low: NDArray[np.float32], high: NDArray[np.float32], qmin: float, qmax: float, scale: Scale) -> BlockScales:
    """Scales and zero points of blocks with these smallest and largest elements.

    >>> made = affine_scales(np.float32([[-1, 0]]), np.float32([[2, 51]]), 0, 255, Scale("affine"))
    >>> made.values.tolist(), made.zero.tolist()
    ([[0.0117647061124444, 0.20000000298023224]], [[85, 0]])
    """
    lo, hi = np.minimum(low, np.float32(0)), np.maximum(high, np.float32(0))
    good = np.isfinite(lo) & np.isfinite(hi)
    lo, hi = np.where(good, lo, np.float32(0)), np.where(good, hi, np.float32(0))
    n = np.float32(qmax - qmin)
    with np.errstate(over="ignore", under="ignore"):
        span: NDArray = hi - lo
        s = np.where(np.isinf(span), hi / n - lo / n, np.maximum(span / n, np.where(span > 0, TINIEST, np.float32(0))))
        s = np.maximum(s, np.float32(scale.eps)).astype(np.float32)
        s = np.where(s == 0, np.float32(1), s)
        if scale.zero == "widen":
            s, steps = _widened(lo, hi, s, n)
            zero = (qmin + steps).astype(np.int32)
        else:
            zero = np.clip(qmin + np.rint(-lo / s), qmin, qmax).astype(np.int32)
    s = np.where(good, s, np.float32(np.nan)).astype(np.float32)
    made = with_apply(s, stored(s, "float32"), scale.apply)
    return BlockScales(made.codes, made.values, made.factor, made.operation, zero=zero)


def _widened(lo: NDArray, hi: NDArray, s: NDArray, n: np.float32) -> tuple[NDArray, NDArray]:
    """The widened scales, and the steps from the smallest code to zero.

    >>> s, z = _widened(np.float32([-1.1]), np.float32([2.0]), np.float32([1]), np.float32(3))
    >>> s.tolist(), z.tolist()
    ([1.100000023841858], [1.0])
    """
    z = np.clip(np.floor(-lo / s), np.where(lo < 0, np.float32(1), np.float32(0)), np.where(hi > 0, n - 1, n)).astype(np.float32)
    below = np.where(z > 0, -lo / np.maximum(z, np.float32(1)), np.float32(0))
    above = np.where(z < n, hi / np.maximum(n - z, np.float32(1)), np.float32(0))
    return np.maximum(s, np.maximum(below, above)).astype(np.float32), z
