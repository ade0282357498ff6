"""The elementary functions over whole arrays: `lpref.ref.elementary`, bit for bit, vectorised and on every core.

Each has a kernel of its own, written out: Numba keeps no compiled code of a kernel that was made by a function from another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu import elementary as e
from lpref.accel.cpu.threads import split
from lpref.ref.errors import FormatError

_GRAIN = 8192
"""Elements that are worth a thread."""

_compiled = njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def _exp(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = e.exp64(np.float64(x[i]))


@_compiled
def _exp2(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = e.exp2_64(np.float64(x[i]))


@_compiled
def _log(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = e.log64(np.float64(x[i]))


@_compiled
def _log2(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = e.log2_64(np.float64(x[i]))


@_compiled
def _sin(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = e.sin64(np.float64(x[i]))


@_compiled
def _cos(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = e.cos64(np.float64(x[i]))


@_compiled
def _tanh(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = e.tanh64(np.float64(x[i]))


@_compiled
def _sigmoid(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = e.sigmoid64(np.float64(x[i]))


@_compiled
def _erf(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = e.erf64(np.float64(x[i]))


@_compiled
def _rsqrt(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = e.rsqrt64(np.float64(x[i]))


@_compiled
def _pow(x: Any, y: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = e.pow64(np.float64(x[i]), y[i])


def _function(kernel: Callable[..., None]) -> Callable[[Any], np.ndarray]:
    """The function of `lpref.ref.elementary` whose kernel this is."""
    name = kernel.__name__.strip("_")

    def function(x: Any) -> np.ndarray:
        x = np.asarray(x)
        _check(x, name)
        out = np.empty(x.shape, x.dtype)
        source, target = np.ascontiguousarray(x).reshape(-1), out.reshape(-1)
        split(x.size, lambda a, b: kernel(source[a:b], target[a:b]), grain=_GRAIN)
        return out

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`lpref.ref.elementary.{name}`."
    return function


def _check(x: np.ndarray, name: str) -> None:
    if x.dtype not in (np.float32, np.float64):
        raise FormatError(f"elementary functions take float32 or float64, not {x.dtype}", where=name)


exp, exp2, log, log2 = _function(_exp), _function(_exp2), _function(_log), _function(_log2)
sin, cos, tanh, sigmoid = _function(_sin), _function(_cos), _function(_tanh), _function(_sigmoid)
erf, rsqrt = _function(_erf), _function(_rsqrt)


def pow(x: Any, y: Any) -> np.ndarray:
    """`lpref.ref.elementary.pow`."""
    x, y = np.asarray(x), np.asarray(y, np.float64)
    _check(x, "pow")
    out = np.empty(np.broadcast_shapes(x.shape, y.shape), x.dtype)
    base, power = (np.ascontiguousarray(np.broadcast_to(v, out.shape)).reshape(-1) for v in (x, y))
    target = out.reshape(-1)
    split(out.size, lambda a, b: _pow(base[a:b], power[a:b], target[a:b]), grain=_GRAIN)
    return out
