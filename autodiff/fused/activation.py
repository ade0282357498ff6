"""Activations with a backward of their own: relu, silu, gelu, swiglu."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lpref.autodiff import plain as F
from lpref.autodiff.fused import Fused, formats, kept_in
from lpref.autodiff.tensor import Tensor, apply
from lpref.ref.errors import ShapeError


def relu_composite(x: Tensor) -> Tensor:
    """max(x, 0) with derivative 0 at 0."""
    return x * apply("greater", x.detach(), 0.0)


def silu_composite(x: Tensor) -> Tensor:
    """x · sigmoid(x)."""
    return x * F.sigmoid(x)


def gelu_composite(x: Tensor, kind: str, **kept: str) -> Tensor:
    """erf: x/2 · (1 + erf(x/√2)); tanh: x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³)))."""
    if kind == "erf":
        return x * 0.5 * (F.erf(x * math.sqrt(0.5)) + 1.0)
    return x * 0.5 * (F.tanh((x + x * x * x * 0.044715) * math.sqrt(2.0 / math.pi)) + 1.0)


def swiglu_composite(g: Tensor, u: Tensor) -> Tensor:
    """silu(g) · u."""
    return g * F.sigmoid(g) * u


def swiglu_packed_composite(gu: Tensor, **kept: str) -> Tensor:
    """silu(g) · u of the two halves of the last axis."""
    f = gu.shape[-1] // 2
    return swiglu_composite(gu[..., :f], gu[..., f:])


def packed(f: Callable[[Any], Any], gu: Any) -> Any:
    """f on gu [..., 2F] as rows, leading axes restored."""
    y = f(gu.reshape((-1, gu.shape[-1])))
    return y.reshape((*gu.shape[:-1], y.shape[-1]))


def gelu_gradients(B: Any, dy: Any, x: Any, kind: str, again: str = "", **kept: str) -> tuple[Any, ...]:
    """(dx,), or (dx, the result)."""
    options = kept_in(kept, "back")
    return tuple(B.gelu_backward(dy, x, kind=kind, **options, again=again)) if again else (B.gelu_backward(dy, x, kind=kind, **options),)


RELU = Fused(
    "relu",
    lambda B, x: (B.relu(x), None),
    lambda B, dy, saved, xs, wants: (B.relu_backward(dy, xs[0]),),
    relu_composite,
    "sign",
)
SILU = Fused(
    "silu",
    lambda B, x: (B.silu(x), None),
    lambda B, dy, saved, xs, wants: (B.silu_backward(dy, xs[0]),),
    silu_composite,
)
GELU = Fused(
    "gelu",
    lambda B, x, kind, **kept: (B.gelu(x, kind=kind, **kept_in(kept, "store")), None),
    lambda B, dy, saved, xs, wants, kind, **kept: gelu_gradients(B, dy, xs[0], kind, **kept),
    gelu_composite,
    again=True,
)
SWIGLU = Fused(
    "swiglu",
    lambda B, g, u: (B.swiglu(g, u), None),
    lambda B, dy, saved, xs, wants: B.swiglu_backward(dy, *xs),
    swiglu_composite,
)


SWIGLU_PACKED = Fused(
    "swiglu_packed",
    lambda B, gu, **kept: (packed(lambda x: B.swiglu_packed(x, **kept_in(kept, "store")), gu), None),
    lambda B, dy, saved, xs, wants, **kept: (
        packed(lambda gu: B.swiglu_packed_backward(dy.reshape((-1, dy.shape[-1])), gu, **kept_in(kept, "back")), xs[0]),
    ),
    swiglu_packed_composite,
)


def relu(x: Tensor, under: Any = None) -> Tensor:
    """max(x, 0); derivative 0 at 0."""
    return RELU(x, under=under)


def silu(x: Tensor, under: Any = None) -> Tensor:
    """x · sigmoid(x), also called swish. Source: arXiv 1702.03118."""
    return SILU(x, under=under)


def gelu(x: Tensor, kind: Any = "tanh", under: Any = None, store: str = "float32", back: str = "float32") -> Tensor:
    """x · Φ(x); kind "erf" is exact, "tanh" GPT-2's approximation. Source: arXiv 1606.08415.

    store, back: the formats in which the result and the gradient of x are kept, for readers that round to them anyway.
    """
    return GELU(x, kind=kind, under=under, **formats(store, back))


def swiglu(g: Tensor, u: Tensor) -> Tensor:
    """silu(g) · u: the gate g and the value u of a SwiGLU block. Source: arXiv 2002.05202."""
    return SWIGLU(g, u)


def swiglu_packed(gu: Tensor, under: Any = None, store: str = "float32", back: str = "float32") -> Tensor:
    """silu(g) · u for gu [..., 2F] = (g, u) side by side, the result of one GEMM; [..., F]. store, back: as in `gelu`."""
    if gu.shape[-1] % 2:
        raise ShapeError(f"gu of shape {gu.shape}: the last axis must be even", where="autodiff.swiglu_packed")
    return SWIGLU_PACKED(gu, under=under, **formats(store, back))
