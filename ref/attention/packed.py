"""Attention of packed projections: one matrix holds queries, keys and values of all heads, as `W_qkv` makes them.

``qkv`` [B·T, (H + 2 G)·D]: each row is one position, its columns are H query heads, then G key heads, then G value heads, each D wide.
Queries and keys are rotated (`lpref.ref.nn.rope`), then `attention` mixes the heads; the result is [B·T, H·D], ready for `W_o`.
Nothing new is computed: it is the layout of the page `dense`, so that a backend need not move heads about in memory.

Source: arXiv:1706.03762 section 3.2.2 (heads); arXiv:2104.09864 (rotary positions); arXiv:2305.13245 (grouped heads).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.ref.attention.dense import attention, attention_backward
from lpref.ref.errors import ShapeError
from lpref.ref.nn.rope import rope, rope_backward

Rotary = tuple[np.ndarray, np.ndarray] | None
"""(cos, sin) [T, D/2], or None: positions are not rotated."""


def attention_packed(
    qkv: np.ndarray, batch: int, heads: int, kv_heads: int, rotary: Rotary = None, causal: bool = True, scale: float | None = None,
    operands: str = "float32", keep: str = "least", *, numerics: str = "exact",
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(o [B·T, H·D], probs [B, H, T, T]) of qkv [B·T, (H + 2 G)·D]; scale: default 1/√D. Errors: ShapeError, UnknownNameError."""
    q, k, v = split("attention_packed", qkv, batch, heads, kv_heads, rotary)
    o, probs = attention(q, k, v, causal, scale, operands, keep, numerics=numerics)
    return rows(o), probs


def attention_packed_backward(
    do: np.ndarray, qkv: np.ndarray, o: np.ndarray, saved: np.ndarray, batch: int, heads: int, kv_heads: int, rotary: Rotary = None,
    causal: bool = True, scale: float | None = None, operands: str = "float32", *, numerics: str = "exact",
) -> np.ndarray:  # fmt: skip
    """dqkv of `attention_packed`: do and o [B·T, H·D]; queries and keys are rotated again, not kept."""
    q, k, v = split("attention_packed_backward", qkv, batch, heads, kv_heads, rotary)
    check_gradient("attention_packed_backward", do, o, qkv, heads, q.shape[3])
    do, o = by_head(do, batch, heads), by_head(o, batch, heads)
    dq, dk, dv = attention_backward(do, q, k, v, o, saved, causal, scale, operands, numerics=numerics)
    if rotary is not None:
        dq, dk = rope_backward(dq, *rotary), rope_backward(dk, *rotary)
    return np.concatenate([rows(dq), rows(dk), rows(dv)], axis=1)


def head_dim(op: str, qkv: Any, batch: int, heads: int, kv_heads: int, rotary: Rotary) -> int:
    """D; ShapeError where the matrix does not hold those heads, or the rotary tables do not fit."""
    groups = heads + 2 * kv_heads
    if qkv.ndim != 2 or batch < 1 or qkv.shape[0] % batch or kv_heads < 1 or heads % kv_heads or qkv.shape[1] % groups or 0 in qkv.shape:
        raise ShapeError(f"qkv is {qkv.shape} for batch {batch}, {heads} query and {kv_heads} key heads; needed [B·T, (H + 2 G)·D]", where=op)
    tokens, width = qkv.shape[0] // batch, qkv.shape[1] // groups
    if rotary is not None and (width % 2 or any(t.shape != (tokens, width // 2) for t in rotary)):
        raise ShapeError(f"rotary tables are {[t.shape for t in rotary]}; needed {(tokens, width // 2)} twice", where=op)
    return width


def split(
    op: str, qkv: np.ndarray, batch: int, heads: int, kv_heads: int, rotary: Rotary
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotated queries [B, H, T, D], rotated keys and plain values [B, G, T, D]."""
    width = head_dim(op, qkv, batch, heads, kv_heads, rotary)
    packed = qkv.reshape(batch, len(qkv) // batch, heads + 2 * kv_heads, width).transpose(0, 2, 1, 3)
    q, k, v = packed[:, :heads], packed[:, heads : heads + kv_heads], packed[:, heads + kv_heads :]
    return (q, k, v) if rotary is None else (rope(q, *rotary), rope(k, *rotary), v)


def check_gradient(op: str, do: Any, o: Any, qkv: Any, heads: int, width: int) -> None:
    """ShapeError for a gradient or a result of another shape than that of `attention_packed`."""
    if not do.shape == o.shape == (len(qkv), heads * width):
        raise ShapeError(f"do is {do.shape}, o {o.shape}, qkv {qkv.shape} of {heads} heads", where=op)


def by_head(x: Any, batch: int, heads: int) -> Any:
    """[B·T, H·D] as [B, H, T, D]."""
    return x.reshape(batch, len(x) // batch, heads, -1).transpose(0, 2, 1, 3)


def rows(x: np.ndarray) -> np.ndarray:
    """[B, H, T, D] as [B·T, H·D]."""
    batch, heads, tokens, width = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch * tokens, heads * width)
