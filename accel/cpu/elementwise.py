"""The elementary functions over whole arrays: `lpref.ref.elementary`, bit for bit, vectorised and on every core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange

from lpref.accel.cpu import elementary as e
from lpref.ref.errors import FormatError

_PART = 8192
"""Elements that one thread takes at a time."""

_compiled = njit(cache=True, parallel=True, nogil=True, error_model="numpy")


@_compiled
def _exp(x: Any, out: Any) -> None:
    for part in prange((x.size + _PART - 1) // _PART):
        for i in range(part * _PART, min(x.size, part * _PART + _PART)):
            out[i] = e.exp64(np.float64(x[i]))


@_compiled
def _exp2(x: Any, out: Any) -> None:
    for part in prange((x.size + _PART - 1) // _PART):
        for i in range(part * _PART, min(x.size, part * _PART + _PART)):
            out[i] = e.exp2_64(np.float64(x[i]))


@_compiled
def _log(x: Any, out: Any) -> None:
    for part in prange((x.size + _PART - 1) // _PART):
        for i in range(part * _PART, min(x.size, part * _PART + _PART)):
            out[i] = e.log64(np.float64(x[i]))


@_compiled
def _log2(x: Any, out: Any) -> None:
    for part in prange((x.size + _PART - 1) // _PART):
        for i in range(part * _PART, min(x.size, part * _PART + _PART)):
            out[i] = e.log2_64(np.float64(x[i]))


@_compiled
def _sin(x: Any, out: Any) -> None:
    for part in prange((x.size + _PART - 1) // _PART):
        for i in range(part * _PART, min(x.size, part * _PART + _PART)):
            out[i] = e.sin64(np.float64(x[i]))


@_compiled
def _cos(x: Any, out: Any) -> None:
    for part in prange((x.size + _PART - 1) // _PART):
        for i in range(part * _PART, min(x.size, part * _PART + _PART)):
            out[i] = e.cos64(np.float64(x[i]))


@_compiled
def _tanh(x: Any, out: Any) -> None:
    for part in prange((x.size + _PART - 1) // _PART):
        for i in range(part * _PART, min(x.size, part * _PART + _PART)):
            out[i] = e.tanh64(np.float64(x[i]))


@_compiled
def _sigmoid(x: Any, out: Any) -> None:
    for part in prange((x.size + _PART - 1) // _PART):
        for i in range(part * _PART, min(x.size, part * _PART + _PART)):
            out[i] = e.sigmoid64(np.float64(x[i]))


@_compiled
def _erf(x: Any, out: Any) -> None:
    for part in prange((x.size + _PART - 1) // _PART):
        for i in range(part * _PART, min(x.size, part * _PART + _PART)):
            out[i] = e.erf64(np.float64(x[i]))


@_compiled
def _rsqrt(x: Any, out: Any) -> None:
    for part in prange((x.size + _PART - 1) // _PART):
        for i in range(part * _PART, min(x.size, part * _PART + _PART)):
            out[i] = e.rsqrt64(np.float64(x[i]))


@_compiled
def _pow(x: Any, y: Any, out: Any) -> None:
    for part in prange((x.size + _PART - 1) // _PART):
        for i in range(part * _PART, min(x.size, part * _PART + _PART)):
            out[i] = e.pow64(np.float64(x[i]), y[i])


def _flat(kernel: Callable[..., None], x: Any) -> np.ndarray:
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        message = f"elementary functions take float32 or float64, not {x.dtype}"
        raise FormatError(message, where=kernel.__name__.strip("_"))
    out = np.empty(x.shape, x.dtype)
    kernel(np.ascontiguousarray(x).reshape(-1), out.reshape(-1))
    return out


def exp(x: Any) -> np.ndarray:
    """`lpref.ref.elementary.exp`."""
    return _flat(_exp, x)


def exp2(x: Any) -> np.ndarray:
    """`lpref.ref.elementary.exp2`."""
    return _flat(_exp2, x)


def log(x: Any) -> np.ndarray:
    """`lpref.ref.elementary.log`."""
    return _flat(_log, x)


def log2(x: Any) -> np.ndarray:
    """`lpref.ref.elementary.log2`."""
    return _flat(_log2, x)


def sin(x: Any) -> np.ndarray:
    """`lpref.ref.elementary.sin`."""
    return _flat(_sin, x)


def cos(x: Any) -> np.ndarray:
    """`lpref.ref.elementary.cos`."""
    return _flat(_cos, x)


def tanh(x: Any) -> np.ndarray:
    """`lpref.ref.elementary.tanh`."""
    return _flat(_tanh, x)


def sigmoid(x: Any) -> np.ndarray:
    """`lpref.ref.elementary.sigmoid`."""
    return _flat(_sigmoid, x)


def erf(x: Any) -> np.ndarray:
    """`lpref.ref.elementary.erf`."""
    return _flat(_erf, x)


def rsqrt(x: Any) -> np.ndarray:
    """`lpref.ref.elementary.rsqrt`."""
    return _flat(_rsqrt, x)


def pow(x: Any, y: Any) -> np.ndarray:
    """`lpref.ref.elementary.pow`."""
    x, y = np.asarray(x), np.asarray(y, np.float64)
    if x.dtype not in (np.float32, np.float64):
        raise FormatError(f"elementary functions take float32 or float64, not {x.dtype}", where="pow")
    out = np.empty(np.broadcast_shapes(x.shape, y.shape), x.dtype)
    base, power = (np.ascontiguousarray(np.broadcast_to(v, out.shape)).reshape(-1) for v in (x, y))
    _pow(base, power, out.reshape(-1))
    return out
