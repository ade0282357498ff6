"""Pointwise activations and the gated one, forward and backward, in the dtype of `x`.

NaN in gives NaN out; nothing is clamped. `sigmoid`, `tanh`, `erf`, `exp` are those of `lpref.ref.elementary`.
"""

from __future__ import annotations

import math

import numpy as np

from lpref.ref.elementary import erf, exp, sigmoid, tanh
from lpref.ref.errors import ShapeError, UnknownNameError

SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)  # tanh form: inner slope
GELU_CUBIC = 0.044715  # tanh form: cubic coefficient
SQRT_HALF = math.sqrt(0.5)  # erf form: x / sqrt(2)
INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)  # density of the normal law at 0
GELU_KINDS = ("tanh", "erf")


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0): +0 where x ≤ 0 (also for −0), else x; NaN stays NaN.

    >>> relu(np.float32([-1, -0.0, 2])).tolist()
    [0.0, 0.0, 2.0]
    """
    return np.where(x <= 0, x.dtype.type(0), x)


def relu_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dx = +0 where x ≤ 0, else dy (so the derivative at 0 is 0, and a NaN x lets dy through, as in torch)."""
    check_same("relu_backward", dy, x)
    return np.where(x <= 0, dy.dtype.type(0), dy)


def silu(x: np.ndarray) -> np.ndarray:
    """x · sigmoid(x). −inf gives NaN (inf · 0). Source: arXiv:1702.03118; swish with β = 1, arXiv:1710.05941."""
    return x * sigmoid(x)


def silu_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dx = dy · (s · (1 + x · (1 − s))) with s = sigmoid(x), in the order of the brackets."""
    check_same("silu_backward", dy, x)
    return dy * _silu_slope(x, sigmoid(x))


def gelu(x: np.ndarray, kind: str = "tanh") -> np.ndarray:
    r"""x · Φ(x), Φ the normal distribution function. Source: arXiv:1606.08415 sec. 2.

    kind "tanh": ``(0.5 · x) · (1 + tanh(a · (x + b · (x · x · x))))``, a = √(2/π), b = 0.044715, constants in the dtype of x.
    kind "erf": ``(0.5 · x) · (1 + erf(x · √½))``.
    """
    half, one = x.dtype.type(0.5), x.dtype.type(1)
    return (half * x) * (one + _gelu_inner(x, kind))


def gelu_backward(dy: np.ndarray, x: np.ndarray, kind: str = "tanh") -> np.ndarray:
    r"""Gradient of `gelu`.

    tanh: t = tanh(u); ``dx = dy · (0.5 · (1 + t) + (0.5 · x) · ((1 − t · t) · (a · (1 + (3 · b) · (x · x)))))``, 3·b rounded once.
    erf: ``dx = dy · (0.5 · (1 + t) + x · (c · exp((−0.5 · x) · x)))``, c = 1/√(2π).
    """
    check_same("gelu_backward", dy, x)
    real = x.dtype.type
    half, one = real(0.5), real(1)
    t = _gelu_inner(x, kind)
    if kind == "tanh":
        slope = (one - t * t) * (real(SQRT_2_OVER_PI) * (one + real(3 * GELU_CUBIC) * (x * x)))
        return dy * (half * (one + t) + (half * x) * slope)
    return dy * (half * (one + t) + x * (real(INV_SQRT_2PI) * exp((-half * x) * x)))


def swiglu(g: np.ndarray, u: np.ndarray) -> np.ndarray:
    """silu(g) · u = (g · sigmoid(g)) · u. Source: arXiv:2002.05202 eq. 6 (gate g = xW, value u = xV)."""
    check_same("swiglu", g, u)
    return (g * sigmoid(g)) * u


def swiglu_backward(dy: np.ndarray, g: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(dg, du): s = sigmoid(g); ``dg = (dy · u) · (s · (1 + g · (1 − s)))``, ``du = dy · (g · s)``."""
    check_same("swiglu_backward", g, u, dy)
    s = sigmoid(g)
    return (dy * u) * _silu_slope(g, s), dy * (g * s)


def swiglu_packed(gu: np.ndarray) -> np.ndarray:
    """`swiglu` of the two halves of the last axis: gu [N, 2F], gate first -> [N, F]."""
    return swiglu(*_halves("swiglu_packed", gu))


def swiglu_packed_backward(dy: np.ndarray, gu: np.ndarray) -> np.ndarray:
    """`swiglu_backward`, both gradients side by side as in gu: [N, 2F]."""
    return np.concatenate(swiglu_backward(dy, *_halves("swiglu_packed_backward", gu)), axis=-1)


def _silu_slope(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    one = x.dtype.type(1)
    return s * (one + x * (one - s))


def _gelu_inner(x: np.ndarray, kind: str) -> np.ndarray:
    real = x.dtype.type
    if kind == "tanh":
        return tanh(real(SQRT_2_OVER_PI) * (x + real(GELU_CUBIC) * (x * x * x)))
    if kind == "erf":
        return erf(x * real(SQRT_HALF))
    raise UnknownNameError("gelu kind", kind, GELU_KINDS)


def _halves(op: str, gu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half = check_halves(op, gu)
    return gu[:, :half], gu[:, half:]


def check_halves(op: str, gu: np.ndarray, dy: np.ndarray | None = None) -> int:
    """F of gu [N, 2F] and dy [N, F]."""
    if gu.ndim != 2 or gu.shape[1] % 2 or (dy is not None and dy.shape != (gu.shape[0], gu.shape[1] // 2)):
        given = f"gu is {gu.shape}" + ("" if dy is None else f", dy {dy.shape}")
        raise ShapeError(f"{given}; needed gu [N, 2F], dy [N, F]", where=op)
    return gu.shape[1] // 2


def check_same(op: str, *arrays: np.ndarray) -> None:
    """One shape for all."""
    if len({a.shape for a in arrays}) != 1:
        raise ShapeError(f"shapes differ: {', '.join(str(a.shape) for a in arrays)}", where=op)
