"""RMSNorm and LayerNorm: the pages of `lpref.ref.nn.norm`, row by row, with their bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numba import njit

from lpref.accel.cpu.elementary import rsqrt64
from lpref.accel.cpu.rows import KERNEL, ROWS, column_sums, host, row_sum, tasks
from lpref.accel.cpu.threads import count, divide, run
from lpref.ref.nn.norm import check
from lpref.ref.reduce import LANES

COLUMNS = 16
"""Shares of columns begin at multiples of this: a cache line."""


def rmsnorm(x: np.ndarray, w: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """(y, rstd): `lpref.ref.nn.rmsnorm`."""
    check("rmsnorm", x, w)
    x, w = host("rmsnorm", x, w)
    y, rstd = np.empty_like(x), np.empty(len(x), np.float32)
    divide(_rmsnorm, tasks(len(x)), x, w, np.float32(eps), y, rstd)
    return y, rstd


def rmsnorm_backward(dy: np.ndarray, x: np.ndarray, w: np.ndarray, rstd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(dx, dw): `lpref.ref.nn.rmsnorm_backward`."""
    check("rmsnorm_backward", x, w, dy)
    dy, x, w, rstd = host("rmsnorm_backward", dy, x, w, rstd)
    dx, dw = np.empty_like(x), np.empty_like(w)
    _rows_and_columns(_rmsnorm_backward, dy, x, w, rstd, dx, dw)
    return dx, dw


def layernorm(x: np.ndarray, w: np.ndarray, b: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(y, mean, rstd): `lpref.ref.nn.layernorm`."""
    check("layernorm", x, w)
    x, w, b = host("layernorm", x, w, b)
    y, mean, rstd = np.empty_like(x), np.empty(len(x), np.float32), np.empty(len(x), np.float32)
    divide(_layernorm, tasks(len(x)), x, w, b, np.float32(eps), y, mean, rstd)
    return y, mean, rstd


def layernorm_backward(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray, mean: np.ndarray, rstd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(dx, dw, db): `lpref.ref.nn.layernorm_backward`."""
    check("layernorm_backward", x, w, dy)
    dy, x, w, mean, rstd = host("layernorm_backward", dy, x, w, mean, rstd)
    dx, dw, db = np.empty_like(x), np.empty_like(w), np.empty_like(w)
    _rows_and_columns(_layernorm_backward, dy, x, w, mean, rstd, dx, dw, db)
    return dx, dw, db


def add_rmsnorm(x: np.ndarray, h: np.ndarray, w: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(y, rstd, s): `lpref.ref.nn.add_rmsnorm`."""
    check("add_rmsnorm", x, w, h=h)
    s = x + h
    return (*rmsnorm(s, w, eps), s)


def add_rmsnorm_backward(dy: np.ndarray, ds: np.ndarray, s: np.ndarray, w: np.ndarray, rstd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(dx, dw): `lpref.ref.nn.add_rmsnorm_backward`."""
    check("add_rmsnorm_backward", s, w, dy, ds=ds)
    dx, dw = rmsnorm_backward(dy, s, w, rstd)
    return np.add(ds, dx, out=dx), dw


def add_layernorm(
    x: np.ndarray, h: np.ndarray, w: np.ndarray, b: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(y, mean, rstd, s): `lpref.ref.nn.add_layernorm`."""
    check("add_layernorm", x, w, h=h)
    s = x + h
    return (*layernorm(s, w, b, eps), s)


def add_layernorm_backward(
    dy: np.ndarray, ds: np.ndarray, s: np.ndarray, w: np.ndarray, mean: np.ndarray, rstd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(dx, dw, db): `lpref.ref.nn.add_layernorm_backward`."""
    check("add_layernorm_backward", s, w, dy, ds=ds)
    dx, dw, db = layernorm_backward(dy, s, w, mean, rstd)
    return np.add(ds, dx, out=dx), dw, db


def _rows_and_columns(kernel: Callable[..., None], dy: np.ndarray, *args: np.ndarray) -> None:
    """kernel((first row, last, first column, last), dy, …) on every thread: equal shares of the rows, and of the columns for their sums."""
    N, D = dy.shape
    threads = max(1, min(count(), tasks(N)))
    edges = [min(D, -(-D * i // threads // COLUMNS) * COLUMNS) for i in range(threads + 1)]
    run([partial(kernel, (N * i // threads, N * (i + 1) // threads, edges[i], edges[i + 1]), dy, *args) for i in range(threads)])


@njit(**KERNEL)
def _rmsnorm(start, stop, x, w, eps, y, rstd):  # type: ignore[no-untyped-def]
    N, D = x.shape
    t = np.empty(D, np.float32)
    for i in range(start * ROWS, min(N, stop * ROWS)):
        for j in range(D):
            t[j] = x[i, j] * x[i, j]
        r = np.float32(rsqrt64(np.float64(row_sum(t, D) / np.float32(D) + eps)))
        rstd[i] = r
        for j in range(D):
            y[i, j] = (x[i, j] * r) * w[j]


@njit(**KERNEL)
def _rmsnorm_backward(share, dy, x, w, rstd, dx, dw):  # type: ignore[no-untyped-def]
    N, D = x.shape
    t = np.empty(D, np.float32)
    for i in range(share[0], share[1]):
        r = rstd[i]
        for j in range(D):
            t[j] = (dy[i, j] * w[j]) * (x[i, j] * r)
        c = row_sum(t, D) / np.float32(D)
        for j in range(D):
            dx[i, j] = (dy[i, j] * w[j] - (x[i, j] * r) * c) * r
    first, last = share[2], share[3]
    lanes = np.zeros((min(N, LANES), last - first), np.float32)
    for i in range(N):
        total, d, v, r = lanes[i % LANES], dy[i, first:last], x[i, first:last], rstd[i]
        for c in range(total.size):
            total[c] += d[c] * (v[c] * r)
    column_sums(lanes, min(N, LANES), last - first, dw, first)


@njit(**KERNEL)
def _layernorm(start, stop, x, w, b, eps, y, mean, rstd):  # type: ignore[no-untyped-def]
    N, D = x.shape
    t = np.empty(D, np.float32)
    for i in range(start * ROWS, min(N, stop * ROWS)):
        for j in range(D):
            t[j] = x[i, j]
        m = row_sum(t, D) / np.float32(D)
        for j in range(D):
            t[j] = (x[i, j] - m) * (x[i, j] - m)
        r = np.float32(rsqrt64(np.float64(row_sum(t, D) / np.float32(D) + eps)))
        mean[i], rstd[i] = m, r
        for j in range(D):
            y[i, j] = (((x[i, j] - m) * r) * w[j]) + b[j]


@njit(**KERNEL)
def _layernorm_backward(share, dy, x, w, mean, rstd, dx, dw, db):  # type: ignore[no-untyped-def]
    N, D = x.shape
    t = np.empty(D, np.float32)
    for i in range(share[0], share[1]):
        m, r = mean[i], rstd[i]
        for j in range(D):
            t[j] = dy[i, j] * w[j]
        c1 = row_sum(t, D) / np.float32(D)
        for j in range(D):
            t[j] = (dy[i, j] * w[j]) * ((x[i, j] - m) * r)
        c2 = row_sum(t, D) / np.float32(D)
        for j in range(D):
            dx[i, j] = ((dy[i, j] * w[j] - c1) - ((x[i, j] - m) * r) * c2) * r
    first, last = share[2], share[3]
    lanes = np.zeros((min(N, LANES), last - first), np.float32)
    shift = np.zeros((min(N, LANES), last - first), np.float32)
    for i in range(N):
        total, offset, d, v, m, r = lanes[i % LANES], shift[i % LANES], dy[i, first:last], x[i, first:last], mean[i], rstd[i]
        for c in range(total.size):
            total[c] += d[c] * ((v[c] - m) * r)
            offset[c] += d[c]
    column_sums(lanes, min(N, LANES), last - first, dw, first)
    column_sums(shift, min(N, LANES), last - first, db, first)
