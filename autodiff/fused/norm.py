"""RMSNorm and LayerNorm over the last axis."""

from __future__ import annotations

from typing import Any

from lpref.autodiff import plain as F
from lpref.autodiff.fused import Fused, formats
from lpref.autodiff.tensor import Tensor


def rows(x: Any) -> Any:
    """x [..., D] as [N, D]."""
    return x.reshape((-1, x.shape[-1]))


def asked(kept: dict[str, str]) -> dict[str, str]:
    """The option `again` of a backend's op, where it is among the options."""
    return {"again": kept["again"]} if "again" in kept else {}


def rmsnorm_forward(B: Any, x: Any, w: Any, eps: float, **kept: str) -> tuple[Any, Any]:
    """The backend's rmsnorm on rows."""
    y, rstd = B.rmsnorm(rows(x), w, eps, **kept)
    return y.reshape(x.shape), rstd


def gradients(B: Any, name: str, dy: Any, gathered: Any, xs: tuple, saved: tuple, **kept: str) -> tuple[Any, ...]:
    """(dx, dw), (dx, dw, db), then a copy of dx and the result where they are asked for, of the norm of that name; to dx is added what has been
    gathered, if it is."""
    x, past = xs[0], () if gathered is None else (rows(gathered),)
    more = {"b": xs[2]} if "again" in kept and name == "layernorm" else {}
    op = getattr(B, f"add_{name}_backward" if past else f"{name}_backward")
    return tuple([d.reshape(x.shape) if d.ndim > 1 else d for d in op(rows(dy), *past, rows(x), xs[1], *saved, **kept, **more)])


def rmsnorm_backward(B: Any, dy: Any, rstd: Any, xs: tuple, wants: list[bool], eps: float, **kept: str) -> tuple[Any, ...]:
    """(dx, dw)."""
    return gradients(B, "rmsnorm", dy, None, xs, (rstd,), **asked(kept))


def rmsnorm_gathers(B: Any, dy: Any, gathered: Any, rstd: Any, xs: tuple, wants: list[bool], eps: float, **kept: str) -> tuple[Any, ...]:
    """(gathered + dx, dw)."""
    return gradients(B, "rmsnorm", dy, gathered, xs, (rstd,), **asked(kept))


def rmsnorm_composite(x: Tensor, w: Tensor, eps: float, **kept: str) -> Tensor:
    """x · rsqrt(mean(x²) + eps) · w."""
    return x * F.rsqrt(F.mean(x * x, axis=-1, keepdims=True) + eps) * w


def layernorm_forward(B: Any, x: Any, w: Any, b: Any, eps: float, **kept: str) -> tuple[Any, Any]:
    """The backend's layernorm on rows."""
    y, mean, rstd = B.layernorm(rows(x), w, b, eps, **kept)
    return y.reshape(x.shape), (mean, rstd)


def layernorm_backward(B: Any, dy: Any, saved: Any, xs: tuple, wants: list[bool], eps: float, **kept: str) -> tuple[Any, ...]:
    """(dx, dw, db)."""
    return gradients(B, "layernorm", dy, None, xs, saved, **asked(kept))


def layernorm_gathers(B: Any, dy: Any, gathered: Any, saved: Any, xs: tuple, wants: list[bool], eps: float, **kept: str) -> tuple[Any, ...]:
    """(gathered + dx, dw, db)."""
    return gradients(B, "layernorm", dy, gathered, xs, saved, **asked(kept))


def layernorm_composite(x: Tensor, w: Tensor, b: Tensor, eps: float, **kept: str) -> Tensor:
    """(x − mean) · rsqrt(mean((x − mean)²) + eps) · w + b."""
    c = x - F.mean(x, axis=-1, keepdims=True)
    return c * F.rsqrt(F.mean(c * c, axis=-1, keepdims=True) + eps) * w + b


RMSNORM = Fused("rmsnorm", rmsnorm_forward, rmsnorm_backward, rmsnorm_composite, gathers=rmsnorm_gathers, again=True)
LAYERNORM = Fused("layernorm", layernorm_forward, layernorm_backward, layernorm_composite, gathers=layernorm_gathers, again=True)


def rmsnorm(x: Tensor, w: Tensor, eps: float = 1e-5, under: Any = None, store: str = "float32") -> Tensor:
    """x · rsqrt(mean(x²) + eps) · w over the last axis; x [..., D], w [D]. Source: arXiv 1910.07467.

    store: the format in which the result is kept, for readers that round to it anyway.
    """
    F.check_last_axis("rmsnorm", x, w)
    return RMSNORM(x, w, eps=eps, under=under, **formats(store, "float32"))


def layernorm(x: Tensor, w: Tensor, b: Tensor, eps: float = 1e-5, under: Any = None, store: str = "float32") -> Tensor:
    """(x − mean) / √(var + eps) · w + b over the last axis; x [..., D], w and b [D]. Source: arXiv 1607.06450. store: as in `rmsnorm`."""
    F.check_last_axis("layernorm", x, w, b)
    return LAYERNORM(x, w, b, eps=eps, under=under, **formats(store, "float32"))
