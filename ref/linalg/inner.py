"""The inner dot products of `Accumulate`: exact, sequential, pairwise, in any accumulator format."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref import formats
from lpref.ref.linalg.accumulate import Accumulate
from lpref.ref.linalg.exact_dot import Grid, exact_dot, odd_add
from lpref.ref.linalg.matmul import sequential

F64 = NDArray[np.float64]


def inner_dot(
    a: NDArray[Any], b: NDArray[Any], model: Accumulate, grids: tuple[Grid | None, Grid | None]
) -> NDArray[Any]:
    """[M, K] and [N, K] -> [M, N]: the inner dot products of one piece of K; float32 (float64 for float64 x sequential)."""
    if model.inner == "exact":
        return exact_dot(a.astype(np.float64), b.astype(np.float64), *grids)
    if model.inner == "sequential" and model.format == model.product == "float32":
        return sequential(a, b)
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    if model.inner == "sequential":
        c = np.zeros((a.shape[0], b.shape[0]))
        for k in range(a.shape[1]):
            c = rounded_add(c, _product(a64[:, k], b64[:, k], model), model.format)
        return c.astype(np.float32)
    return _pairwise(a64, b64, model).astype(np.float32)


def rounded_add(c: F64, p: F64, name: str) -> F64:
    """c + p rounded once, to nearest even, in the named format: rounding to odd in float64 first is harmless."""
    s = odd_add(c, p)
    with np.errstate(over="ignore"):
        return s.astype(np.float32).astype(np.float64) if name == "float32" else formats.format(name).round(s)


def _product(a: F64, b: F64, model: Accumulate) -> F64:
    """The outer product of two columns; exact in float64 for factors of at most 26 bits."""
    p = a[:, None] * b[None, :]
    with np.errstate(over="ignore"):
        return p.astype(np.float32).astype(np.float64) if model.product == "float32" else p


def _pairwise(a: F64, b: F64, model: Accumulate) -> F64:
    n = a.shape[1]
    if n <= 1:
        zero = np.zeros((a.shape[0], b.shape[0]))
        return rounded_add(zero, _product(a[:, 0], b[:, 0], model), model.format) if n else zero
    half = n // 2
    return rounded_add(
        _pairwise(a[:, :half], b[:, :half], model), _pairwise(a[:, half:], b[:, half:], model), model.format
    )
