"""Activations: the pages of `lpref.ref.nn.activation` in one pass each, with their bits."""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu.elementary import erf64, exp64, sigmoid64, tanh64
from lpref.accel.cpu.rows import KERNEL, host
from lpref.accel.cpu.threads import divide, split
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

_A, _B, _B3 = np.float32(SQRT_2_OVER_PI), np.float32(GELU_CUBIC), np.float32(3 * GELU_CUBIC)
_ROOT, _DENSITY = np.float32(SQRT_HALF), np.float32(INV_SQRT_2PI)
_HALF, _ONE, _ZERO = np.float32(0.5), np.float32(1), np.float32(0)


def relu(x: np.ndarray) -> np.ndarray:
    """`lpref.ref.nn.relu`."""
    (x,) = host("relu", x)
    y = np.empty_like(x)
    _each(_relu, x.reshape(-1), x.reshape(-1), y.reshape(-1))
    return y


def relu_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`lpref.ref.nn.relu_backward`."""
    check_same("relu_backward", dy, x)
    dy, x = host("relu_backward", dy, x)
    dx = np.empty_like(x)
    _each(_relu, dy.reshape(-1), x.reshape(-1), dx.reshape(-1))
    return dx


def silu(x: np.ndarray) -> np.ndarray:
    """`lpref.ref.nn.silu`."""
    (x,) = host("silu", x)
    y = np.empty_like(x)
    _each(_silu, x.reshape(-1), y.reshape(-1))
    return y


def silu_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`lpref.ref.nn.silu_backward`."""
    check_same("silu_backward", dy, x)
    dy, x = host("silu_backward", dy, x)
    dx = np.empty_like(x)
    _each(_silu_backward, dy.reshape(-1), x.reshape(-1), dx.reshape(-1))
    return dx


def gelu(x: np.ndarray, kind: str = "tanh") -> np.ndarray:
    """`lpref.ref.nn.gelu`."""
    (x,) = host("gelu", x)
    y = np.empty_like(x)
    _each(_kernel(kind, _gelu_tanh, _gelu_erf), x.reshape(-1), y.reshape(-1))
    return y


def gelu_backward(dy: np.ndarray, x: np.ndarray, kind: str = "tanh") -> np.ndarray:
    """`lpref.ref.nn.gelu_backward`."""
    check_same("gelu_backward", dy, x)
    dy, x = host("gelu_backward", dy, x)
    dx = np.empty_like(x)
    _each(_kernel(kind, _gelu_tanh_backward, _gelu_erf_backward), dy.reshape(-1), x.reshape(-1), dx.reshape(-1))
    return dx


def swiglu(g: np.ndarray, u: np.ndarray) -> np.ndarray:
    """`lpref.ref.nn.swiglu`."""
    check_same("swiglu", g, u)
    g, u = host("swiglu", g, u)
    y = np.empty_like(g)
    flat = _rows(y)
    divide(_swiglu, len(flat), g.reshape(-1), u.reshape(-1), flat.shape[1], 0, flat)
    return y


def swiglu_backward(dy: np.ndarray, g: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`lpref.ref.nn.swiglu_backward`."""
    check_same("swiglu_backward", g, u, dy)
    dy, g, u = host("swiglu_backward", dy, g, u)
    dg, du = np.empty_like(g), np.empty_like(u)
    flat = _rows(dy)
    divide(_swiglu_backward, len(flat), flat, g.reshape(-1), u.reshape(-1), flat.shape[1], 0, dg.reshape(-1), du.reshape(-1))
    return dg, du


def swiglu_packed(gu: np.ndarray) -> np.ndarray:
    """`lpref.ref.nn.swiglu_packed`."""
    half = check_halves("swiglu_packed", gu)
    (gu,) = host("swiglu_packed", gu)
    y = np.empty((len(gu), half), np.float32)
    divide(_swiglu, len(y), gu.reshape(-1), gu.reshape(-1), 2 * half, half, y)
    return y


def swiglu_packed_backward(dy: np.ndarray, gu: np.ndarray) -> np.ndarray:
    """`lpref.ref.nn.swiglu_packed_backward`."""
    half = check_halves("swiglu_packed_backward", gu, dy)
    dy, gu = host("swiglu_packed_backward", dy, gu)
    d = np.empty_like(gu)
    divide(_swiglu_backward, len(dy), dy, gu.reshape(-1), gu.reshape(-1), 2 * half, half, d.reshape(-1), d.reshape(-1))
    return d


def _rows(x: np.ndarray) -> np.ndarray:
    """x [..., F] as [N, F]."""
    return x.reshape(x.size // max(1, x.shape[-1]), x.shape[-1])


def _each(kernel, *flat):  # type: ignore[no-untyped-def]
    split(flat[0].size, lambda start, stop: kernel(*[x[start:stop] for x in flat]), grain=1 << 14)


def _kernel(kind, tanh, erf):  # type: ignore[no-untyped-def]
    if kind not in GELU_KINDS:
        raise UnknownNameError("gelu kind", kind, GELU_KINDS)
    return tanh if kind == "tanh" else erf


@njit(**KERNEL)
def _relu(v, x, y):  # type: ignore[no-untyped-def]
    """y = +0 where x ≤ 0, else v."""
    for i in range(x.size):
        y[i] = _ZERO if x[i] <= _ZERO else v[i]


@njit(**KERNEL)
def _silu(x, y):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        y[i] = x[i] * np.float32(sigmoid64(np.float64(x[i])))


@njit(**KERNEL)
def _silu_backward(dy, x, dx):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        s = np.float32(sigmoid64(np.float64(x[i])))
        dx[i] = dy[i] * (s * (_ONE + x[i] * (_ONE - s)))


@njit(**KERNEL)
def _gelu_tanh(x, y):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        v = x[i]
        t = np.float32(tanh64(np.float64(_A * (v + _B * (v * v * v)))))
        y[i] = (_HALF * v) * (_ONE + t)


@njit(**KERNEL)
def _gelu_erf(x, y):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        y[i] = (_HALF * x[i]) * (_ONE + np.float32(erf64(np.float64(x[i] * _ROOT))))


@njit(**KERNEL)
def _gelu_tanh_backward(dy, x, dx):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        v = x[i]
        t = np.float32(tanh64(np.float64(_A * (v + _B * (v * v * v)))))
        slope = (_ONE - t * t) * (_A * (_ONE + _B3 * (v * v)))
        dx[i] = dy[i] * (_HALF * (_ONE + t) + (_HALF * v) * slope)


@njit(**KERNEL)
def _gelu_erf_backward(dy, x, dx):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        v = x[i]
        t = np.float32(erf64(np.float64(v * _ROOT)))
        dx[i] = dy[i] * (_HALF * (_ONE + t) + v * (_DENSITY * np.float32(exp64(np.float64((-_HALF * v) * v)))))


@njit(**KERNEL)
def _swiglu(start, stop, g, u, pitch, shift, y):  # type: ignore[no-untyped-def]
    """y [N, F] from g[i·pitch + j] and u[i·pitch + shift + j]."""
    F = y.shape[1]
    for i in range(start, stop):
        gate, up, out = g[i * pitch : i * pitch + F], u[i * pitch + shift : i * pitch + shift + F], y[i]
        for j in range(F):
            out[j] = (gate[j] * np.float32(sigmoid64(np.float64(gate[j])))) * up[j]


@njit(**KERNEL)
def _swiglu_backward(start, stop, dy, g, u, pitch, shift, dg, du):  # type: ignore[no-untyped-def]
    F = dy.shape[1]
    for i in range(start, stop):
        a, b = i * pitch, i * pitch + shift
        gate, up, d, dgate, dup = g[a : a + F], u[b : b + F], dy[i], dg[a : a + F], du[b : b + F]
        for j in range(F):
            x = gate[j]
            s = np.float32(sigmoid64(np.float64(x)))
            dgate[j] = (d[j] * up[j]) * (s * (_ONE + x * (_ONE - s)))
            dup[j] = d[j] * (x * s)
