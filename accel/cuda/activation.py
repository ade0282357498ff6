"""Activations of CuPy arrays: the pages of `lpref.ref.nn.activation` in one pass each, with their bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device
from lpref.ref.errors import UnknownNameError
from lpref.ref.nn.activation import (
    GELU_CUBIC,
    GELU_KINDS,
    INV_SQRT_2PI,
    SQRT_2_OVER_PI,
    SQRT_HALF,
    check_halves,
    check_same,
)

CONSTANTS = {
    "tanh": tuple(np.float32(c) for c in (SQRT_2_OVER_PI, GELU_CUBIC, 3 * GELU_CUBIC)),
    "erf": tuple(np.float32(c) for c in (SQRT_HALF, INV_SQRT_2PI, 0)),
}


def relu(x: Any) -> Any:
    """`lpref.ref.nn.relu`."""
    (x,) = arrays.floats("relu", x)
    return _each("relu", x, x)


def relu_backward(dy: Any, x: Any) -> Any:
    """`lpref.ref.nn.relu_backward`."""
    check_same("relu_backward", dy, x)
    return _each("relu", *arrays.floats("relu_backward", dy, x))


def silu(x: Any) -> Any:
    """`lpref.ref.nn.silu`."""
    return _each("silu", *arrays.floats("silu", x))


def silu_backward(dy: Any, x: Any) -> Any:
    """`lpref.ref.nn.silu_backward`."""
    check_same("silu_backward", dy, x)
    return _each("silu_backward", *arrays.floats("silu_backward", dy, x))


def gelu(x: Any, kind: str = "tanh") -> Any:
    """`lpref.ref.nn.gelu`."""
    return _each(f"gelu_{_known(kind)}", *arrays.floats("gelu", x), constants=CONSTANTS[kind])


def gelu_backward(dy: Any, x: Any, kind: str = "tanh") -> Any:
    """`lpref.ref.nn.gelu_backward`."""
    check_same("gelu_backward", dy, x)
    return _each(f"gelu_{_known(kind)}_backward", *arrays.floats("gelu_backward", dy, x), constants=CONSTANTS[kind])


def swiglu(g: Any, u: Any) -> Any:
    """`lpref.ref.nn.swiglu`."""
    check_same("swiglu", g, u)
    g, u = arrays.floats("swiglu", g, u)
    y = device.cupy().empty(g.shape, np.float32)
    arrays.each("activation", "swiglu", g.size, g, u, g.size, 1, 1, y)
    return y


def swiglu_backward(dy: Any, g: Any, u: Any) -> tuple[Any, Any]:
    """`lpref.ref.nn.swiglu_backward`."""
    check_same("swiglu_backward", g, u, dy)
    dy, g, u = arrays.floats("swiglu_backward", dy, g, u)
    dg, du = device.cupy().empty(g.shape, np.float32), device.cupy().empty(g.shape, np.float32)
    arrays.each("activation", "swiglu_backward", g.size, dy, g, u, g.size, 1, 1, dg, du)
    return dg, du


def swiglu_packed(gu: Any) -> Any:
    """`lpref.ref.nn.swiglu_packed`."""
    half = check_halves("swiglu_packed", gu)
    (gu,) = arrays.floats("swiglu_packed", gu)
    y = device.cupy().empty((len(gu), half), np.float32)
    arrays.each("activation", "swiglu", y.size, *_halves(gu, half), y.size, half, 2 * half, y)
    return y


def swiglu_packed_backward(dy: Any, gu: Any) -> Any:
    """`lpref.ref.nn.swiglu_packed_backward`."""
    half = check_halves("swiglu_packed_backward", gu, dy)
    dy, gu = arrays.floats("swiglu_packed_backward", dy, gu)
    d = device.cupy().empty(gu.shape, np.float32)
    arrays.each("activation", "swiglu_backward", dy.size, dy, *_halves(gu, half), dy.size, half, 2 * half, *_halves(d, half))
    return d


def _halves(gu: Any, half: int) -> tuple[Any, Any]:
    """Where the gates and the values of gu [N, 2F] begin."""
    flat = gu.reshape(-1)
    return flat, flat[half:]


def _known(kind: str) -> str:
    if kind not in GELU_KINDS:
        raise UnknownNameError("gelu kind", kind, GELU_KINDS)
    return kind


def _each(entry: str, *args: Any, constants: tuple[Any, ...] = ()) -> Any:
    """The kernel over args of one shape; the last one's shape is the result's."""
    out = device.cupy().empty(args[-1].shape, np.float32)
    arrays.each("activation", entry, out.size, *args, out.size, *constants, out)
    return out
