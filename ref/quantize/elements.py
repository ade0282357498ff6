"""The range of a quantizer's elements, and which scaled elements lie beyond it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lpref.ref.formats import Format
from lpref.ref.quantize.quantizer import Quantizer


def element_range(q: Quantizer, fmt: Format) -> tuple[np.float32, np.float32]:
    """Smallest and largest element value: the format's, without the lone most negative integer where `narrow`."""
    lone = q.narrow and fmt.signed and fmt.min < -fmt.max
    return np.float32(-fmt.max if lone else fmt.min), np.float32(fmt.max)


def overflow_limits(q: Quantizer, fmt: Format) -> tuple[float, float]:
    """Beyond these a scaled element counts as overflowed: half a step outside the largest values (code books: the values themselves;
    signs: nothing)."""
    if fmt.bits == 1:
        return -math.inf, math.inf
    low, high = element_range(q, fmt)
    step = 0.0 if fmt.precision is None else 2.0 ** (fmt.emax - fmt.precision + 1)
    return float(low) - (step / 2 if fmt.signed else 0.0), float(high) + step / 2


def beyond(u: NDArray, x: NDArray, q: Quantizer, fmt: Format) -> int:
    """Number of finite x whose scaled value u overflows."""
    low, high = overflow_limits(q, fmt)
    with np.errstate(invalid="ignore"):
        return int(np.count_nonzero(((u > high) | (u < low)) & np.isfinite(x)))
