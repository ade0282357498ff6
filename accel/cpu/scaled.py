"""`lpref.ref.linalg.gemm.epilogue` in one pass over the product: c[i, j] <- fl(fl(c[i, j] fl(r_i s_j)) t), the bits of the definition.

A scale of one changes nothing, NaN included, so where an operand has no scales a one stands for them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu import threads
from lpref.ref.linalg.gemm import Factors
from lpref.ref.linalg.gemm import epilogue as definition


def epilogue(c: np.ndarray, a: Factors, b: Factors) -> np.ndarray:
    """c [M, N] float32, which is overwritten, times the scales of the rows of a and b, then times those of the tensors."""
    rows, columns = (_bare(x, n) for x, n in zip((a, b), c.shape, strict=True))
    if c.dtype != np.float32 or rows.dtype != np.float32 or columns.dtype != np.float32:
        return definition(c, a, b)
    one = np.float32(1)
    with np.errstate(over="ignore", invalid="ignore"):
        tensor = np.float32((one if a.tensor is None else a.tensor) * (one if b.tensor is None else b.tensor))
    if tensor != 1 or (rows != 1).any() or (columns != 1).any():  # NaN is not 1
        threads.split(c.shape[0], lambda i, j: _scaled(i, j, c, rows, columns, tensor), 1, max(1, threads.GRAIN // max(c.shape[1], 1)))
    return c


def _bare(x: Factors, n: int) -> np.ndarray:
    """The scales of the rows of an operand."""
    return np.ones(n, np.float32) if x.row is None else np.ascontiguousarray(x.row)


@njit(cache=True, nogil=True, error_model="numpy")
def _scaled(first, last, c, rows, columns, tensor):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        row, part = rows[i], c[i]
        for j in range(part.size):
            part[j] = (part[j] * (row * columns[j])) * tensor
