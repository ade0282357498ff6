r"""WAGE's constant scale of a layer: a power of two that stands for the initial range of its weights.

With K the length of the contraction axis (fan-in) and v = `value`, the step of the element format (1/2 for 2-bit weights)::

    limit = sqrt(3 / K)                                  of a uniform initialization of variance 1 / K
    alpha = max(1, 2^round(log2(3/2 v / limit)))         v = 1/2 for weights of 2 bits
    s     = v / alpha                                    one for the tensor;  u = x / s with x in units of v: u = x / v

The elements are those of x / v (the weight itself is never scaled: it is kept in [-1, 1]); only the decoded value is divided by alpha. So
the quantizer of a weight w gives round(w / v) v / alpha.

2^round(log2 r): r^2 is compared with 2 4^e, exact for powers of two v; no logarithm. Zero tensor: s as for any. NaN is an error for integers
(the overflow preset), infinity saturates.
Gradient: straight through with respect to w / alpha; the published code passes the gradient of the product to w unscaled, and normalizes it.

Source: boluoweifenda/WAGE myInitializer.py scaleLimit (beta 1.5, factor 1, FAN_IN, uniform), Quantize.py W (scale > 1.8).
Source level: read.
Pitfalls: alpha is a property of the shape, so a contraction along another axis than the fan-in must reuse the codes.
"""

from __future__ import annotations

import numpy as np

from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales, stored


def alpha(k: int, v: float = 0.5) -> float:
    """The layer constant of fan-in `k` with elements of step `v`: r = 3/2 v / limit, r^2 = 3/4 v^2 k.

    round(log2 r) >= e + 1 where r >= 2^(e + 1/2), so where r^2 >= 2 4^e.

    >>> [alpha(k) for k in (1, 10, 11, 42, 43, 1152)]
    [1.0, 1.0, 2.0, 2.0, 4.0, 16.0]
    """
    e = 0
    while 2 * 4**e <= 3 / 4 * v * v * k:
        e += 1
    return 2.0**e


def fan_in_scales(k: int, grid: tuple[int, int], scale: Scale) -> BlockScales:
    """The scale of the one block of a tensor with contraction length `k`.

    >>> fan_in_scales(1152, (1, 1), Scale("fan_in", value=0.5)).values.tolist()
    [[0.03125]]
    """
    v = np.float32(scale.value)
    s = np.full(grid, v / np.float32(alpha(k, scale.value)), np.float32)
    return BlockScales(stored(s, "float32"), s, np.full(grid, v, np.float32), "divide")
