"""Attention of packed projections on the device: the page of `lpref.ref.attention.packed` with its bits, or, `fused`, of grade fast.

Heads are read out of the columns of the matrix and written into those of the result by their strides (`attention`, `flash`). Rotated queries and keys
are arrays of their own, except where the fused kernels rotate them on the way (`flash.turns`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, flash, noted
from lpref.accel.cuda.attention import backward, forward, sources
from lpref.accel.cuda.rope import rope, rope_backward
from lpref.ref.attention.dense import check_heads, check_permissions, check_saved, default_scale
from lpref.ref.attention.packed import Rotary, by_head, check_gradient, head_dim


def attention_packed(
    qkv: Any, batch: int, heads: int, kv_heads: int, rotary: Rotary = None, causal: bool = True, scale: float | None = None,
    operands: str = "float32", keep: str = "least", *, fused: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """(o, probs): `lpref.ref.attention.attention_packed`; `fused`: (o, logarithms of the sums), of grade fast."""
    check_permissions("attention_packed", operands, keep)
    fused = fused and keep == "least"
    qkv, turn = _within("attention_packed", qkv, batch, heads, kv_heads, rotary, fused)
    q, k, v = _split(qkv, batch, heads, kv_heads, None if turn else rotary)
    check_heads("attention_packed", q, k, v, causal)
    o = device.cupy().empty((len(qkv), heads * q.shape[3]), np.float32)
    by_heads, real = by_head(o, batch, heads), default_scale(q, scale)
    if fused and flash.serves(q, v):
        return o, flash.forward(q, k, v, by_heads, causal, real, turn, flash.TERMS[operands], noted.counters(o))
    return o, forward(q, k, v, by_heads, causal, real, qkv)


def attention_packed_backward(
    do: Any, qkv: Any, o: Any, saved: Any, batch: int, heads: int, kv_heads: int, rotary: Rotary = None, causal: bool = True,
    scale: float | None = None, operands: str = "float32", *, fused: bool = False, store: str = "float32",
) -> Any:  # fmt: skip
    """`lpref.ref.attention.attention_packed_backward` of saved probabilities; `fused`: or of logarithms, of grade fast."""
    op = "attention_packed_backward"
    check_permissions(op, operands)
    qkv, turn = _within(op, qkv, batch, heads, kv_heads, rotary, fused and saved.ndim == 3)
    rotary = None if turn else rotary
    q, k, v = _split(qkv, batch, heads, kv_heads, rotary)
    check_gradient(op, do, o, qkv, heads, q.shape[3])
    (do,), (o,) = sources(op, saved.ndim == 3, do), sources(op, False, o)
    saved = saved if isinstance(saved, flash.Kept) else sources(op, False, saved)[0]
    check_heads(op, q, k, v, causal)
    do, o, real = by_head(do, batch, heads), by_head(o, batch, heads), default_scale(q, scale)
    check_saved(op, do, q, k, v, saved, logarithms=fused and flash.serves(q, v))
    within = saved.ndim == 3 and rotary is None
    dqkv = arrays.empty(qkv.shape, store if within else "float32")
    dq, dk, dv = _columns(dqkv, batch, heads, kv_heads)
    made = (dq, dk, dv) if rotary is None else (*(device.cupy().empty(x.shape, np.float32) for x in (q, k)), dv)
    if saved.ndim == 3:
        flash.backward(do, q, k, v, o, saved, causal, real, turn, flash.TERMS[operands], made, noted.counters(dqkv) if within else noted.NOWHERE)
    else:
        backward(do, q, k, v, saved, causal, real, made)
    if rotary is not None:
        dq[...], dk[...] = (rope_backward(x, *rotary) for x in made[:2])
    return dqkv if within else arrays.cast_for_storage(dqkv, store) if store != "float32" else dqkv


def _within(op: str, qkv: Any, batch: int, heads: int, kv_heads: int, rotary: Rotary, fused: bool) -> tuple[Any, flash.Turn | None]:
    """qkv as the kernels read it, and what the fused ones rotate by, None where they do not; the arguments are checked."""
    D = head_dim(op, qkv, batch, heads, kv_heads, rotary)
    within = rotary is not None and fused and flash.turns(D)
    (qkv,) = sources(op, fused and D <= flash.WIDEST and (rotary is None or within), qkv)
    return qkv, flash.Turn(*arrays.floats(op, *rotary)) if within and rotary is not None else None


def _split(qkv: Any, batch: int, heads: int, kv_heads: int, rotary: Rotary) -> tuple[Any, Any, Any]:
    """Queries [B, H, T, D], keys and values [B, G, T, D], the first two rotated where `rotary` says how."""
    q, k, v = _columns(qkv, batch, heads, kv_heads)
    return (q, k, v) if rotary is None else (rope(q, *rotary), rope(k, *rotary), v)


def _columns(qkv: Any, batch: int, heads: int, kv_heads: int) -> tuple[Any, Any, Any]:
    """Views of the queries [B, H, T, D], keys and values [B, G, T, D] in the columns of qkv."""
    packed = by_head(qkv, batch, heads + 2 * kv_heads)
    return packed[:, :heads], packed[:, heads : heads + kv_heads], packed[:, heads + kv_heads :]
