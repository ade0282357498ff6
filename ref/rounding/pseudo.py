r"""Shifting integers right with rounding, without a source of random numbers: NITI's two ways down from INT32.

With q = trunc(a / 2^s) and r = |a - q 2^s| (s bits), sigma = sign(a)::

    round_shift    q + sigma [r >= 2^(s-1)]                                  half away from zero
    pseudo_shift   p = r div 2^(s div 2),  n = r mod 2^(s div 2), doubled where s is odd;   q + sigma [p > n]

pseudo_shift takes the dropped bits for both, the high half as the probability and the low half as the random number, so that equal runs are equal
without any words. The result of both is clamped to +-127.

Mean: over all r of s bits, s even, the share that is rounded up is (2^(s/2) - 1) / 2^(s/2 + 1), not r / 2^s of each: it is unbiased only where the
low bits are uniform and independent of the high ones. s = 1: p is the bit, n = 0: half is always rounded up.

Source: wangmaolin/niti ti_torch.py RoundShift, PstoShift (its ``//`` truncated when it was written). Source level: read.
Pitfalls: floor division of negative numbers makes r the distance from below and the sign of the correction wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LIMIT = 127


def round_shift(a: NDArray, shift: int) -> NDArray[np.int64]:
    """Integers `a` / 2^shift (shift >= 1), half away from zero, within +-127.

    >>> round_shift(np.array([5, -6, 7, 4000]), 2).tolist()
    [1, -2, 2, 127]
    """
    quotient, rest = _parts(a, shift)
    return _moved(a, quotient, rest >= 1 << (shift - 1))


def pseudo_shift(a: NDArray, shift: int) -> NDArray[np.int64]:
    """Integers `a` / 2^shift (shift >= 1), up where the high half of the dropped bits is above the low half, within +-127.

    >>> pseudo_shift(np.array([0b10110, 0b11001, -0b11001]), 4).tolist()
    [1, 2, -2]
    """
    quotient, rest = _parts(a, shift)
    half = shift // 2
    high, low = rest >> half, rest & ((1 << half) - 1)
    return _moved(a, quotient, high > (low << (shift % 2)))


def _parts(a: NDArray, shift: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    magnitude = np.abs(a.astype(np.int64))
    return np.sign(a) * (magnitude >> shift), magnitude & ((1 << shift) - 1)


def _moved(a: NDArray, quotient: NDArray[np.int64], up: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.clip(quotient + np.sign(a) * up, -LIMIT, LIMIT)
