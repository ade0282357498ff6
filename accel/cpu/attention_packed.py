"""Attention of packed projections: the page of `lpref.ref.attention.packed`, head by head, in the grades of `attention`.

A head's queries, keys and values are read out of their columns (rotated on the way) into arrays that stay in the first caches; results
go straight to their columns. So no array of heads exists, and the kernels of `attention` work on what they would have been given.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu.attention import head_backward, head_forward, skips, transposed
from lpref.accel.cpu.rows import KERNEL, host, reach
from lpref.accel.cpu.threads import divide
from lpref.ref.attention.dense import check_permissions
from lpref.ref.attention.packed import Rotary, check_gradient, head_dim
from lpref.ref.errors import ShapeError


def attention_packed(
    qkv: np.ndarray, batch: int, heads: int, kv_heads: int, rotary: Rotary = None, causal: bool = True, scale: float | None = None,
    operands: str = "float32", keep: str = "least", *, fused: bool = False,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """`lpref.ref.attention.attention_packed`; `fused`: of grade fast."""
    D = head_dim("attention_packed", qkv, batch, heads, kv_heads, rotary)
    check_permissions("attention_packed", operands, keep)
    (qkv,) = host("attention_packed", qkv)
    tokens = len(qkv) // batch
    o, probs = np.empty((len(qkv), heads * D), np.float32), np.empty((batch, heads, tokens, tokens), np.float32)
    divide(_forward, batch * heads, qkv, *_tables("attention_packed", rotary), kv_heads, causal, _scale(D, scale), fused, o, probs)
    return o, probs


def attention_packed_backward(
    do: np.ndarray, qkv: np.ndarray, o: np.ndarray, saved: np.ndarray, batch: int, heads: int, kv_heads: int, rotary: Rotary = None,
    causal: bool = True, scale: float | None = None, operands: str = "float32", *, fused: bool = False,
) -> np.ndarray:  # fmt: skip
    """`lpref.ref.attention.attention_packed_backward` of saved probabilities; `fused`: of grade fast."""
    D = head_dim("attention_packed_backward", qkv, batch, heads, kv_heads, rotary)
    check_permissions("attention_packed_backward", operands)
    check_gradient("attention_packed_backward", do, o, qkv, heads, D)
    tokens = len(qkv) // batch
    if saved.shape != (batch, heads, tokens, tokens):
        raise ShapeError(f"saved is {saved.shape}; needed {(batch, heads, tokens, tokens)} probabilities", where="attention_packed_backward")
    do, qkv, probs = host("attention_packed_backward", do, qkv, saved)
    dqkv = np.empty_like(qkv)
    tables = _tables("attention_packed_backward", rotary)
    divide(_backward, batch * kv_heads, do, qkv, probs, *tables, kv_heads, causal, _scale(D, scale), fused, dqkv)
    return dqkv


def _tables(op: str, rotary: Rotary) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin; empty where positions are not rotated."""
    return host(op, *rotary) if rotary is not None else (np.empty((0, 0), np.float32), np.empty((0, 0), np.float32))  # type: ignore[return-value]


def _scale(D: int, scale: float | None) -> np.float32:
    return np.float32(1.0 / D**0.5 if scale is None else scale)


@njit(**KERNEL)
def _load(x, row, column, cos, sin, out):  # type: ignore[no-untyped-def]
    """The head at `column` of rows row … row + T: out [T, D], rotated unless the tables are empty."""
    T, D = out.shape
    half = D // 2
    for t in range(T):
        if cos.size == 0:
            for i in range(D):
                out[t, i] = x[row + t, column + i]
        else:
            for i in range(half):
                p, q, c, s = x[row + t, column + i], x[row + t, column + i + half], cos[t, i], sin[t, i]
                out[t, i] = p * c - q * s
                out[t, i + half] = q * c + p * s


@njit(**KERNEL)
def _store(x, row, column, cos, sin, d):  # type: ignore[no-untyped-def]
    """The transpose of `_load`: d [T, D] turned back into the columns of x."""
    T, D = d.shape
    half = D // 2
    for t in range(T):
        if cos.size == 0:
            for i in range(D):
                x[row + t, column + i] = d[t, i]
        else:
            for i in range(half):
                p, q, c, s = d[t, i], d[t, i + half], cos[t, i], sin[t, i]
                x[row + t, column + i] = p * c + q * s
                x[row + t, column + i + half] = q * c - p * s


@njit(**KERNEL)
def _forward(start, stop, qkv, cos, sin, G, causal, scale, fused, o, probs):  # type: ignore[no-untyped-def]
    """Query heads start … stop of B · H."""
    _, H, T, _ = probs.shape
    D = qkv.shape[1] // (H + 2 * G)
    none = np.empty((0, 0), np.float32)
    q, k, v = np.empty((T, D), np.float32), np.empty((T, D), np.float32), np.empty((T, D), np.float32)
    for task in range(start, stop):
        b, h = task // H, task % H
        g = h // (H // G)
        _load(qkv, b * T, h * D, cos, sin, q)
        _load(qkv, b * T, (H + g) * D, cos, sin, k)
        _load(qkv, b * T, (H + G + g) * D, none, none, v)
        head_forward(q, transposed(k), v, causal, scale, fused, probs[b, h], o, b * T * H * D + h * D, H * D)


@njit(**KERNEL)
def _backward(start, stop, do, qkv, probs, cos, sin, G, causal, scale, fused, dqkv):  # type: ignore[no-untyped-def]
    """Key heads start … stop of B · G, each with its query heads in ascending order."""
    _, H, T, _ = probs.shape
    D = qkv.shape[1] // (H + 2 * G)
    none = np.empty((0, 0), np.float32)
    q, k, v, doh = np.empty((T, D), np.float32), np.empty((T, D), np.float32), np.empty((T, D), np.float32), np.empty((T, D), np.float32)
    dq, dk, dv = np.empty((T, D), np.float32), np.empty((T, D), np.float32), np.empty((T, D), np.float32)
    one, two = np.empty((T, D), np.float32), np.empty((T, D), np.float32)
    ds, t = np.empty((T, T), np.float32), np.empty(T, np.float32)
    for task in range(start, stop):
        b, g = task // G, task % G
        _load(qkv, b * T, (H + g) * D, cos, sin, k)
        _load(qkv, b * T, (H + G + g) * D, none, none, v)
        vt = transposed(v)
        for h in range(g * (H // G), (g + 1) * (H // G)):
            _load(qkv, b * T, h * D, cos, sin, q)
            _load(do, b * T, h * D, none, none, doh)
            first = h == g * (H // G)
            skip = skips(causal, scale, reach(doh), reach(q), reach(k), reach(vt), reach(probs[b, h]), D)
            head_backward(doh, q, k, vt, probs[b, h], skip, scale, fused, dq, dk if first else one, dv if first else two, ds, t)
            if not first:
                for i in range(T):
                    for d in range(D):
                        dk[i, d] = dk[i, d] + one[i, d]
                        dv[i, d] = dv[i, d] + two[i, d]
            _store(dqkv, b * T, h * D, cos, sin, dq)
        _store(dqkv, b * T, (H + g) * D, cos, sin, dk)
        _store(dqkv, b * T, (H + G + g) * D, none, none, dv)
