"""The inputs for targets too slow for all 2^32: all values, all borders ± 2 float32, all exponents × 2^12 significands, all specials.

A border is where the definition changes its code: for nearest roundings the midpoints, for directed ones the values.
"""

from __future__ import annotations

import numpy as np

from lpref.conformance.intervals import INFINITY, NEGATIVE, PATTERNS, Intervals


def patterns(runs: Intervals) -> np.ndarray:
    """Distinct uint32 patterns, ascending.

    >>> import lpref
    >>> from lpref.conformance.intervals import intervals
    >>> patterns(intervals(lpref.format("e2m1"), "nearest_even", "saturate")).size
    2097292
    """
    with np.errstate(over="ignore"):
        values = runs.format.table()[0].astype(np.float32).view(np.uint32).astype(np.int64)
        values = np.concatenate([values, values ^ NEGATIVE])
    points = np.concatenate([values, runs.starts, specials()])
    around = (points[:, None] + np.arange(-2, 3)).reshape(-1)
    return np.unique(np.concatenate([around[(around >= 0) & (around < PATTERNS)].astype(np.uint32), grid()]))


def grid() -> np.ndarray:
    """Both signs, 256 exponents (subnormals, infinity and NaN among them), 2^12 significands; every second one with its low bits set."""
    k = np.arange(1 << 21, dtype=np.uint32)
    return k << np.uint32(11) | np.where(k & np.uint32(1), np.uint32(0x7FF), np.uint32(0))


def specials() -> np.ndarray:
    """±0, ±infinity, the first and last NaNs, quiet and signalling, of both signs."""
    one_sign = np.array([0, INFINITY, INFINITY + 1, 0x7FBFFFFF, 0x7FC00000, 0x7FFFFFFF], np.int64)
    return np.concatenate([one_sign, one_sign | NEGATIVE])
