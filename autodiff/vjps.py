"""The derivatives: for each primitive y = f(a, b, …) and each input, the map from g = dL/dy to dL/da.

A page of calculus. Every rule is written on tensors in the same primitives, so the derivative of a derivative is
again in this table. `g` is the gradient of the result, `y` the result; inputs follow in order. What a rule reads must
be named in `primitives.py` (`keep`); everything else arrives as its shape.

Conventions at kinks: abs'(0) = 0; max and maximum share the gradient equally among ties; comparisons have none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lpref.autodiff import plain as F
from lpref.autodiff.primitives import normalize_axes
from lpref.autodiff.tensor import Tensor, apply


def like(g: Tensor, x: Any) -> Tensor:
    """Undo broadcasting: sum g over the axes along which x was repeated (one `tree_sum` over them together)."""
    shape = x.shape
    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(shape) if n == 1 and g.shape[lead + i] != 1)
    return F.reshape(F.sum(g, axis=axes), shape)


def swap(x: Tensor) -> Tensor:
    """The last two axes exchanged."""
    return F.transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def spread(g: Tensor, x: Any, axis: Any, keepdims: bool) -> Tensor:
    """The gradient (or value) of a reduction over `axis`, repeated to x's shape."""
    if not keepdims:
        axes = normalize_axes(axis, x.ndim)
        g = F.reshape(g, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))
    return F.broadcast_to(g, x.shape)


def shares(x: Tensor, y: Tensor, axis: Any, keepdims: bool) -> Tensor:
    """For y = max(x): 1/ties where x attains it, else 0."""
    ties = apply("equal", x.detach(), spread(y.detach(), x, axis, keepdims))
    return ties / F.sum(ties, axis=axis, keepdims=True)


def wins(a: Any, b: Any) -> Tensor:
    """1 where a > b, ½ where equal, else 0."""
    a, b = F.stop_gradient(a), F.stop_gradient(b)
    return apply("greater", a, b) + apply("equal", a, b) * 0.5


def part(g: Tensor, i: int, xs: tuple, axis: int) -> Tensor:
    """Input i's slice of the gradient of a concatenation."""
    axis %= g.ndim
    start = sum(x.shape[axis] for x in xs[:i])
    return g[(slice(None),) * axis + (slice(start, start + xs[i].shape[axis]),)]


def inner(g: Tensor, x: Any, widths: Any) -> Tensor:
    """g without its padding."""
    return g[tuple(slice(lo, lo + n) for (lo, _), n in zip(widths, x.shape, strict=True))]


# one function an input; a single function takes the input's position first (any number of inputs)
VJPS: dict[str, tuple[Callable[..., Any] | None, ...] | Callable[..., Any]] = {
    # elementwise, two operands
    "add": (lambda g, y, a, b: like(g, a), lambda g, y, a, b: like(g, b)),
    "sub": (lambda g, y, a, b: like(g, a), lambda g, y, a, b: like(-g, b)),
    "mul": (lambda g, y, a, b: like(g * b, a), lambda g, y, a, b: like(g * a, b)),
    "div": (lambda g, y, a, b: like(g / b, a), lambda g, y, a, b: like(-(g * y / b), b)),
    "maximum": (lambda g, y, a, b: like(g * wins(a, b), a), lambda g, y, a, b: like(g * wins(b, a), b)),
    "power": (
        lambda g, y, a, b: like(g * (b * F.power(a, b - 1.0)), a),
        lambda g, y, a, b: like(g * (y * F.log(a)), b),
    ),
    "where": (
        None,
        lambda g, y, c, a, b: like(F.where(c, g, F.zeros_like(g)), a),
        lambda g, y, c, a, b: like(F.where(c, F.zeros_like(g), g), b),
    ),
    # elementwise, one operand
    "neg": (lambda g, y, x: -g,),
    "exp": (lambda g, y, x: g * y,),
    "log": (lambda g, y, x: g / x,),
    "tanh": (lambda g, y, x: g * (1.0 - y * y),),
    "sqrt": (lambda g, y, x: g * (0.5 / y),),
    "rsqrt": (lambda g, y, x: g * (-0.5 * (y / x)),),
    "abs": (lambda g, y, x: g * (wins(x, 0.0) * 2.0 - 1.0),),
    "sigmoid": (lambda g, y, x: g * (y * (1.0 - y)),),
    "erf": (lambda g, y, x: g * (F.exp(-(x * x)) * (2.0 / math.sqrt(math.pi))),),
    "sin": (lambda g, y, x: g * F.cos(x),),
    "cos": (lambda g, y, x: g * -F.sin(x),),
    # comparisons are constant almost everywhere
    "greater": (None, None),
    "equal": (None, None),
    # shape
    "reshape": (lambda g, y, x, shape: F.reshape(g, x.shape),),
    "transpose": (lambda g, y, x, axes: F.transpose(g, tuple(axes.index(i) for i in range(len(axes)))),),
    "broadcast_to": (lambda g, y, x, shape: like(g, x),),
    "getitem": (lambda g, y, x, index: apply("setitem", g, index=index, shape=x.shape),),
    "setitem": (lambda g, y, x, index, shape: g[index],),
    "concat": lambda i, g, y, *xs, axis: part(g, i, xs, axis),
    "stack": lambda i, g, y, *xs, axis: g[(slice(None),) * (axis % g.ndim) + (i,)],
    "pad": (lambda g, y, x, widths: inner(g, x, widths),),
    # reductions
    "sum": (lambda g, y, x, axis=None, keepdims=False: spread(g, x, axis, keepdims),),
    "max": (lambda g, y, x, axis=None, keepdims=False: spread(g, x, axis, keepdims) * shares(x, y, axis, keepdims),),
    # linear maps
    "matmul": (
        lambda g, y, a, b: like(F.matmul(g, swap(b)), a),
        lambda g, y, a, b: like(F.matmul(swap(a), g), b),
    ),
    "embedding": (lambda g, y, table, ids: apply("embedding_transpose", g, ids=ids, rows=table.shape[0]),),
    "embedding_transpose": (lambda g, y, x, ids, rows: apply("embedding", g, ids=ids),),
    "rope": (lambda g, y, x, cos, sin: apply("rope_transpose", g, cos=cos, sin=sin),),
    "rope_transpose": (lambda g, y, x, cos, sin: apply("rope", g, cos=cos, sin=sin),),
    "im2col": (lambda g, y, x, **window: apply("col2im", g, shape=x.shape, **window),),
    "col2im": (lambda g, y, x, shape, **window: apply("im2col", g, **window),),
}
