"""The Hadamard transform in Numba: `lpref.ref.linalg.hadamard`, bit for bit.

Along the last axis, 64 runs are turned on their side in scratch, so that every butterfly is one vector operation over 64
runs; along another axis the array lies that way already. `butterflies` is inlined by kernels that transform what they just
loaded.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu import threads
from lpref.ref.linalg import hadamard as ref_hadamard

_TOGETHER = 64


@njit(forceinline=True, error_model="numpy")
def butterflies(t: Any, size: Any, width: Any, factor: Any) -> None:
    """t [size, >= width] <- H t * factor in place, column by column: strides 1, 2, 4, ..., then one multiplication."""
    stride = 1
    while stride < size:
        for block in range(0, size, 2 * stride):
            for i in range(block, block + stride):
                low, high = t[i], t[i + stride]
                for c in range(width):
                    a, b = low[c], high[c]
                    low[c] = a + b
                    high[c] = a - b
        stride *= 2
    for i in range(size):
        row = t[i]
        for c in range(width):
            row[c] *= factor


@njit(cache=True, nogil=True, error_model="numpy")
def _last(start: Any, stop: Any, x: Any, size: Any, before: Any, after: Any, factor: Any, out: Any) -> None:
    """Parts start .. stop, each of 64 runs. x, out [runs, size]; run r is multiplied by before[r mod len] first and by after[r mod len] last."""
    runs = x.shape[0]
    for part in range(start, stop):
        first = part * _TOGETHER
        width = min(_TOGETHER, runs - first)
        t = np.empty((size, _TOGETHER), x.dtype)
        for c in range(width):
            s = before[(first + c) % before.shape[0]]
            for i in range(size):
                t[i, c] = x[first + c, i] * s[i]
        butterflies(t, size, width, factor)
        for c in range(width):
            s = after[(first + c) % after.shape[0]]
            for i in range(size):
                out[first + c, i] = t[i, c] * s[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _inner(start: Any, stop: Any, x: Any, size: Any, before: Any, after: Any, factor: Any, out: Any) -> None:
    """Parts start .. stop, each of 64 columns of a run. x, out [batch, runs, size, columns]; signs as in `_last`."""
    runs, columns = x.shape[1], x.shape[3]
    parts = (columns + _TOGETHER - 1) // _TOGETHER
    for job in range(start, stop):
        b, run, first = job // (runs * parts), job // parts % runs, job % parts * _TOGETHER
        width = min(_TOGETHER, columns - first)
        t = np.empty((size, _TOGETHER), x.dtype)
        s, u = before[run % before.shape[0]], after[run % after.shape[0]]
        for i in range(size):
            for c in range(width):
                t[i, c] = x[b, run, i, first + c] * s[i]
        butterflies(t, size, width, factor)
        for i in range(size):
            for c in range(width):
                out[b, run, i, first + c] = t[i, c] * u[i]


def hadamard(x: Any, size: int, axis: int = -1, signs: Any = None) -> np.ndarray:
    """`lpref.ref.linalg.hadamard`: y = (x diag(signs)) H / sqrt(size) along `axis`."""
    return _transform(x, size, axis, signs, None)


def hadamard_inverse(y: Any, size: int, axis: int = -1, signs: Any = None) -> np.ndarray:
    """`lpref.ref.linalg.hadamard_inverse`: x = (y H / sqrt(size)) diag(signs)."""
    return _transform(y, size, axis, None, signs)


def _transform(x: Any, size: int, axis: int, before: Any, after: Any) -> np.ndarray:
    x = np.asarray(x)
    axis %= x.ndim
    length = x.shape[axis]
    first, last = (_table(s, length, size, x.dtype) for s in (before, after))
    if size < 1 or size & (size - 1) or length % size or x.dtype not in (np.float32, np.float64):
        return ref_hadamard(x, size, axis)  # the typed error, or a type that only the definition has
    x = np.ascontiguousarray(x)
    out = np.empty_like(x)
    factor = x.dtype.type(1.0 / math.sqrt(size))
    if axis == x.ndim - 1:
        runs = (x.size // size, size)
        _divide(_last, _groups(runs[0]), size, x.reshape(runs), size, first, last, factor, out.reshape(runs))
    else:
        shape = (math.prod(x.shape[:axis]), length // size, size, math.prod(x.shape[axis + 1 :]))
        _divide(_inner, shape[0] * shape[1] * _groups(shape[3]), size, x.reshape(shape), size, first, last, factor, out.reshape(shape))
    return out


def _groups(n: int) -> int:
    """How many groups of `_TOGETHER` hold n."""
    return -(-n // _TOGETHER)


def _divide(kernel: Any, jobs: int, size: int, *args: Any) -> None:
    """kernel(start, stop, *args) on every core."""
    threads.split(jobs, lambda a, b: kernel(a, b, *args), align=1, grain=max(1, threads.GRAIN // (_TOGETHER * size)))


def _table(signs: Any, length: int, size: int, dtype: Any) -> np.ndarray:
    """Signs as [1 or length / size, size]; ones where there are none (multiplying by 1 changes no bit)."""
    if signs is None:
        return np.ones((1, max(1, size)), dtype)
    ref_hadamard(np.zeros((1, length), dtype), size, signs=signs)  # refuses what is no vector of signs
    return np.ascontiguousarray(signs, dtype).reshape(-1, size)
