r"""What makes a tensor hard to quantize: its largest magnitude, its tail, and channels that stick out.

Of x [rows, channels], float64, sums by `lpref.ref.reduce`:

    amax               max |x|
    rms                sqrt(mean x^2)
    kurtosis           mean((x - m)^4) / mean((x - m)^2)^2, m = mean x: 3 for a normal, 1.8 for a uniform distribution (not excess kurtosis)
    outlier_channels   share of the channels whose largest magnitude is more than `factor` times the median of the channels'

A constant tensor has kurtosis NaN; an empty one NaN throughout, and no outlier channels. NaN and infinity propagate.
Source: kurtosis, Pearson 1905. Outlier channels (feature dimensions): arXiv 2208.07339, section 3, whose criterion is a magnitude of at least 6 in
layers of one scale; the ratio to the median is ours, so that it does not depend on the scale. Source level: secondary.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.ref import reduce
from lpref.ref.errors import ShapeError

FACTOR = 6.0


def tensor_statistics(x: Any, factor: float = FACTOR) -> dict[str, float]:
    """amax, rms, kurtosis and outlier_channels of x [..., channels].

    >>> tensor_statistics(np.float32([[1, -1, 2, 40], [-1, 1, -2, -40]]))["outlier_channels"]
    0.25
    """
    if x.ndim < 1:
        raise ShapeError("a number has no channels", where="tensor_statistics")
    x = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    if not x.size:
        return {"amax": float("nan"), "rms": float("nan"), "kurtosis": float("nan"), "outlier_channels": 0.0}
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        centred = x - _mean(x)
        second = _mean(centred * centred)
        tops = np.max(np.abs(x), axis=0)
        outliers = np.count_nonzero(tops > factor * np.median(tops))
        return {
            "amax": float(np.max(tops)),
            "rms": float(np.sqrt(_mean(x * x))),
            "kurtosis": float(np.float64(_mean(centred**4)) / np.float64(second * second)),
            "outlier_channels": float(outliers / tops.size),
        }


def _mean(x: Any) -> Any:
    return reduce.tree_sum(x.reshape(-1)) / x.size
