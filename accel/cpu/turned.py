"""Matrices turned in squares that stay in the first-level cache, by all threads."""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu import threads

_SQUARE = 64


@njit(cache=True, nogil=True, error_model="numpy")
def _turned(first, last, x, out):  # type: ignore[no-untyped-def]
    """Rows first … last - 1 of out <- x transposed."""
    C = x.shape[0]
    for r0 in range(first, last, _SQUARE):
        for c0 in range(0, C, _SQUARE):
            for r in range(np.uint64(r0), np.uint64(min(last, r0 + _SQUARE))):
                for c in range(np.uint64(c0), np.uint64(min(C, c0 + _SQUARE))):
                    out[r, c] = x[c, r]


def turned(x: np.ndarray) -> np.ndarray:
    """x.T of a contiguous x, contiguous."""
    out = np.empty(x.shape[::-1], x.dtype)
    threads.split(out.shape[0], lambda i, j: _turned(i, j, x, out), _SQUARE, max(_SQUARE, threads.GRAIN // max(out.shape[1], 1)))
    return out
