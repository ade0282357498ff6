"""Products of plain float arrays, k ascending: each product rounded, then each addition rounded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import ShapeError, UnknownNameError

GRADES = ("exact", "fast")
_PANEL = 1 << 16
"""Accumulators worked on at a time, so that they stay in the cache; of no numerical effect."""


def matmul(a: Any, b: Any, numerics: str = "exact") -> NDArray[Any]:
    """[..., M, K] @ [..., K, N] -> [..., M, N] in the common float type; leading axes broadcast.

    exact: c starts at +0, then c <- fl(c + fl(a[k] b[k])) for k = 0, 1, ...: never fused, so a zero sum is +0.
    fast: BLAS, in whatever order; the forward bound is gamma_K |a| |b| (Higham 2002, section 3.5).

    >>> matmul(np.float32([[1, 2]]), np.float32([[3], [4]])).tolist()
    [[11.0]]
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ShapeError(f"{a.shape} @ {b.shape}: needed [..., M, K] and [..., K, N]", where="matmul")
    if numerics == "fast":
        return np.matmul(a, b)  # exact: grade fast, under its declared bound
    if numerics != "exact":
        raise UnknownNameError("numerics grade", numerics, GRADES, where="matmul")
    if a.ndim == b.ndim == 2:
        return _rank_one_updates(np.ascontiguousarray(a.T)[None], b[None])[0]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    batch = math.prod(lead)
    left = np.broadcast_to(a.swapaxes(-1, -2), (*lead, a.shape[-1], a.shape[-2])).reshape(
        batch, a.shape[-1], a.shape[-2]
    )
    right = np.broadcast_to(b, (*lead, *b.shape[-2:])).reshape(batch, *b.shape[-2:])
    out = _rank_one_updates(np.ascontiguousarray(left), np.ascontiguousarray(right))
    return out.reshape(*lead, a.shape[-2], b.shape[-1])


def sequential(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """[M, K] and [N, K] -> [M, N]: `matmul` of a and b transposed, in grade exact."""
    return _rank_one_updates(np.ascontiguousarray(a.T)[None], np.ascontiguousarray(b.T)[None])[0]


def _rank_one_updates(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """[B, K, M] and [B, K, N] -> [B, M, N], panel by panel."""
    batch, depth, m = a.shape
    n = b.shape[2]
    out = np.zeros((batch, m, n), np.result_type(a, b))
    together = max(1, _PANEL // max(1, m * n))
    rows = max(1, m if together > 1 else _PANEL // max(1, n))
    scratch = np.empty((min(together, batch), min(rows, m), n), out.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for i in range(0, batch, together):
            for j in range(0, m, rows):
                c = out[i : i + together, j : j + rows]
                t = scratch[: c.shape[0], : c.shape[1]]
                left, right = a[i : i + together, :, j : j + rows, None], b[i : i + together, :, None, :]
                for k in range(depth):
                    np.multiply(left[:, k], right[:, k], out=t)
                    np.add(c, t, out=c)
    return out
