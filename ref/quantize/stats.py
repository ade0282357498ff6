r"""Error statistics of a quantized tensor.

    mse             mean of (x^ - x)^2, float64, the defined sum over the finite elements
    sqnr_db         10 log10(sum x^2 / sum (x^ - x)^2), the same sums; infinite where the error is zero, NaN where x is zero and x^ is not
    max_abs_err     largest |x^ - x| of the finite elements
                    These three are NaN where x has elements and none is finite in both x and x^: there is nothing to measure.
    overflowed      finite elements whose scaled value lies more than half a step beyond the largest element value
    underflowed     nonzero elements that became zero
    count           elements; overflow_share and underflow_share are the two counts over it
    bits_per_element  stored bits, scales included
    amax            largest magnitude, NaN wins
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref import reduce
from lpref.ref.errors import ShapeError
from lpref.ref.quantize.qtensor import QTensor


def stats(x: NDArray, t: QTensor) -> dict[str, Any]:
    """Statistics of `t` against the tensor `x` that it came from.

    >>> from lpref.ref.quantize import quantize
    >>> x = np.float32([[1, 2, 3, 1000]])
    >>> s = stats(x, quantize(x, "int8_tensor"))
    >>> s["max_abs_err"], s["underflowed"]
    (3.0, 3)
    """
    x = np.asarray(x)
    if x.shape != t.logical_shape:
        raise ShapeError(f"x is {x.shape}, the tensor {t.logical_shape}", where="stats")
    x64 = x.astype(np.float64).reshape(-1)
    with np.errstate(invalid="ignore", over="ignore"):
        error = t.dequantize().reshape(-1) - x64
    good = np.isfinite(error) & np.isfinite(x64)
    if not good.all():
        error, x64 = np.where(good, error, 0.0), np.where(good, x64, 0.0)
    noise, signal, worst = float(reduce.tree_sum(error * error)), float(reduce.tree_sum(x64 * x64)), float(np.max(np.abs(error), initial=0.0))
    return figures(t, noise, signal, worst, int(np.count_nonzero(good)))


def figures(t: QTensor, noise: float, signal: float, worst: float, finite: int) -> dict[str, Any]:
    """The statistics of `t` from the defined sums of squared errors and squared values, the largest error, and the number of finite elements."""
    size = t.shape[0] * t.shape[1]
    if size and not finite:
        noise = signal = worst = math.nan
    count = max(size, 1)
    return {
        "mse": noise / max(finite, 1),
        "sqnr_db": _decibel(signal, noise),
        "max_abs_err": worst,
        "overflowed": int(t.observed["overflowed"]),
        "underflowed": int(t.observed["underflowed"]),
        "count": size,
        "overflow_share": t.observed["overflowed"] / count,
        "underflow_share": t.observed["underflowed"] / count,
        "bits_per_element": 8 * t.nbytes / count,
        "amax": float(t.observed["amax"]),
    }


def _decibel(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else math.nan  # exact: a figure for people, no code depends on it
