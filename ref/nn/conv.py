"""Convolution as a matrix product: im2col and its adjoint. The product itself is the linear layer of the recipe."""

from __future__ import annotations

import numpy as np

from lpref.ref.errors import ShapeError


def output_size(size: int, kernel: int, stride: int, pad: int) -> int:
    """floor((size + 2·pad − kernel) / stride) + 1; ShapeError where the kernel does not fit.

    >>> output_size(8, 3, 1, 1), output_size(8, 3, 2, 1)
    (8, 4)
    """
    if kernel < 1 or stride < 1 or pad < 0 or size + 2 * pad < kernel:
        raise ShapeError(f"kernel {kernel}, stride {stride}, pad {pad} do not fit an image of size {size}", where="conv2d")
    return (size + 2 * pad - kernel) // stride + 1


def im2col(x: np.ndarray, kh: int, kw: int, stride: int = 1, pad: int = 0) -> np.ndarray:
    """x [N, C, H, W] -> [N·OH·OW, C·kh·kw]: row (n, oh, ow), column (c, i, j) = x[n, c, oh·stride + i − pad, ow·stride + j − pad].

    Padding is +0. Cross-correlation, as in every deep-learning library.
    """
    N, C, H, W = _image("im2col", x.shape)
    oh, ow = output_size(H, kh, stride, pad), output_size(W, kw, stride, pad)
    padded = np.zeros((N, C, H + 2 * pad, W + 2 * pad), x.dtype)
    padded[:, :, pad : pad + H, pad : pad + W] = x
    cols = np.empty((N, oh, ow, C, kh, kw), x.dtype)
    for i in range(kh):
        for j in range(kw):
            window = padded[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride]
            cols[..., i, j] = window.transpose(0, 2, 3, 1)
    return cols.reshape(N * oh * ow, C * kh * kw)


def col2im(cols: np.ndarray, shape: tuple[int, int, int, int], kh: int, kw: int, stride: int = 1, pad: int = 0) -> np.ndarray:
    """Adjoint of `im2col`: each pixel adds, from +0, the entries that read it, in ascending (i, j) of the kernel. -> `shape`."""
    N, C, H, W = _image("col2im", shape)
    oh, ow = output_size(H, kh, stride, pad), output_size(W, kw, stride, pad)
    if cols.shape != (N * oh * ow, C * kh * kw):
        raise ShapeError(f"cols are {cols.shape}, image {shape} needs {(N * oh * ow, C * kh * kw)}", where="col2im")
    grid = cols.reshape(N, oh, ow, C, kh, kw).transpose(0, 3, 1, 2, 4, 5)
    padded = np.zeros((N, C, H + 2 * pad, W + 2 * pad), cols.dtype)
    for i in range(kh):
        for j in range(kw):
            padded[:, :, i : i + stride * oh : stride, j : j + stride * ow : stride] += grid[..., i, j]
    return padded[:, :, pad : pad + H, pad : pad + W].copy()


def _image(op: str, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise ShapeError(f"image shape is {shape}; needed [N, C, H, W]", where=op)
    return shape[0], shape[1], shape[2], shape[3]
