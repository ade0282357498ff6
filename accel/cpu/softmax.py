"""Rows of attention's scores: softmax and its gradient, with the bits of the definition or, in grade fast, in float32 throughout.

What grade fast may do: sum in any order, fuse multiply-adds, and take `exp_fast` for the float64 sequence. Measured on the 128 rows
of a head, 72 positions each on average: 14 µs where the definition takes 55 (19 of them for exp, 11 for sums, the rest for loops
whose lengths are no multiple of a vector: here every loop runs over n, which is one, and masked scores are −inf).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu.elementary import exp64
from lpref.accel.cpu.rows import KERNEL, bits_of, float_of, kept_row_sum, row_max, row_sum

ANY_ORDER = {"contract", "reassoc", "nsz"}
LOWEST = np.float32(-87.0)
"""Below this `exp_fast` is +0: e^-87 is 2^-125.5."""
_LOG2_E, _LN2_HIGH, _LN2_LOW = np.float32(1.44269504088896341), np.float32(0.693359375), np.float32(-2.12194440e-4)
_MAGIC, _MAGIC_BITS = np.float32(1.5 * 2**23), np.int32(0x4B400000)
_E = tuple(np.float32(c) for c in (5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4))
_ONE, _BIAS, _MANTISSA = np.float32(1), np.int32(127), np.int32(23)


@njit(forceinline=True, error_model="numpy", fastmath={"contract"})
def exp_fast(x):  # type: ignore[no-untyped-def]
    """e^x of a float32 x ≤ 0, relative error at most 2^-22; +0 below -87, NaN of NaN.

    The reduction and polynomial of Cephes 2.2, single/expf.c (S. L. Moshier): x = k ln 2 + r, 1 + r + r² P(r), times 2^k.
    """
    y = LOWEST if x < LOWEST else x
    t = y * _LOG2_E + _MAGIC
    k = t - _MAGIC
    r = (y - k * _LN2_HIGH) - k * _LN2_LOW
    p = _E[5] * r + _E[4]
    p = p * r + _E[3]
    p = p * r + _E[2]
    p = p * r + _E[1]
    p = p * r + _E[0]
    p = (p * (r * r) + r) + _ONE
    two = float_of((bits_of(t) - _MAGIC_BITS + _BIAS) << _MANTISSA)
    return np.float32(0) if x < LOWEST else p * two


@njit(**KERNEL)
def softmax_rows(p, i, rows, seen, n, scale, e, t):  # type: ignore[no-untyped-def]
    """Rows i … of p from scores to probabilities; row i sees `seen` positions, each next one more, all at most n ≤ S. e, t: scratch."""
    for r in range(i, i + rows):
        visible = min(seen + r - i, n)
        for j in range(visible):
            p[r, j] = p[r, j] * scale
        top = row_max(p, r, visible)
        first = (r - i) * n
        for j in range(visible):
            e[first + j] = p[r, j] - top
        e[first + visible : first + n] = np.float32(-np.inf) - top
    for j in range(rows * n):
        e[j] = np.float32(exp64(np.float64(e[j])))
    for r in range(i, i + rows):
        first = (r - i) * n
        s = kept_row_sum(e, first, n, t)
        for j in range(n):
            p[r, j] = e[first + j] / s
        p[r, n:] = np.float32(0) / s


@njit(**KERNEL)
def softmax_rows_fast(p, i, rows, seen, n, scale):  # type: ignore[no-untyped-def]
    """`softmax_rows` of grade fast."""
    masked = np.float32(-np.inf)
    for r in range(i, i + rows):
        visible, x = min(seen + r - i, n), p[r]
        for j in range(n):
            x[j] = x[j] * scale if j < visible else masked
        top = row_max(p, r, n)
        for j in range(n):
            x[j] = exp_fast(x[j] - top)
        s = _total(x, n)
        for j in range(n):
            x[j] = x[j] / s
        x[n:] = np.float32(0) / s


@njit(**KERNEL)
def score_gradient_row(ds, p, i, n, scale, t):  # type: ignore[no-untyped-def]
    """Row i of ds from dp to (p · (dp − δ)) · scale over the first n positions. t: scratch."""
    for j in range(n):
        t[j] = ds[i, j] * p[i, j]
    delta = row_sum(t, n)
    for j in range(n):
        ds[i, j] = (p[i, j] * (ds[i, j] - delta)) * scale


@njit(**KERNEL)
def score_gradient_row_fast(ds, p, i, n, scale):  # type: ignore[no-untyped-def]
    """`score_gradient_row` of grade fast."""
    d, x = ds[i], p[i]
    delta = _dot(d, x, n)
    for j in range(n):
        d[j] = (x[j] * (d[j] - delta)) * scale


@njit(**KERNEL, fastmath=ANY_ORDER)
def _total(x, n):  # type: ignore[no-untyped-def]
    s = np.float32(0)
    for j in range(n):
        s += x[j]
    return s


@njit(**KERNEL, fastmath=ANY_ORDER)
def _dot(x, y, n):  # type: ignore[no-untyped-def]
    s = np.float32(0)
    for j in range(n):
        s += x[j] * y[j]
    return s
