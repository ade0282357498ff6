"""What the kernels that work row by row share: options, checks, the defined sum of a row, its maximum."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lpref.ref.errors import BackendError
from lpref.ref.reduce import LANES

KERNEL: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
"""Options of every kernel: no fastmath, so no operation is fused, reordered or dropped."""
ROWS = 32
"""Rows that one task takes; of no numerical effect."""

REST = np.int32(0x7FFFFFFF)
INFINITY = np.int32(0x7F800000)
_LOWEST = np.int32(-(2**31))


def host(op: str, *arrays: Any) -> tuple[np.ndarray, ...]:
    """The arrays, C-contiguous; BackendError for any that is not float32."""
    for array in arrays:
        if array.dtype != np.float32:
            raise BackendError(
                f"{op} got {array.dtype}; the kernels of the cpu backend are float32", remedy="cast, or use the reference backend"
            )
    return tuple([np.asarray(array, order="C") for array in arrays])  # ascontiguousarray would give a 0-d array an axis


def tasks(rows: int) -> int:
    """Tasks of `ROWS` rows."""
    return (rows + ROWS - 1) // ROWS


@njit(**KERNEL)
def row_sum(t, n):  # type: ignore[no-untyped-def]
    """`lpref.ref.reduce.tree_sum` of t[:n], which it overwrites."""
    for start in range(LANES, n, LANES):
        for j in range(min(LANES, n - start)):
            t[j] += t[start + j]
    live = min(n, LANES)
    half = 1
    while half < live:
        half *= 2
    half //= 2
    while half >= 1 and live != 16:
        for j in range(live - half):
            t[j] += t[j + half]
        live = half
        half //= 2
    if live == 16:  # straight-line, so that they are added as vectors
        a, b, c, d = t[0] + t[8], t[1] + t[9], t[2] + t[10], t[3] + t[11]
        e, f, g, h = t[4] + t[12], t[5] + t[13], t[6] + t[14], t[7] + t[15]
        return (((a + e) + (c + g)) + ((b + f) + (d + h))) + np.float32(0)
    return t[0] + np.float32(0) if n else np.float32(0)


@njit(**KERNEL)
def kept_row_sum(x, first, n, t):  # type: ignore[no-untyped-def]
    """`row_sum` of x[first : first + n], which stays as it is; t is scratch of n."""
    half = 1
    while half < n:
        half *= 2
    half //= 2
    if half == 0 or n > LANES:
        for j in range(n):
            t[j] = x[first + j]
        return row_sum(t, n)
    for j in range(n - half):
        t[j] = x[first + j] + x[first + j + half]
    for j in range(n - half, half):
        t[j] = x[first + j]
    return row_sum(t, half)


@njit(**KERNEL)
def column_sums(t, n, width, out, first):  # type: ignore[no-untyped-def]
    """out[first + c] = `tree_sum` of the n ≤ LANES lanes t[:n, c], c < width; overwrites t."""
    half = 1
    while half < n:
        half *= 2
    half //= 2
    live = n
    while half >= 1:
        for r in range(live - half):
            for c in range(width):
                t[r, c] += t[r + half, c]
        live = half
        half //= 2
    for c in range(width):
        out[first + c] = t[0, c] + np.float32(0) if n else np.float32(0)


@njit(forceinline=True)
def bits_of(x):  # type: ignore[no-untyped-def]
    """The bits of a float32 as int32."""
    return np.float32(x).view(np.int32)


@njit(forceinline=True)
def float_of(bits):  # type: ignore[no-untyped-def]
    """The float32 of these bits."""
    return np.int32(bits).view(np.float32)


@njit(forceinline=True)
def _rank(bits):  # type: ignore[no-untyped-def]
    """An involution between bits and integers ordered as the floats are."""
    return np.int32(bits ^ ((bits >> np.int32(31)) & REST))


@njit(**KERNEL)
def row_max(x, i, n):  # type: ignore[no-untyped-def]
    """Maximum of x[i, :n], n > 0, NaN wins: integer maxima, so that the loop is a vector loop."""
    best, magnitude = _LOWEST, np.int32(0)
    for j in range(n):
        bits = bits_of(x[i, j])
        best = max(best, _rank(bits))
        magnitude = max(magnitude, np.int32(bits & REST))
    return float_of(_rank(best)) if magnitude <= INFINITY else np.float32(np.nan)


@njit(**KERNEL)
def reach(x):  # type: ignore[no-untyped-def]
    """Greatest magnitude of x [R, C] as a float64, infinite where x has a NaN."""
    best = np.int32(0)
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            best = max(best, np.int32(bits_of(x[r, c]) & REST))
    return np.float64(float_of(best)) if best <= INFINITY else np.inf
