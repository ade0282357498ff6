"""The Hadamard transform: float32 butterflies, strides 1, 2, 4, ..., and one final multiplication.

    y = (x diag(s)) H / sqrt(n)     block-diagonal along an axis, H the Sylvester matrix of size n = 2^m

H is symmetric and H H = n I, so the inverse is ``(y H / sqrt(n)) diag(s)``: exact in real arithmetic; in float32 the two
together are the identity up to 2 m + 2 roundings. Every butterfly (a, b) -> (a + b, a - b) is rounded to x's type, the last
step multiplies by n^(-1/2) rounded to that type, and signs are applied by multiplication with +1 or -1, which is exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import ShapeError


def hadamard(x: Any, size: int, axis: int = -1, signs: Any = None) -> NDArray[Any]:
    """y = (x diag(signs)) H / sqrt(size) for every run of `size` elements along `axis`.

    signs: +1 or -1, of length `size` (each run the same) or of the axis' length. Errors: ShapeError.

    >>> hadamard(np.float32([1, 0, 0, 0]), 4).tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    x = np.asarray(x)
    rows = np.moveaxis(x, axis, -1)
    shape = rows.shape
    runs = rows.reshape(*shape[:-1], _runs(shape[-1], size), size)
    if signs is not None:
        runs = runs * _signs(signs, shape[-1], size, x.dtype)
    return np.moveaxis(_butterflies(runs).reshape(shape), -1, axis)


def hadamard_inverse(y: Any, size: int, axis: int = -1, signs: Any = None) -> NDArray[Any]:
    """x = (y H / sqrt(size)) diag(signs): undoes `hadamard` with the same arguments."""
    x = np.moveaxis(hadamard(y, size, axis), axis, -1)
    if signs is not None:
        shape = x.shape
        x = x.reshape(*shape[:-1], _runs(shape[-1], size), size) * _signs(signs, shape[-1], size, x.dtype)
        x = x.reshape(shape)
    return np.moveaxis(x, -1, axis)


def _butterflies(runs: NDArray[Any]) -> NDArray[Any]:
    """H / sqrt(n) over the last axis, whose length n is a power of two."""
    n = runs.shape[-1]
    stride = 1
    while stride < n:
        pairs = runs.reshape(*runs.shape[:-1], n // (2 * stride), 2, stride)
        low, high = pairs[..., 0, :], pairs[..., 1, :]
        runs = np.stack([low + high, low - high], axis=-2).reshape(runs.shape)
        stride *= 2
    return runs * runs.dtype.type(1.0 / math.sqrt(n))


def _runs(length: int, size: int) -> int:
    if size < 1 or size & (size - 1):
        raise ShapeError(f"the size is {size}, not a power of two", where="hadamard")
    if length % size:
        raise ShapeError(f"the axis has {length} elements, not a multiple of the size {size}", where="hadamard")
    return length // size


def _signs(signs: Any, length: int, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Signs as [1, size] or [length / size, size]."""
    s = np.asarray(signs, dtype).reshape(-1)
    if s.size not in (size, length) or not np.array_equal(np.abs(s), np.ones_like(s)):
        raise ShapeError(f"needed {size} or {length} signs of +1 or -1, found {s.size} values", where="hadamard")
    return s.reshape(-1, size)
