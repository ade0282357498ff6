"""RMSNorm and LayerNorm, forward and backward, in one stated order of operations.

Sums are the defined sum (`lpref.ref.reduce.tree_sum`); everything is in the dtype of `x` (float32, or float64 for gradient checks).
NaN or infinity in a row makes that row NaN or infinite by IEEE 754 arithmetic; nothing is caught. ``eps`` keeps a zero row finite.

Sources: RMSNorm arXiv:1910.07467 eq. 4; LayerNorm arXiv:1607.06450 eq. 3, biased variance; eps inside the root as in
pytorch/pytorch torch/nn/modules/normalization.py.

`add_rmsnorm` and `add_layernorm` are those of a residual stream: the addition and the norm that reads the sum; their backward passes add the gradient
that goes past the norm. They are their compositions, bit for bit, so that a backend may make each in one pass.
"""

from __future__ import annotations

import numpy as np

from lpref.ref.elementary import rsqrt
from lpref.ref.errors import ShapeError
from lpref.ref.reduce import tree_mean, tree_sum


def rmsnorm(x: np.ndarray, w: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    r"""y = x / sqrt(mean(x²) + eps) · w.

    x [N, D], w [D] -> y [N, D], rstd [N]. Order: ``ms = tree_sum(x·x) / D``, ``rstd = rsqrt(ms + eps)``, ``y = (x · rstd) · w``.

    >>> y, rstd = rmsnorm(np.float32([[3, -3]]), np.float32([1, 2]), 0.0)
    >>> y.tolist()
    [[1.0, -2.0]]
    """
    check("rmsnorm", x, w)
    rstd = rsqrt(tree_mean(x * x, axis=-1) + x.dtype.type(eps))
    return (x * rstd[:, None]) * w, rstd


def rmsnorm_backward(dy: np.ndarray, x: np.ndarray, w: np.ndarray, rstd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Gradients of `rmsnorm`: dx [N, D], dw [D].

    Order: ``h = x · rstd``, ``g = dy · w``, ``c = tree_sum(g · h) / D``, ``dx = (g − h · c) · rstd``,
    ``dw = tree_sum(dy · h, axis 0)``.
    """
    check("rmsnorm_backward", x, w, dy)
    h = x * rstd[:, None]
    g = dy * w
    c = tree_mean(g * h, axis=-1)
    return (g - h * c[:, None]) * rstd[:, None], tree_sum(dy * h, axis=0)


def layernorm(x: np.ndarray, w: np.ndarray, b: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""y = (x − mean) / sqrt(var + eps) · w + b, two-pass, biased variance.

    x [N, D], w [D], b [D] -> y [N, D], mean [N], rstd [N].
    Order: ``mean = tree_sum(x) / D``, ``c = x − mean``, ``rstd = rsqrt(tree_sum(c · c) / D + eps)``, ``y = ((c · rstd) · w) + b``.
    """
    check("layernorm", x, w)
    mean = tree_mean(x, axis=-1)
    c = x - mean[:, None]
    rstd = rsqrt(tree_mean(c * c, axis=-1) + x.dtype.type(eps))
    return ((c * rstd[:, None]) * w) + b, mean, rstd


def layernorm_backward(
    dy: np.ndarray, x: np.ndarray, w: np.ndarray, mean: np.ndarray, rstd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Gradients of `layernorm`: dx [N, D], dw [D], db [D].

    Order: ``h = (x − mean) · rstd``, ``g = dy · w``, ``c1 = tree_sum(g) / D``, ``c2 = tree_sum(g · h) / D``,
    ``dx = ((g − c1) − h · c2) · rstd``, ``dw = tree_sum(dy · h, axis 0)``, ``db = tree_sum(dy, axis 0)``.
    """
    check("layernorm_backward", x, w, dy)
    h = (x - mean[:, None]) * rstd[:, None]
    g = dy * w
    c1 = tree_mean(g, axis=-1)
    c2 = tree_mean(g * h, axis=-1)
    return ((g - c1[:, None]) - h * c2[:, None]) * rstd[:, None], tree_sum(dy * h, axis=0), tree_sum(dy, axis=0)


def add_rmsnorm(x: np.ndarray, h: np.ndarray, w: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(y, rstd, s): s = x + h, then `rmsnorm` of s.

    x and h [N, D], w [D] -> y [N, D], rstd [N], s [N, D].

    >>> y, rstd, s = add_rmsnorm(np.float32([[1, -1]]), np.float32([[2, -2]]), np.float32([1, 2]), 0.0)
    >>> y.tolist(), s.tolist()
    ([[1.0, -2.0]], [[3.0, -3.0]])
    """
    check("add_rmsnorm", x, w, h=h)
    s = x + h
    return (*rmsnorm(s, w, eps), s)


def add_rmsnorm_backward(dy: np.ndarray, ds: np.ndarray, s: np.ndarray, w: np.ndarray, rstd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(dx, dw) of `add_rmsnorm`: dx [N, D], of x and of h, is ds, what goes past the norm, plus what `rmsnorm_backward` gives."""
    check("add_rmsnorm_backward", s, w, dy, ds=ds)
    dx, dw = rmsnorm_backward(dy, s, w, rstd)
    return ds + dx, dw


def add_layernorm(
    x: np.ndarray, h: np.ndarray, w: np.ndarray, b: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(y, mean, rstd, s): s = x + h, then `layernorm` of s.

    x and h [N, D], w and b [D] -> y [N, D], mean [N], rstd [N], s [N, D].
    """
    check("add_layernorm", x, w, h=h)
    s = x + h
    return (*layernorm(s, w, b, eps), s)


def add_layernorm_backward(
    dy: np.ndarray, ds: np.ndarray, s: np.ndarray, w: np.ndarray, mean: np.ndarray, rstd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(dx, dw, db) of `add_layernorm`: dx [N, D], of x and of h, is ds, what goes past the norm, plus what `layernorm_backward` gives."""
    check("add_layernorm_backward", s, w, dy, ds=ds)
    dx, dw, db = layernorm_backward(dy, s, w, mean, rstd)
    return ds + dx, dw, db


def check(op: str, x: np.ndarray, w: np.ndarray, dy: np.ndarray | None = None, **more: np.ndarray) -> None:
    """Shapes x, dy and more [N, D], w [D], D > 0."""
    if x.ndim != 2 or w.shape != x.shape[1:] or x.shape[1] == 0:
        raise ShapeError(f"x is {x.shape}, w is {w.shape}; needed x [N, D], w [D], D > 0", where=op, remedy="flatten the leading axes")
    for name, array in {"dy": x if dy is None else dy, **more}.items():
        if array.shape != x.shape:
            raise ShapeError(f"{name} is {array.shape}, x is {x.shape}", where=op)
