"""The exp of grade fast against the definition's, for every float32 that a softmax can give it."""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu.elementary import exp64
from lpref.accel.cpu.rows import KERNEL, float_of
from lpref.accel.cpu.softmax import LOWEST, exp_fast
from lpref.accel.cpu.threads import split
from lpref.ref.attention.bounds import EXP


@njit(**KERNEL)
def outside(first, last, bound):  # type: ignore[no-untyped-def]
    """How many of the float32 with these bits have a relative error above the bound."""
    count = 0
    x, fast, true = np.empty(1024, np.float32), np.empty(1024, np.float32), np.empty(1024)
    for start in range(first, last, 1024):
        for j in range(1024):
            x[j] = float_of(np.int32(start + j))
        for j in range(1024):
            fast[j] = exp_fast(x[j])
        for j in range(1024):
            true[j] = exp64(np.float64(x[j]))
        for j in range(min(1024, last - start)):
            count += np.int64(not abs(np.float64(fast[j]) - true[j]) <= bound * true[j])
    return count


@njit(**KERNEL)
def some(x):  # type: ignore[no-untyped-def]
    return np.array([exp_fast(v) for v in x])


def test_exp_fast_is_within_its_bound_for_all_of_its_range() -> None:
    zero, lowest = (int(np.float32(x).view(np.int32)) for x in (-0.0, LOWEST))
    assert lowest - zero > 2**30
    within = EXP * (1 - 2.0**-20)  # the definition's own float64 error is far below 2^-20 of the bound
    assert sum(split(lowest - zero + 1, lambda start, stop: outside(zero + start, zero + stop, within))) == 0
    assert outside(lowest - 2**20, lowest, 2.0**-25) > 0


def test_exp_fast_at_its_ends() -> None:
    x = np.float32([0.0, -0.0, np.nextafter(LOWEST, np.float32(-np.inf)), -np.inf, np.nan])
    np.testing.assert_array_equal(some(x), np.float32([1, 1, 0, 0, np.nan]))
