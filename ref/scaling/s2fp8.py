r"""S2FP8: FP8 after a shift and a squeeze of the logarithm, $y = \mathrm{sgn}(x) \, 2^\beta |x|^\alpha$, stored as E5M2.

Per tensor, over its nonzero elements, float32 after every operation, log2 and exp2 the defined functions of `lpref.ref.elementary`::

    L     = log2|x|                                 0 where x = 0
    mu    = (sum of L) / (number of nonzero x)      the defined sum, row-major
    m     = max L
    alpha = t / (m - mu)                            t = log2(target) = 15;  alpha = 1 where m = mu
    beta  = -(alpha * mu)
    y     = sgn(x) exp2(alpha * L + beta)           0 where x = 0
    code  = e5m2(y)

so log2|y| has mean 0 and largest value 15 (2^15 is half of what E5M2 holds). Decoding, float64, the same functions::

    x^ = sgn(y) exp2((log2|y| - beta) / alpha)      0 where y = 0

`QTensor.aux` holds alpha and beta (float32). The map is not linear: a product decodes its operands first (`QTensor.linear` is False).

Zero tensor: alpha = 1, beta = 0, zero codes. Constant magnitude: alpha = 1, y = 1 everywhere. NaN or infinity: alpha = beta = NaN, codes of zero,
the whole tensor decodes to NaN. Saturation: y reaches 2^15 and a few roundings at most.
Gradient: straight through; gradients are stored like other tensors.

Source: Cambier et al., arXiv 2001.05674, sec. 3.2, eq. 1-4 ("a maximum value within the dynamic range of FP8 (e.g. 15)"), sec. 4.1, eq. 5
(E5M2, nearest even; accumulation and master weights FP32).
Source level: read; alpha for a tensor of one magnitude (m = mu, a division by zero in eq. 4) is our choice, as is float32 for every step.
Pitfalls: zeros must stay out of the mean; alpha < 1 squeezes, so that rounding y by 2^-3 is an error of 2^(3/alpha) in x's octaves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref import elementary, reduce
from lpref.ref.scaling.scales import BlockScales

F32 = NDArray[np.float32]


def parameters(x: F32, target: float) -> tuple[np.float32, np.float32]:
    """(alpha, beta) of a tensor.

    >>> [float(v) for v in parameters(np.float32([[1, 4, 16, 0]]), 2.0**15)]
    [7.5, -15.0]
    """
    if not np.isfinite(x).all():
        return np.float32(np.nan), np.float32(np.nan)
    live, logs = x != 0, logarithms(x)
    return coefficients(reduce.tree_sum(logs.reshape(-1)), int(np.count_nonzero(live)), np.max(logs, where=live, initial=-np.inf), target)


def logarithms(x: F32) -> F32:
    """log2|x|, 0 where x is zero, NaN or infinite."""
    return elementary.log2(np.where((x != 0) & np.isfinite(x), np.abs(x), np.float32(1)))  # type: ignore[no-any-return]


def coefficients(total: Any, live: int, highest: Any, target: float) -> tuple[np.float32, np.float32]:
    """(alpha, beta) from the sum of the logarithms, the number of nonzero elements, and their largest logarithm."""
    if live == 0:
        return np.float32(1), np.float32(0)
    mu = total / np.float32(live)
    spread = highest - mu
    with np.errstate(over="ignore"):
        alpha = elementary.log2(np.float32(target)) / spread if spread > 0 else np.float32(1)
        return np.float32(alpha), np.float32(-(alpha * mu))


def s2fp8_scales(x: F32, target: float) -> BlockScales:
    """The elements y of `x` [R, C], with alpha and beta in `aux`; one unit scale, NaN where the tensor decodes to NaN."""
    alpha, beta = parameters(x, target)
    live = (x != 0) & np.isfinite(x)
    if np.isnan(alpha):
        y = np.zeros_like(x)
    else:
        with np.errstate(over="ignore"):
            y = np.where(live, np.copysign(elementary.exp2(alpha * logarithms(x) + beta), x), x).astype(np.float32)
    s = np.full((1, 1), np.nan if np.isnan(alpha) else 1, np.float32)
    return BlockScales(s.view(np.uint32), s, s, "multiply", elements=y, aux={"alpha": alpha, "beta": beta})


def expanded(y: NDArray[np.float64], aux: Any) -> NDArray[np.float64]:
    """x^ of decoded elements y."""
    alpha, beta = np.float64(aux["alpha"]), np.float64(aux["beta"])
    if np.isnan(alpha):
        return np.full_like(y, np.nan)
    live = y != 0
    logs = elementary.log2(np.where(live, np.abs(y), 1.0))
    return np.where(live, np.copysign(elementary.exp2((logs - beta) / alpha), y), y)
