"""Rotary embedding of CuPy arrays: the page of `lpref.ref.nn.rope` in one pass, with its bits; heads are read where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device
from lpref.ref.nn.rope import check


def rope(x: Any, cos: Any, sin: Any) -> Any:
    """`lpref.ref.nn.rope`."""
    return _rotate("rope", x, cos, sin, np.float32(1))


def rope_backward(dy: Any, cos: Any, sin: Any) -> Any:
    """`lpref.ref.nn.rope_backward`."""
    return _rotate("rope_backward", dy, cos, sin, np.float32(-1))


def _rotate(op: str, x: Any, cos: Any, sin: Any, sign: np.float32) -> Any:
    check(op, x, cos, sin)
    cos, sin = arrays.floats(op, cos, sin)
    if not (device.on_device(x) and x.dtype == np.float32 and x.strides[-1] == x.itemsize):
        (x,) = arrays.floats(op, x)
    _, H, T, D = x.shape
    y = device.cupy().empty(x.shape, np.float32)
    strides = [s // x.itemsize for s in x.strides[:3]]
    arrays.each("rope", "rope", x.size // 2, x, x.size // 2, H, T, D // 2, *strides, cos, sin, sign, y)
    return y
