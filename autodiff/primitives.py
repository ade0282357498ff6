"""The primitives: what each operation computes (forward), on arrays of a backend.

One entry a primitive: `keep` names what its derivative reads (`vjps.py`): the inputs by letter in order (`a b c`), the
output `y`. Data movement is the array's own; all arithmetic, comparisons included, is an op of the backend (an array's own
operators may flush subnormals, as CuPy's do).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from numbers import Integral
from typing import Any

from lpref.ref.arrays import namespace
from lpref.ref.errors import DTypeError, ShapeError

Array = Any


@dataclass(frozen=True)
class Primitive:
    """`forward(backend, *arrays, **params) -> array`, what its derivative keeps, whether operands share one dtype."""

    name: str
    forward: Callable[..., Array]
    keep: str
    one_dtype: bool

    @cached_property
    def keep_output(self) -> bool:
        """Whether the derivative reads the result."""
        return "y" in self.keep

    @cached_property
    def kept(self) -> Iterable[bool]:
        """For each input: whether the derivative reads its values (never beyond the third)."""
        return [*(letter in self.keep for letter in "abc")] if self.keep else repeat(False)


# ---------------------------------------------------------------- forwards that need more than a line


def sum_axes(B: Any, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """One `tree_sum` over the reduced axes taken as one row-major axis (so the order of addition is defined).

    Axes None means all; a scalar sums to itself.
    """
    axes = normalize_axes(axis, x.ndim)
    if not axes:
        return x
    kept = [i for i in range(x.ndim) if i not in axes]
    out_shape = [x.shape[i] for i in kept]
    n = math.prod(x.shape[i] for i in axes)
    if axes == tuple(range(len(axes))):  # leading axes: no copy
        y = B.tree_sum(x.reshape((n, *[x.shape[i] for i in kept])), axis=0)
    else:
        y = B.tree_sum(x.transpose((*kept, *axes)).reshape((*out_shape, n)), axis=-1)
    return y.reshape([1 if i in axes else x.shape[i] for i in range(x.ndim)]) if keepdims else y.reshape(out_shape)


def normalize_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Sorted non-negative axes; None means all. Raises ShapeError for an axis that is not there or named twice."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    if any(not -ndim <= a < ndim for a in axes) or len({a % ndim for a in axes}) != len(axes):
        raise ShapeError(f"axis {axis} of an array of {ndim} axes", where="autodiff")
    return tuple(sorted(a % ndim for a in axes))


def max_axes(B: Any, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """The largest element over `axis`; NaN wins. Order-free, hence exact: halves are compared, the middle with itself where n is odd."""
    axes = normalize_axes(axis, x.ndim)
    kept = [i for i in range(x.ndim) if i not in axes]
    n = math.prod(x.shape[i] for i in axes)
    if not n:
        raise ShapeError(f"the largest of no elements, axis {axis} of shape {x.shape}", where="autodiff.max")
    y = x.transpose((*kept, *axes)).reshape((*[x.shape[i] for i in kept], n))
    while n > 1:
        half = (n + 1) // 2
        y, n = B.maximum(y[..., :half], y[..., n - half :]), half
    return y.reshape([1 if i in axes else x.shape[i] for i in range(x.ndim)] if keepdims else [x.shape[i] for i in kept])


def space(x: Array) -> Any:
    """The array's library: data movement only."""
    return namespace(x)


def matmul(B: Any, a: Array, b: Array) -> Array:
    """a [..., M, K] times b [..., K, N], leading axes broadcast; accumulation as the backend defines `matmul`."""
    if a.ndim < 2 or b.ndim < 2:
        raise ShapeError(f"matmul of shapes {a.shape} and {b.shape}: both need two axes", where="autodiff.matmul",
                         remedy="reshape vectors to a row or a column")  # fmt: skip
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(f"matmul of shapes {a.shape} and {b.shape}: K is {a.shape[-1]} and {b.shape[-2]}",
                         where="autodiff.matmul")  # fmt: skip
    return B.matmul(a, b)


def getitem(B: Any, x: Array, index: Any) -> Array:
    """Basic indexing: integers, slices, `...`, None. (Rows by integer arrays: `embedding`, whose sum has an order.)"""
    for i in index if isinstance(index, tuple) else (index,):
        if not (i is None or i is Ellipsis or isinstance(i, Integral | slice)):
            raise DTypeError(f"index of type {type(i).__name__}", where="autodiff.getitem",
                             remedy="use integers and slices; functional.embedding picks rows by an integer array")  # fmt: skip
    return x[index]


def setitem(B: Any, g: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with g at `index`: the transpose of getitem."""
    z = space(g).zeros(shape, dtype=g.dtype)
    z[index] = g
    return z


def integers(name: str, ids: Array) -> Array:
    """`ids`, checked to be integers (DTypeError)."""
    if getattr(getattr(ids, "dtype", None), "kind", "?") not in "iu":
        raise DTypeError(f"needs integers, got {getattr(ids, 'dtype', type(ids).__name__)}", where=f"autodiff.{name}",
                         remedy="pass ids as an integer array")  # fmt: skip
    return ids


def im2col_shape(x_shape: tuple[int, ...], kh: int, kw: int, stride: int, padding: int) -> tuple[int, int]:
    """(OH, OW) of a convolution of x [N, C, H, W]; ShapeError when the kernel is larger than the padded image."""
    if len(x_shape) != 4:
        raise ShapeError(f"conv2d needs x [N, C, H, W], got shape {x_shape}", where="autodiff.conv2d")
    if stride < 1 or padding < 0:
        raise ShapeError(f"stride {stride} and padding {padding}; needed stride >= 1, padding >= 0", where="autodiff.conv2d")
    oh = (x_shape[2] + 2 * padding - kh) // stride + 1
    ow = (x_shape[3] + 2 * padding - kw) // stride + 1
    if min(oh, ow) < 1:
        raise ShapeError(f"kernel {kh}×{kw} on x of shape {x_shape} with padding {padding}: no output",
                         where="autodiff.conv2d")  # fmt: skip
    return oh, ow


# ---------------------------------------------------------------- the table

_FORWARD: dict[str, tuple[str, Callable[..., Array]]] = {
    # elementwise, two operands
    "add": ("", lambda B, a, b: B.add(a, b)),
    "sub": ("", lambda B, a, b: B.sub(a, b)),
    "mul": ("ab", lambda B, a, b: B.mul(a, b)),
    "div": ("by", lambda B, a, b: B.div(a, b)),
    "maximum": ("ab", lambda B, a, b: B.maximum(a, b)),
    "power": ("aby", lambda B, a, b: B.pow(a, b)),
    "where": ("a", lambda B, c, a, b: B.where(c, a, b)),
    # elementwise, one operand
    "neg": ("", lambda B, x: B.neg(x)),
    "exp": ("y", lambda B, x: B.exp(x)),
    "log": ("a", lambda B, x: B.log(x)),
    "tanh": ("y", lambda B, x: B.tanh(x)),
    "sqrt": ("y", lambda B, x: B.sqrt(x)),
    "rsqrt": ("ay", lambda B, x: B.rsqrt(x)),
    "abs": ("a", lambda B, x: B.abs(x)),
    "sigmoid": ("y", lambda B, x: B.sigmoid(x)),
    "erf": ("a", lambda B, x: B.erf(x)),
    "sin": ("a", lambda B, x: B.sin(x)),
    "cos": ("a", lambda B, x: B.cos(x)),
    # comparisons: 1 where true, else 0, in the operands' dtype; no derivative
    "greater": ("", lambda B, a, b: B.greater(a, b).astype(a.dtype)),
    "equal": ("", lambda B, a, b: B.equal(a, b).astype(a.dtype)),
    # shape
    "reshape": ("", lambda B, x, shape: x.reshape(shape)),
    "transpose": ("", lambda B, x, axes: x.transpose(axes)),
    "broadcast_to": ("", lambda B, x, shape: space(x).broadcast_to(x, shape)),
    "getitem": ("", getitem),
    "setitem": ("", setitem),
    "concat": ("", lambda B, *xs, axis: space(xs[0]).concatenate(xs, axis=axis)),
    "stack": ("", lambda B, *xs, axis: space(xs[0]).stack(xs, axis=axis)),
    "pad": ("", lambda B, x, widths: space(x).pad(x, widths)),
    # reductions
    "sum": ("", sum_axes),
    "max": ("ay", max_axes),
    # linear maps with a transpose of their own
    "matmul": ("ab", matmul),
    "embedding": ("", lambda B, table, ids: B.embedding(table, integers("embedding", ids))),
    "embedding_transpose": ("", lambda B, g, ids, rows: B.embedding_backward(g, ids, rows)),
    "rope": ("", lambda B, x, cos, sin: B.rope(x, cos, sin)),
    "rope_transpose": ("", lambda B, g, cos, sin: B.rope_backward(g, cos, sin)),
    "im2col": ("", lambda B, x, kh, kw, stride, padding: B.im2col(x, kh, kw, stride, padding)),
    "col2im": ("", lambda B, g, shape, kh, kw, stride, padding: B.col2im(g, shape, kh, kw, stride, padding)),
}  # fmt: skip

_MIXED = {"where"}  # the condition is boolean

PRIMITIVES: dict[str, Primitive] = {
    name: Primitive(name, forward, keep, name not in _MIXED) for name, (keep, forward) in _FORWARD.items()
}
