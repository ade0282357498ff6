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
def _im2col(begin, end, x, stride, pad, out):  # type: ignore[no-untyped-def]
    _, oh, ow, C, kh, kw = out.shape
    H, W = x.shape[2], x.shape[3]
    for n in range(begin, end):
        for y in range(oh):
            for z in range(ow):
                for c in range(C):
                    for i in range(kh):
                        row = y * stride + i - pad
                        if 0 <= row < H:
                            for j in range(max(0, pad - z * stride), min(kw, W + pad - z * stride)):
                                out[n, y, z, c, i, j] = x[n, c, row, z * stride + j - pad]


@njit(**KERNEL)
def _col2im(begin, end, grid, stride, pad, out):  # type: ignore[no-untyped-def]
    """A pixel's entries are added in ascending (i, j), each pixel has at most one of every (i, j)."""
    _, oh, ow, C, kh, kw = grid.shape
    H, W = out.shape[2], out.shape[3]
    for n in range(begin, end):
        for i in range(kh):
            for j in range(kw):
                for y in range(oh):
                    row = y * stride + i - pad
                    if 0 <= row < H:
                        for z in range(ow):
                            column = z * stride + j - pad
                            if 0 <= column < W:
                                for c in range(C):
                                    out[n, c, row, column] += grid[n, y, z, c, i, j]
