"""Attention of packed projections on the device: the page of `lpref.ref.attention.packed` with its bits.

Heads are read out of the columns of the matrix and written into those of the result by their strides (`attention`); rotated queries and keys are
arrays of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device
from lpref.accel.cuda.attention import backward, forward
from lpref.accel.cuda.rope import rope, rope_backward
from lpref.ref.attention.dense import check_heads, default_scale
from lpref.ref.attention.packed import Rotary, head_dim
from lpref.ref.errors import ShapeError


def attention_packed(
    qkv: Any, batch: int, heads: int, kv_heads: int, rotary: Rotary = None, causal: bool = True, scale: float | None = None
) -> tuple[Any, Any]:
    """`lpref.ref.attention.attention_packed`, grade exact."""
    q, k, v = _split("attention_packed", qkv, batch, heads, kv_heads, rotary)
    check_heads("attention_packed", q, k, v, causal)
    o = device.cupy().empty((len(qkv), heads * q.shape[3]), np.float32)
    probs = forward(q, k, v, _heads(o, batch, heads), causal, default_scale(q, scale), qkv)
    return o, probs


def attention_packed_backward(
    do: Any, qkv: Any, probs: Any, batch: int, heads: int, kv_heads: int, rotary: Rotary = None, causal: bool = True, scale: float | None = None,
) -> Any:  # fmt: skip
    """`lpref.ref.attention.attention_packed_backward`, grade exact."""
    op = "attention_packed_backward"
    q, k, v = _split(op, qkv, batch, heads, kv_heads, rotary)
    if do.shape != (len(qkv), heads * q.shape[3]):
        raise ShapeError(f"do is {do.shape}, qkv {qkv.shape} of {heads} heads", where=op)
    arrays.check(op, do, probs)
    check_heads(op, q, k, v, causal)
    dqkv = device.cupy().empty(qkv.shape, np.float32)
    dq, dk, dv = _columns(dqkv, batch, heads, kv_heads)
    made = (dq, dk, dv) if rotary is None else (*(device.cupy().empty(x.shape, np.float32) for x in (q, k)), dv)
    backward(_heads(do, batch, heads), q, k, v, probs, causal, default_scale(q, scale), made)
    if rotary is not None:
        dq[...], dk[...] = (rope_backward(x, *rotary) for x in made[:2])
    return dqkv


def _split(op: str, qkv: Any, batch: int, heads: int, kv_heads: int, rotary: Rotary) -> tuple[Any, Any, Any]:
    """Rotated queries [B, H, T, D], rotated keys and plain values [B, G, T, D]."""
    head_dim(op, qkv, batch, heads, kv_heads, rotary)
    arrays.check(op, qkv)
    q, k, v = _columns(qkv, batch, heads, kv_heads)
    return (q, k, v) if rotary is None else (rope(q, *rotary), rope(k, *rotary), v)


def _columns(qkv: Any, batch: int, heads: int, kv_heads: int) -> tuple[Any, Any, Any]:
    """Views of the queries [B, H, T, D], keys and values [B, G, T, D] in the columns of qkv."""
    packed = _heads(qkv, batch, heads + 2 * kv_heads)
    return packed[:, :heads], packed[:, heads : heads + kv_heads], packed[:, heads + kv_heads :]


def _heads(x: Any, batch: int, heads: int) -> Any:
    """x [B T, heads D] as [B, heads, T, D], not copied where its rows are evenly spaced."""
    return x.reshape(batch, len(x) // batch, heads, -1).transpose(0, 2, 1, 3)
