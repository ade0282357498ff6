"""`lpref.ref.nn.im2col` and its adjoint on CuPy arrays, a thread an element, with their bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device
from lpref.ref.errors import BackendError, ShapeError
from lpref.ref.nn.conv import output_size


def im2col(x: Any, kh: int, kw: int, stride: int = 1, pad: int = 0) -> Any:
    """[N, C, H, W] -> [N OH OW, C kh kw]: `lpref.ref.nn.im2col`."""
    N, window = _window("im2col", x.shape, kh, kw, stride, pad)
    (x,) = arrays.floats("im2col", x)
    C, _, _, oh, ow = window[:5]
    out = device.cupy().empty((N * oh * ow, C * kh * kw), np.float32)
    arrays.each("image", "im2col", out.size, x, out.size, *(np.int32(v) for v in window), out)
    return out


def col2im(cols: Any, shape: tuple[int, int, int, int], kh: int, kw: int, stride: int = 1, pad: int = 0) -> Any:
    """The adjoint, -> `shape`: `lpref.ref.nn.col2im`."""
    N, window = _window("col2im", shape, kh, kw, stride, pad)
    C, _, _, oh, ow = window[:5]
    if cols.shape != (N * oh * ow, C * kh * kw):
        raise ShapeError(f"cols are {cols.shape}, image {shape} needs {(N * oh * ow, C * kh * kw)}", where="col2im")
    (cols,) = arrays.floats("col2im", cols)
    out = device.cupy().empty(shape, np.float32)
    arrays.each("image", "col2im", out.size, cols, out.size, *(np.int32(v) for v in window), out)
    return out


def _window(op: str, shape: tuple[int, ...], kh: int, kw: int, stride: int, pad: int) -> tuple[int, tuple[int, ...]]:
    """N, and the kernels' C, H, W, OH, OW, kh, kw, stride, pad.

    Raises: ShapeError where the kernel does not fit; BackendError for images of 2^31 entries.
    """
    if len(shape) != 4:
        raise ShapeError(f"image shape is {shape}; needed [N, C, H, W]", where=op)
    N, C, H, W = shape
    oh, ow = output_size(H, kh, stride, pad), output_size(W, kw, stride, pad)
    if max(C * (H + 2 * pad) * (W + 2 * pad), C * kh * kw, oh * ow) >= 2**31:
        raise BackendError(f"{op} of an image {shape[1:]} needs more than 31 bits for its indices", where="cuda", remedy=device.REMEDY)
    return N, (C, H, W, oh, ow, kh, kw, stride, pad)
