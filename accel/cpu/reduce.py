"""The one sum in Numba: `lpref.ref.reduce.tree_sum`, bit for bit.

Rows (the summed axis last): lanes in a scratch row, halved in place; `row_sum` is inlined by kernels that sum what they just
computed. Columns (another axis): the same lanes for 64 columns at a time, so that every step is a vector operation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu import threads
from lpref.ref import reduce as ref

LANES = ref.LANES
_COLUMNS = 64


@njit(forceinline=True, error_model="numpy")
def halve(lanes: Any, live: Any) -> Any:
    """The sum of lanes[:live], live <= 1024, by halving in place; the other lanes count as +0. Never -0."""
    if live == 0:
        return lanes.dtype.type(0)
    half = 512
    while half >= live and half:
        half >>= 1
    while half:
        for l in range(min(live, 2 * half) - half):
            lanes[l] += lanes[l + half]
        live = half
        half >>= 1
    return lanes[0] + lanes.dtype.type(0)


@njit(forceinline=True, error_model="numpy")
def row_sum(x: Any, lanes: Any) -> Any:
    """The defined sum of a row x; lanes is scratch of at least min(len(x), 1024) elements of x's type."""
    live = min(x.size, LANES)
    for l in range(live):
        lanes[l] = x[l]
    for start in range(LANES, x.size, LANES):
        for l in range(min(LANES, x.size - start)):
            lanes[l] += x[start + l]
    return halve(lanes, live)


@njit(cache=True, nogil=True, error_model="numpy")
def _rows(start: Any, stop: Any, x: Any, out: Any) -> None:
    """Rows start .. stop of x [R, n] -> out [R]."""
    lanes = np.empty(min(LANES, max(1, x.shape[1])), x.dtype)
    for r in range(start, stop):
        out[r] = row_sum(x[r], lanes)


@njit(cache=True, nogil=True, error_model="numpy")
def _columns(start: Any, stop: Any, x: Any, out: Any) -> None:
    """Parts start .. stop, each of 64 columns, of x [B, n, C] -> out [B, C]."""
    n, columns = x.shape[1], x.shape[2]
    parts = (columns + _COLUMNS - 1) // _COLUMNS
    for job in range(start, stop):
        b, first = job // parts, job % parts * _COLUMNS
        width = min(_COLUMNS, columns - first)
        live = min(n, LANES)
        lanes = np.empty((live, width), x.dtype)
        for l in range(live):
            for c in range(width):
                lanes[l, c] = x[b, l, first + c]
        for i in range(LANES, n):
            for c in range(width):
                lanes[i % LANES, c] += x[b, i, first + c]
        half = 512
        while half >= live:
            half >>= 1
        while half:
            for l in range(min(live, 2 * half) - half):
                for c in range(width):
                    lanes[l, c] += lanes[l + half, c]
            live = half
            half >>= 1
        for c in range(width):
            out[b, first + c] = lanes[0, c] + x.dtype.type(0)


def tree_sum(x: Any, axis: ref.Axis = -1, keepdims: bool = False) -> np.ndarray:
    """`lpref.ref.reduce.tree_sum`."""
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64) or x.size == 0:
        return ref.tree_sum(x, axis, keepdims)  # the error, or zeros
    axes = (
        tuple(range(x.ndim))
        if axis is None
        else tuple(a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis))
    )
    if axes != tuple(range(axes[0], axes[0] + len(axes))) if axes else True:
        return ref.tree_sum(x, axis, keepdims)  # separate axes: rare, and the copy that joins them costs most
    lead, trail = x.shape[: axes[0]], x.shape[axes[-1] + 1 :]
    view = np.ascontiguousarray(x).reshape(math.prod(lead), -1, math.prod(trail))
    out = np.empty((view.shape[0], view.shape[2]), x.dtype)
    batch, n, columns = view.shape
    if columns == 1:
        rows, sums = view[:, :, 0], out[:, 0]
        threads.split(batch, lambda a, b: _rows(a, b, rows, sums), align=1, grain=max(1, threads.GRAIN // n))
    else:
        jobs = batch * -(-columns // _COLUMNS)
        threads.split(jobs, lambda a, b: _columns(a, b, view, out), align=1, grain=max(1, threads.GRAIN // (n * _COLUMNS)))
    return out.reshape((*lead, *(1 for _ in axes), *trail) if keepdims else (*lead, *trail))


def tree_mean(x: Any, axis: ref.Axis = -1, keepdims: bool = False) -> np.ndarray:
    """`lpref.ref.reduce.tree_mean`."""
    x = np.asarray(x)
    axes = range(x.ndim) if axis is None else ((axis,) if isinstance(axis, int) else axis)
    count = math.prod(x.shape[a] for a in axes)
    with np.errstate(invalid="ignore"):
        return np.asarray(tree_sum(x, axis, keepdims) / x.dtype.type(count))
