"""The matrix product of grade fast: BLAS on one thread for each part of the rows, the parts on threads of our own.

OpenBLAS's threads wait by spinning: as soon as anything else wants the second core, a product of a third of a millisecond takes
sixteen. So the product is split over rows here, and OpenBLAS is held to one thread while it runs (its count is restored afterwards).
Other BLAS libraries are called as they are.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from lpref.accel.cpu import threads
from lpref.ref.errors import ShapeError

GRAIN = 1 << 22
"""Multiply-adds below which a second thread costs more than it brings."""


@cache
def openblas() -> Any:
    """The controller of NumPy's OpenBLAS, or None."""
    np.zeros((2, 2))  # the library is loaded with NumPy
    found = ThreadpoolController().select(internal_api="openblas").lib_controllers
    ours = [lib for lib in found if "numpy" in lib.filepath.lower()]
    return (ours or found or [None])[0]


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a [M, K] @ b [K, N] in float32 (or [..., M, K] @ [..., K, N], on one thread)."""
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ShapeError(f"{a.shape} @ {b.shape}: needed [..., M, K] and [..., K, N]", where="matmul")
    library = openblas()
    if library is None:
        return np.matmul(a, b)  # exact: grade fast, under fast_bound
    before = library.get_num_threads()
    if before != 1:
        library.set_num_threads(1)
    try:
        return _split(a, b) if a.ndim == b.ndim == 2 else np.matmul(a, b)  # exact: grade fast, under fast_bound
    finally:
        if before != 1:
            library.set_num_threads(before)


def _split(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    m, (k, n) = a.shape[0], b.shape
    out = np.empty((m, n), np.result_type(a, b))

    def part(start: int, stop: int) -> None:
        np.matmul(a[start:stop], b, out=out[start:stop])  # exact: grade fast, under fast_bound

    threads.split(m, part, align=16, grain=max(16, GRAIN // max(1, k * n)))
    return out
