"""Scaled dot-product attention with grouped key/value heads."""

from __future__ import annotations

import math
from typing import Any

from lpref.autodiff import plain as F
from lpref.autodiff.fused import Fused, formats
from lpref.autodiff.primitives import space
from lpref.autodiff.tensor import Tensor
from lpref.ref.attention.packed import head_dim
from lpref.ref.errors import ShapeError


def forward(B: Any, q: Any, k: Any, v: Any, causal: bool, scale: float, operands: str = "float32") -> tuple[Any, Any]:
    """The backend's attention."""
    o, saved = B.attention(q, k, v, causal, scale, operands)
    return o, (o, saved)


def backward(B: Any, do: Any, saved: Any, xs: tuple, wants: list[bool], causal: bool, scale: float, operands: str = "float32") -> tuple[Any, ...]:
    """(dq, dk, dv)."""
    return B.attention_backward(do, *xs, *saved, causal, scale, operands)


def composite(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, operands: str = "float32") -> Tensor:
    """softmax(scale · q kᵀ + mask) v; query head h reads key/value head h div (Hq / Hkv). No operand is rounded: `operands` only permits it."""
    groups = q.shape[1] // k.shape[1]
    k, v = repeat_heads(k, groups), repeat_heads(v, groups)
    scores = F.matmul(q, F.transpose(k, (0, 1, 3, 2))) * scale
    if causal:
        xp = space(q.data)
        t, s = scores.shape[-2:]
        visible = xp.tril(xp.ones((t, s), dtype=bool), k=s - t)
        scores = F.where(visible, scores, xp.full((), -math.inf, dtype=scores.dtype))
    return F.matmul(F.softmax(scores), v)


def repeat_heads(x: Tensor, groups: int) -> Tensor:
    """x [B, H, T, D] as [B, H·groups, T, D], each head `groups` times in a row."""
    b, h, t, d = x.shape
    if groups == 1:
        return x
    return F.reshape(F.broadcast_to(F.reshape(x, (b, h, 1, t, d)), (b, h, groups, t, d)), (b, h * groups, t, d))


ATTENTION = Fused("attention", forward, backward, composite)


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool = True, scale: float | None = None, operands: str = "float32"
) -> Tensor:
    """softmax(scale · q kᵀ + causal mask) v, per head; scale defaults to D^-½. Source: arXiv 1706.03762.

    q [B, Hq, T, D], k [B, Hkv, S, D], v [B, Hkv, S, E]; Hkv divides Hq (grouped heads).
    Causal: query t sees keys ≤ t + S − T. -> [B, Hq, T, E].
    operands "bfloat16" permits a backend of grade fast to round the factors of products; its bound says how far that goes.
    """
    ok = q.ndim == k.ndim == v.ndim == 4 and k.shape[:3] == v.shape[:3] and q.shape[0] == k.shape[0]
    if not ok or q.shape[3] != k.shape[3] or q.shape[1] % k.shape[1]:
        raise ShapeError(f"q of shape {q.shape}, k of shape {k.shape}, v of shape {v.shape}", where="autodiff.attention",
                         remedy="q [B, Hq, T, D], k [B, Hkv, S, D] and v [B, Hkv, S, E] with Hkv dividing Hq")  # fmt: skip
    return ATTENTION(q, k, v, causal=causal, scale=q.shape[3] ** -0.5 if scale is None else scale, operands=operands)


def packed_forward(B: Any, qkv: Any, **options: Any) -> tuple[Any, Any]:
    """The backend's packed attention; what it saves for its backward is its own affair."""
    options.pop("back", None)
    o, saved = B.attention_packed(qkv, **options)
    return o, (o, saved)


def packed_backward(B: Any, do: Any, saved: Any, xs: tuple, wants: list[bool], back: str = "float32", **options: Any) -> tuple[Any, ...]:
    """(dqkv,), kept in the format `back`; saved: (o, what the forward saved)."""
    return (B.attention_packed_backward(do, *xs, *saved, **options, **({} if back == "float32" else {"store": back})),)


def packed_composite(
    qkv: Tensor, batch: int, heads: int, kv_heads: int, rotary: tuple | None, causal: bool, scale: float, operands: str = "float32",
    back: str = "float32",
) -> Tensor:  # fmt: skip
    """Heads cut out of the columns, rotated, mixed, and put back side by side."""
    width = qkv.shape[1] // (heads + 2 * kv_heads)
    tokens = qkv.shape[0] // batch
    every = F.transpose(F.reshape(qkv, (batch, tokens, heads + 2 * kv_heads, width)), (0, 2, 1, 3))
    rotated = every[:, : heads + kv_heads]
    rotated = rotated if rotary is None else F.rope(rotated, *rotary)
    o = composite(rotated[:, :heads], rotated[:, heads:], every[:, heads + kv_heads :], causal, scale)
    return F.reshape(F.transpose(o, (0, 2, 1, 3)), (batch * tokens, heads * width))


ATTENTION_PACKED = Fused("attention_packed", packed_forward, packed_backward, packed_composite, "own")


def attention_packed(
    qkv: Tensor, *, batch: int, heads: int, kv_heads: int, rotary: tuple | None = None, causal: bool = True, scale: float | None = None,
    operands: str = "float32", under: Any = None, back: str = "float32",
) -> Tensor:  # fmt: skip
    """`attention` of packed projections qkv [B·T, (H + 2 G)·D] -> [B·T, H·D]; rotary: (cos, sin) [T, D/2] for queries and keys.

    Columns: H query heads, G key heads, G value heads. Source: arXiv 1706.03762 section 3.2.2. Errors: ShapeError.
    back: the format in which the gradient of qkv is kept, for readers that round to it anyway.
    """
    width = head_dim("autodiff.attention_packed", qkv, batch, heads, kv_heads, rotary)
    options = {"batch": batch, "heads": heads, "kv_heads": kv_heads, "rotary": rotary, "causal": causal, "operands": operands}
    options |= formats("float32", back)
    return ATTENTION_PACKED(qkv, **options, scale=width**-0.5 if scale is None else scale, under=under)
