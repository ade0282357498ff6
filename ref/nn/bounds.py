r"""How far activations and cross-entropy of grade fast may be from the definition: e^x and quotients in float32 by units for 2^x and 1 / x.

The units: 2^x within 4 u of the value, 1 / x within 2 u (u = 2^-24; PTX ISA, ex2.approx.ftz.f32 and rcp.approx.ftz.f32), results below 2^-126 are 0.
From them, with x log2 e rounded once of a rounded constant, and with the one rounding of the definition:

    exp      |E' - E| <= eta(x) E,          eta(x) = u (2.25 |x| + 5.25)
    sigmoid  s = 1 / (1 + e^-x): an error of e^-x reaches s times 1 - s, so |s' - s| <= e(x) = u s ((2.25 |x| + 4.25) (1 - s) + 4.25) + 2^-125
    tanh     t = 1 - 2 / (1 + e^2x): |t' - t| <= 2 max_x r ((4.2 |x| + 4.1) (1 - r) + 3.1) u + 2 u, r = 1 / (1 + e^2x); the maximum is 3.6 (near
             x = -1): 10 u

Each op keeps the definition's order after that; where it makes n roundings, both sides' are bounded by 2 gamma_n of the terms' magnitudes:

    silu                     |x| e + 2 gamma_1 |x| s
    silu's slope             e (1 + 2 |x|) + 2 gamma_5 s (1 + |x| (1 - s)), from s (1 + x (1 - s))
    gelu (tanh)              |x / 2| (10 u + 2 gamma_3 (1 + |t|))
    gelu's slope (tanh)      5 u + |x / 2| c 21 u + 2 gamma_8 (1 + |x / 2| c), c = a |1 + 3 b x^2|: t'^2 - t^2 is at most 20 u (1 + u)
    cross-entropy            S = sum e^z, dS = sum eta e^z + 2 gamma_(n / 1024 + 16) S; a row's loss dS / S + gamma_4 (|log S| + |z|), the mean of all
                             and its roundings; probabilities p (eta + dS / S + gamma_8) + 2^-125

(1 + 2^-10 of it for the products of two errors.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.linalg.bounds import U32, gamma
from lpref.ref.nn.activation import GELU_CUBIC, SQRT_2_OVER_PI

TINY = 2.0**-125
SECOND = 1.0 + 2.0**-10
Array = NDArray[np.float64]


def silu_bound(_: Any, x: Any) -> Array:
    """|silu' - silu|."""
    x = _wide(x)
    s, gap = _sigmoid(x)
    return SECOND * np.abs(x) * (gap + 2 * gamma(1) * s) + TINY


def silu_backward_bound(_: Any, dy: Any, x: Any) -> Array:
    """|dx' - dx|."""
    return SECOND * np.abs(_wide(dy)) * (_slope_gap(_wide(x)) + TINY) + TINY


def gelu_bound(expected: Any, x: Any, kind: str = "tanh") -> Array:
    """|gelu' - gelu|; kind "erf" has the definition's bits."""
    x = _wide(x)
    return SECOND * np.abs(0.5 * x) * (10 * U32 + 4 * gamma(3)) + TINY if kind == "tanh" else np.zeros(x.shape)


def gelu_backward_bound(expected: Any, dy: Any, x: Any, kind: str = "tanh") -> Array:
    """|dx' - dx|; kind "erf": the exponential of -x^2 / 2, times |x| / sqrt(2 pi)."""
    dy, x = _wide(dy), _wide(x)
    if kind == "erf":
        bell = np.exp(-0.5 * x * x) * np.abs(x)  # exact: a bound
        return SECOND * np.abs(dy) * (0.4 * bell * (_eta(0.5 * x * x) + 2 * gamma(4)) + 2 * gamma(4) + TINY * (1 + np.abs(x)))
    slope = SQRT_2_OVER_PI * np.abs(1 + 3 * GELU_CUBIC * x * x)
    inner = np.abs(0.5 * x) * slope
    return SECOND * np.abs(dy) * (5 * U32 + 21 * U32 * inner + 2 * gamma(8) * (1 + inner)) + TINY


def swiglu_bound(_: Any, g: Any, u: Any) -> Array:
    """|y' - y|."""
    g, u = _wide(g), _wide(u)
    s, gap = _sigmoid(g)
    return SECOND * np.abs(g * u) * (gap + 2 * gamma(2) * s) + TINY * (1 + np.abs(u))


def swiglu_backward_bound(_: Any, dy: Any, g: Any, u: Any) -> tuple[Array, Array]:
    """|dg' - dg| and |du' - du|."""
    dy, g, u = _wide(dy), _wide(g), _wide(u)
    s, gap = _sigmoid(g)
    tiny = TINY * (1 + np.abs(dy)) * (1 + np.abs(u))
    return SECOND * np.abs(dy * u) * _slope_gap(g) + tiny, SECOND * np.abs(dy * g) * (gap + 2 * gamma(2) * s) + tiny


def swiglu_packed_bound(_: Any, gu: Any) -> Array:
    """`swiglu_bound` of the halves of gu [N, 2F]."""
    half = gu.shape[1] // 2
    return swiglu_bound(_, gu[:, :half], gu[:, half:])


def swiglu_packed_backward_bound(_: Any, dy: Any, gu: Any) -> Array:
    """`swiglu_backward_bound` of the halves, side by side."""
    half = gu.shape[1] // 2
    return np.concatenate(swiglu_backward_bound(_, dy, gu[:, :half], gu[:, half:]), axis=1)


def softmax_cross_entropy_bound(_: Any, logits: Any, targets: Any) -> tuple[Array, Array]:
    """Bounds of (loss, probabilities)."""
    x = _wide(logits)
    (rows, n), at = x.shape, (np.arange(len(x)), np.asarray(targets))
    with np.errstate(all="ignore"):
        z = x - np.max(x, axis=1, keepdims=True)
        e, eta = np.exp(z), np.where(z > -128, _eta(z), 0.0)  # exact: a bound
        total = e.sum(axis=1, keepdims=True)  # exact: a bound
        off = ((e * eta).sum(axis=1, keepdims=True) + n * TINY) / total + 2 * gamma(n // 1024 + 16)  # exact: a bound
        loss = off[:, 0] * SECOND + 2 * gamma(4) * (np.abs(np.log(total[:, 0])) + np.abs(z[at]) + 1)  # exact: a bound
        mean = loss.mean() + 2 * gamma(rows // 1024 + 16) * np.mean(np.abs(np.log(total[:, 0])) + np.abs(z[at]) + loss)  # exact: a bound
        return np.asarray(mean), e / total * (eta + off + 2 * gamma(8)) * SECOND + TINY


def _wide(x: Any) -> Array:
    return np.asarray(x, np.float64)


def _eta(x: Array) -> Array:
    return U32 * (2.25 * np.abs(x) + 5.25)


def _sigmoid(x: Array) -> tuple[Array, Array]:
    """s and e(x); nothing is promised of arguments that are not finite."""
    with np.errstate(over="ignore"):
        s = 1.0 / (1.0 + np.exp(-x))  # exact: a bound
    return s, U32 * s * ((2.25 * np.abs(x) + 4.25) * (1.0 - s) + 4.25) + TINY


def _slope_gap(x: Array) -> Array:
    s, gap = _sigmoid(x)
    return gap * (1.0 + 2.0 * np.abs(x)) + 2 * gamma(5) * s * (1.0 + np.abs(x) * (1.0 - s))
