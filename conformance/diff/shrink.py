"""Simplest failing inputs: fewer significand bits, exponents near zero, positive signs; smaller matrices with more zeros."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lpref.conformance.diff.classes import wide

ROUNDS = 12


def simplicity(x: np.ndarray) -> np.ndarray:
    """A sort key per number: bits of significand used, then |exponent|, then the sign; infinities and NaN last."""
    v = wide(x)
    finite = np.isfinite(v) & (v != 0)
    fraction, exponent = np.frexp(np.where(finite, v, 1.0))
    whole = np.ldexp(np.abs(fraction), 53).astype(np.int64)
    low = whole & -whole
    used = 53 - np.log2(low.astype(np.float64)).astype(np.int64)
    key = used * 1_000_000 + np.abs(exponent.astype(np.int64)) * 10 + np.signbit(v)
    return np.where(np.isfinite(v), key, 10**12 + np.signbit(v))


def shrink_cast(failing: np.ndarray, fails: Callable[[np.ndarray], np.ndarray]) -> np.generic:
    """From many failing inputs to a simple one that fails alone.

    >>> shrink_cast(np.float32([1000.3, 77.7]), lambda v: v > 10)
    np.float32(16.0)
    """
    best = failing[np.argsort(simplicity(failing), kind="stable")][:1]
    for _ in range(ROUNDS):
        tried = candidates(best[0])
        tried = tried[simplicity(tried) < simplicity(best)[0]]
        bad = tried[fails(tried)] if tried.size else tried
        if not bad.size:
            break
        best = bad[np.argsort(simplicity(bad), kind="stable")][:1]
    return best[0]


def candidates(x: np.generic) -> np.ndarray:
    """Numbers simpler than x: significands cut after every bit, with one more at the last place, exponents nearer to zero, |x|."""
    v = float(x)
    if not np.isfinite(v):
        return np.array([abs(v)], x.dtype)
    fraction, exponent = np.frexp(v)
    cut = [np.ldexp(np.trunc(np.ldexp(fraction, n)) + d, -n) for n in range(1, 53) for d in (0, np.sign(fraction))]
    exponents = [e for e in range(exponent - 3, exponent + 4)] + [exponent // 2, 0, 1]
    made = np.array([*(np.ldexp(c, exponent) for c in cut), *(np.ldexp(fraction, e) for e in exponents), abs(v)])
    with np.errstate(over="ignore"):
        made = made.astype(x.dtype)
    return np.unique(np.concatenate([made[np.isfinite(made.astype(np.float64))], np.abs(made)]))


def shrink_matrix(x: np.ndarray, block: tuple[int, int], at: tuple[int, int], fails: Callable[[np.ndarray], bool]) -> np.ndarray:
    """The block of x that holds element `at`, alone if it still fails, then with as many zeros as it can have."""
    rows, columns = (slice(a // b * b, a // b * b + b) for a, b in zip(at, block, strict=True))
    alone = x[rows, columns].copy()
    best = alone if fails(alone) else x.copy()
    for size in (max(best.size // 2, 1), max(best.size // 4, 1), max(best.size // 8, 1), 1):
        flat = best.reshape(-1)
        starts = [s for s in range(0, flat.size, size) if np.any(flat[s : s + size] != 0)]
        for start in starts[:64]:
            tried = best.copy().reshape(-1)
            tried[start : start + size] = 0
            if fails(tried.reshape(best.shape)):
                best = tried.reshape(best.shape)
    return best
