"""Functions of tensors that are one primitive or a few: what gradients, and the composites of fused ops, are written in.

Operands are tensors, arrays or numbers; arrays and numbers are constants. Names follow NumPy where NumPy has one.
Names like `sum` and `abs` shadow built-ins here on purpose: this module is read as `F.sum`.
"""

from __future__ import annotations

from typing import Any

from lpref.autodiff.primitives import normalize_axes, space
from lpref.autodiff.tensor import Shape, Tensor, apply, make
from lpref.ref.errors import DTypeError, ShapeError

# ---------------------------------------------------------------- elementwise


def add(a: Any, b: Any) -> Tensor:
    """a + b."""
    return apply("add", a, b)


def sub(a: Any, b: Any) -> Tensor:
    """a − b."""
    return apply("sub", a, b)


def mul(a: Any, b: Any) -> Tensor:
    """a · b."""
    return apply("mul", a, b)


def div(a: Any, b: Any) -> Tensor:
    """a / b, IEEE division."""
    return apply("div", a, b)


def neg(x: Tensor) -> Tensor:
    """−x."""
    return apply("neg", x)


def exp(x: Tensor) -> Tensor:
    """eˣ."""
    return apply("exp", x)


def log(x: Tensor) -> Tensor:
    """Natural logarithm."""
    return apply("log", x)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return apply("tanh", x)


def sqrt(x: Tensor) -> Tensor:
    """Square root, IEEE."""
    return apply("sqrt", x)


def rsqrt(x: Tensor) -> Tensor:
    """1/√x."""
    return apply("rsqrt", x)


def power(a: Tensor, b: Any) -> Tensor:
    """aᵇ for a > 0 (any a where b is a whole number); `x ** 2` is x · x."""
    if not isinstance(a, Tensor):
        raise DTypeError("the base is a constant", where="autodiff.power", remedy="write exp(x * log(base))")
    return apply("power", a, b)


def abs(x: Tensor) -> Tensor:
    """|x|; derivative 0 at 0."""
    return apply("abs", x)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, NaN wins; the gradient is halved where they are equal."""
    return apply("maximum", a, b)


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where the condition (boolean, a constant) holds, else b."""
    condition = condition.data if isinstance(condition, Tensor) else condition
    if condition.dtype.kind != "b":
        raise DTypeError(f"the condition is {condition.dtype}, not boolean", where="autodiff.where")
    return apply("where", condition, a, b)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e⁻ˣ)."""
    return apply("sigmoid", x)


def erf(x: Tensor) -> Tensor:
    """The error function."""
    return apply("erf", x)


def sin(x: Tensor) -> Tensor:
    """Sine."""
    return apply("sin", x)


def cos(x: Tensor) -> Tensor:
    """Cosine."""
    return apply("cos", x)


# ---------------------------------------------------------------- shape


def reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Row-major reshape; one -1 is inferred."""
    return x if x.data.shape == shape else apply("reshape", x, shape=tuple(shape))


def transpose(x: Tensor, axes: Any = None) -> Tensor:
    """Permute the axes; None reverses them."""
    return x.transpose(*(axes or ()))


def broadcast_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Repeat x along new and length-1 axes."""
    return x if x.data.shape == shape else apply("broadcast_to", x, shape=tuple(shape))


def expand_dims(x: Tensor, axis: int) -> Tensor:
    """A new axis of length 1 at `axis` of the result."""
    if not -x.ndim - 1 <= axis <= x.ndim:
        raise ShapeError(f"axis {axis} for an array of shape {x.shape}", where="autodiff.expand_dims")
    axis %= x.ndim + 1
    return reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def squeeze(x: Tensor, axis: int) -> Tensor:
    """Without the length-1 axis `axis`."""
    if not -x.ndim <= axis < x.ndim or x.shape[axis] != 1:
        raise ShapeError(f"axis {axis} of shape {x.shape} does not have length 1", where="autodiff.squeeze")
    axis %= x.ndim
    return reshape(x, (*x.shape[:axis], *x.shape[axis + 1 :]))


def getitem(x: Tensor, index: Any) -> Tensor:
    """Basic indexing (integers, slices, `...`, None); rows by an integer array are `embedding`."""
    return apply("getitem", x, index=index)


def concat(xs: Any, axis: int = 0) -> Tensor:
    """Join along an existing axis."""
    return apply("concat", *xs, axis=axis)


def stack(xs: Any, axis: int = 0) -> Tensor:
    """Join along a new axis."""
    return apply("stack", *xs, axis=axis)


def pad(x: Tensor, widths: Any) -> Tensor:
    """Zeros around x: `widths` = ((before, after), …), one pair an axis."""
    return apply("pad", x, widths=tuple(map(tuple, widths)))


# ---------------------------------------------------------------- reductions and products


def sum(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Σ over `axis` (int, tuple, None for all): one `tree_sum` over the reduced axes in row-major order."""
    return apply("sum", x, axis=axis, keepdims=keepdims)


def mean(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """sum / n."""
    n = 1
    for i in normalize_axes(axis, x.ndim):
        n *= x.shape[i]
    return sum(x, axis, keepdims) / float(n)


def max(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The largest element, NaN wins; ties share the gradient equally."""
    return apply("max", x, axis=axis, keepdims=keepdims)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a [..., M, K] b [..., K, N], leading axes broadcast."""
    return apply("matmul", a, b)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """e^(x−max) / Σ e^(x−max)."""
    e = exp(x - max(x.detach(), axis, keepdims=True))
    return e / sum(e, axis, keepdims=True)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """x − max − log Σ e^(x−max)."""
    z = x - max(x.detach(), axis, keepdims=True)
    return z - log(sum(exp(z), axis, keepdims=True))


# ---------------------------------------------------------------- tables and positions


def rope(x: Tensor, cos: Any, sin: Any) -> Tensor:
    """Rotary positions: x [B, H, T, D] rotated in pairs by the angles of cos, sin [T, D/2]. Source: arXiv 2104.09864."""
    cos, sin = (t.data if isinstance(t, Tensor) else t for t in (cos, sin))
    if x.ndim != 4 or tuple(cos.shape) != (x.shape[2], x.shape[3] // 2) or tuple(sin.shape) != tuple(cos.shape):
        raise ShapeError(f"x of shape {x.shape}, cos {tuple(cos.shape)}, sin {tuple(sin.shape)}", where="autodiff.rope",
                         remedy="x [B, H, T, D], cos and sin [T, D/2]")  # fmt: skip
    return apply("rope", x, cos=cos, sin=sin)


# ---------------------------------------------------------------- helpers


def stop_gradient(x: Any) -> Any:
    """x as a constant."""
    return x.detach() if isinstance(x, Tensor) else x


def zeros_like(x: Tensor) -> Tensor:
    """Zeros of x's shape and dtype."""
    return make(space(x.data).zeros_like(x.data), x.backend)


def check_last_axis(name: str, x: Tensor | Shape, *vectors: Tensor) -> None:
    """ShapeError unless each vector is [D] for x [..., D]."""
    for v in vectors:
        if v.shape != x.shape[-1:]:
            raise ShapeError(f"x of shape {x.shape} and a vector of shape {v.shape}", where=f"autodiff.{name}",
                             remedy=f"the vector needs shape {x.shape[-1:]}")  # fmt: skip
