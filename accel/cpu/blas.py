"""The matrix product of grade fast where `product` does not serve (no AVX-512, or float64): BLAS on one thread for each part of the rows, the
parts on threads of our own.

OpenBLAS's threads wait by spinning: as soon as anything else wants the second core, a product of a third of a millisecond takes
sixteen. So the product is split over rows here, and OpenBLAS is held to one thread while it runs (its count is restored afterwards).
Other BLAS libraries are called as they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from lpref.accel.cpu import threads
from lpref.ref.errors import ShapeError

GRAIN = 1 << 22
"""Multiply-adds below which a second thread costs more than it brings."""


class Threads(NamedTuple):
    """OpenBLAS's own two functions: calls of a microsecond, where threadpoolctl's take fifteen."""

    get: Callable[[], int]
    set: Callable[[int], None]


@cache
def openblas() -> Threads | None:
    """The thread count of NumPy's OpenBLAS, or None where NumPy has another BLAS, or one whose threads are OpenMP's."""
    np.zeros((2, 2))  # the library is loaded with NumPy
    found = ThreadpoolController().select(internal_api="openblas").lib_controllers
    for library in sorted(found, key=lambda lib: "numpy" not in lib.filepath.lower()):
        symbols = ctypes.PyDLL(library.filepath)
        for prefix, suffix in product(("", "scipy_"), ("", "64_", "_64")):
            get = getattr(symbols, f"{prefix}openblas_get_num_threads{suffix}", None)
            if get is not None and library.threading_layer != "openmp":
                return Threads(get, getattr(symbols, f"{prefix}openblas_set_num_threads{suffix}"))
    return None


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a [M, K] @ b [K, N] in float32 (or [..., M, K] @ [..., K, N], on one thread)."""
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ShapeError(f"{a.shape} @ {b.shape}: needed [..., M, K] and [..., K, N]", where="matmul")
    if openblas() is None:
        return np.matmul(a, b)  # exact: grade fast, under fast_bound
    with one_thread():
        return _split(a, b) if a.ndim == b.ndim == 2 else np.matmul(a, b)  # exact: grade fast, under fast_bound


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenBLAS works on the calling thread alone while this lasts."""
    library = openblas()
    before = 1 if library is None else library.get()
    if library is None or before == 1:
        yield
        return
    library.set(1)
    try:
        yield
    finally:
        library.set(before)


def _split(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    m, (k, n) = a.shape[0], b.shape
    out = np.empty((m, n), np.result_type(a, b))

    def part(start: int, stop: int) -> None:
        np.matmul(a[start:stop], b, out=out[start:stop])  # exact: grade fast, under fast_bound

    threads.split(m, part, align=16, grain=max(16, GRAIN // max(1, k * n)))
    return out
