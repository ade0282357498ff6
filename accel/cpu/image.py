"""Convolutions as matrix products: `lpref.ref.nn.im2col` and `col2im`, an image a task, with their bits."""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu.rows import KERNEL, host
from lpref.accel.cpu.threads import divide
from lpref.ref import nn as ref
from lpref.ref.nn.conv import output_size


def im2col(x: np.ndarray, kh: int, kw: int, stride: int = 1, pad: int = 0) -> np.ndarray:
    """[N, C, H, W] -> [N OH OW, C kh kw]: `lpref.ref.nn.im2col`."""
    if x.ndim != 4 or x.dtype != np.float32:
        return ref.im2col(x, kh, kw, stride, pad)
    (x,) = host("im2col", x)
    N, C, H, W = x.shape
    oh, ow = output_size(H, kh, stride, pad), output_size(W, kw, stride, pad)
    out = np.zeros((N, oh, ow, C, kh, kw), np.float32)
    divide(_im2col, N, x, stride, pad, out)
    return out.reshape(N * oh * ow, C * kh * kw)


def col2im(cols: np.ndarray, shape: tuple[int, int, int, int], kh: int, kw: int, stride: int = 1, pad: int = 0) -> np.ndarray:
    """The adjoint, -> `shape`: `lpref.ref.nn.col2im`."""
    if len(shape) != 4 or cols.dtype != np.float32:
        return ref.col2im(cols, shape, kh, kw, stride, pad)
    N, C, H, W = shape
    oh, ow = output_size(H, kh, stride, pad), output_size(W, kw, stride, pad)
    if cols.shape != (N * oh * ow, C * kh * kw):
        return ref.col2im(cols, shape, kh, kw, stride, pad)  # raises
    (cols,) = host("col2im", cols)
    out = np.zeros(shape, np.float32)
    divide(_col2im, N, cols.reshape(N, oh, ow, C, kh, kw), stride, pad, out)
    return out


@njit(**KERNEL)
def _inside(at, step, pad, size, count):  # type: ignore[no-untyped-def]
    """(first, end) of the k in 0 .. count - 1 for which the pixel at + step k - pad exists, 0 .. size - 1."""
    return max(0, -((at - pad) // step)), min(count, -((at - pad - size) // step))


@njit(**KERNEL)
def _im2col(begin, end, x, stride, pad, out):  # type: ignore[no-untyped-def]
    _, oh, ow, C, kh, kw = out.shape
    for n, y, z in np.ndindex(end - begin, oh, ow):
        top, left = y * stride, z * stride
        for c in range(C):
            for i in range(*_inside(top, 1, pad, x.shape[2], kh)):
                for j in range(*_inside(left, 1, pad, x.shape[3], kw)):
                    out[begin + n, y, z, c, i, j] = x[begin + n, c, top + i - pad, left + j - pad]


@njit(**KERNEL)
def _col2im(begin, end, grid, stride, pad, out):  # type: ignore[no-untyped-def]
    """A pixel's entries are added in ascending (i, j), each pixel has at most one of every (i, j)."""
    _, oh, ow, C, kh, kw = grid.shape
    for n in range(begin, end):
        for i, j in np.ndindex(kh, kw):
            for y in range(*_inside(i, stride, pad, out.shape[2], oh)):
                for z in range(*_inside(j, stride, pad, out.shape[3], ow)):
                    for c in range(C):
                        out[n, c, y * stride + i - pad, z * stride + j - pad] += grid[n, y, z, c, i, j]
