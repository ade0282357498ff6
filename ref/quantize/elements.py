"""The range of a quantizer's elements, and which scaled elements lie beyond it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lpref.ref.formats import Format
from lpref.ref.quantize.quantizer import Quantizer


def value_range(q: Quantizer, fmt: Format) -> tuple[float, float]:
    """Qn, Qp: smallest and largest element value: the format's, without the lone most negative integer where `narrow`.

    >>> from lpref.ref.formats import format
    >>> [value_range(Quantizer(name, narrow=False), format(name)) for name in ("int4", "fixed8.6", "e2m1")]
    [(-8.0, 7.0), (-2.0, 1.984375), (-6.0, 6.0)]
    """
    lone = q.narrow and fmt.signed and fmt.min < -fmt.max
    return float(-fmt.max if lone else fmt.min), float(fmt.max)


def element_range(q: Quantizer, fmt: Format) -> tuple[np.float32, np.float32]:
    """`value_range` in float32."""
    low, high = value_range(q, fmt)
    return np.float32(low), np.float32(high)


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
