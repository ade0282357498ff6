r"""How far two float32 evaluations of softmax attention may be apart, whatever their order: grade fast, other libraries, the definition.

Each is compared with the real function; the bound is twice that. It may sum in any order, fuse multiply-adds, use an exp of relative error 4 u
(2 units in the last place), run online (running maxima, sums rescaled at each key). u = 2^-24, gamma_n = n u / (1 - n u) (Higham 2002,
lemma 3.1), D terms a score, S keys; quantities without a mark are real:

    scores     |s' - s| <= gamma_(D+2) |scale| |q| |k|^T =: sigma
    shifts     fl(s' - m) = (s' - m)(1 + d), |d| <= u, for any m that a row shares: it cancels in e / sum e; online, the exponent of a key is the
               sum of the differences of running maxima: 3 u. So an exponential is exp(theta) times the true one,
               |theta| <= t = max_j (sigma + 3 u (|s - max s| + 2 sigma)); beyond 128 below the maximum it underflows (below)
    probs      |p' - p| <= r p + 2^-124,  r = exp(2 t) (1 + gamma_(12 S + 16)) - 1: exponentials above and below, their sum, the division, and
               where sums are rescaled at each key an exponential and a product more, in both; 2^-124 is for what underflows
    o          |o' - o| <= dP |v| + gamma_S (P + dP) |v|,    dP = r P + 2^-124
    dv         gamma_(T+g) P^T |do|                          g query heads share a key head; P is given
    dp, delta  ddp = gamma_E |do| |v|^T,    ddelta = rowsum(P ddp) + gamma_(S+1) rowsum(P (|dp| + ddp))
    ds         dds = |scale| P [(ddp + ddelta) (1 + gamma_3) + gamma_3 (|dp| + |delta|)]
    dq, dk     dds |k| + gamma_S (|ds| + dds) |k|, and the same with ds^T, q and T + g

Where a sum of magnitudes could leave the range of float32 nothing is promised. Inputs of less than float32 are not covered.
gamma is that of products in float32; where a kernel makes them otherwise, `products` says how (the page of that name).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.attention.dense import causal_mask, default_scale
from lpref.ref.attention.packed import Rotary, by_head, rows, split
from lpref.ref.attention.products import FLOAT32, Products
from lpref.ref.linalg.bounds import U32, gamma

EXP = 4 * U32
"""Relative error of exp, at most."""
TINY = 2.0**-124
REACH = 2.0**126

Array = NDArray[np.float64]


def attention_bound(
    _: Any, q: Any, k: Any, v: Any, causal: bool = True, scale: float | None = None, operands: str = "float32", keep: str = "least",
    *, products: Products = FLOAT32,
) -> tuple[Array, Array]:  # fmt: skip
    """Bounds of (o, probs) of `lpref.ref.attention.attention`, which gave `_`, for these arguments; of o alone for others' evaluations."""
    factor, group = abs(default_scale(q, scale)), q.shape[1] // k.shape[1]
    q, k, v = (np.asarray(x, np.float64) for x in (q, np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)))
    D, S = q.shape[-1], k.shape[2]
    seen = causal_mask(q.shape[2], S) if causal else np.ones((q.shape[2], S), bool)
    sizes = factor * product(np.abs(q), np.abs(k))
    with np.errstate(all="ignore"):
        s = np.where(seen, np.copysign(factor, default_scale(q, scale)) * product(q, k), -np.inf)
        below = s - np.max(s, axis=-1, keepdims=True)
        sigma = products.scores(D) * sizes + factor * products.spill(q, k, D) + TINY * (1 + (factor if products.terms else 0))
        t = np.max(np.where(seen, sigma + 3 * U32 * (np.minimum(-below, 128.0) + 2 * sigma), 0.0), axis=-1, keepdims=True)
        e = np.exp(below)  # exact: a bound
        p = e / e.sum(axis=-1, keepdims=True)  # exact: a bound
        off = np.expm1(2 * t) * (1 + gamma(12 * S + 16)) + gamma(12 * S + 16)  # exact: a bound
        dp = np.where(seen, off * p + TINY, TINY)
        do = times(dp, np.abs(v)) + products.error(S) * times(p + dp, np.abs(v)) + S * TINY
        sizes = sizes if factor >= 1 or not products.terms else product(np.abs(q), np.abs(k))  # fused kernels scale afterwards
        return promised(2 * do, times(p + dp, np.abs(v)), sizes, *products.range(q, k, v)), promised(2 * dp, sizes)


def attention_backward_bound(
    _: Any, do: Any, q: Any, k: Any, v: Any, o: Any, saved: Any, causal: bool = True, scale: float | None = None, operands: str = "float32"
) -> tuple[Array, Array, Array]:
    """(dq, dk, dv) bounds, given the probabilities, for `lpref.ref.attention.attention_backward` of these arguments."""
    factor, group = abs(default_scale(q, scale)), q.shape[1] // k.shape[1]
    B, G, S, _ = k.shape
    do, q, k, v, p = (np.asarray(x, np.float64) for x in (do, q, np.repeat(k, group, axis=1), np.repeat(v, group, axis=1), saved))
    T, E = do.shape[2:]
    with np.errstate(all="ignore"):
        sizes, dp = product(np.abs(do), np.abs(v)), product(do, v)
        ddp = gamma(E) * sizes + TINY
        delta = (dp * p).sum(axis=-1, keepdims=True)  # exact: a bound
        ddelta = (p * (ddp + gamma(S + 1) * (np.abs(dp) + ddp))).sum(axis=-1, keepdims=True) + S * TINY  # exact: a bound
        ds = factor * p * np.abs(dp - delta)
        dds = factor * p * ((ddp + ddelta) * (1 + gamma(3)) + gamma(3) * (np.abs(dp) + np.abs(delta))) + TINY * (1 + factor)
        turned = np.swapaxes(ds + dds, -1, -2)
        dq = times(dds, np.abs(k)) + gamma(S) * times(ds + dds, np.abs(k)) + S * TINY
        dk = times(np.swapaxes(dds, -1, -2), np.abs(q)) + gamma(T + group) * times(turned, np.abs(q)) + T * TINY
        held = times(np.swapaxes(p, -1, -2), np.abs(do))
        dk, dv, reach_k, reach_v = (
            x.reshape(B, G, group, *x.shape[2:]).sum(axis=2) for x in (dk, gamma(T + group) * held + T * TINY, times(turned, np.abs(q)), held)
        )  # exact: a bound
        return promised(2 * dq, times(ds + dds, np.abs(k)), sizes), promised(2 * dk, reach_k, sizes), promised(2 * dv, reach_v)


def attention_packed_bound(
    _: Any, qkv: Any, batch: int, heads: int, kv_heads: int, rotary: Rotary = None, causal: bool = True, scale: float | None = None,
    operands: str = "float32", keep: str = "least",
) -> tuple[Array, Array]:  # fmt: skip
    """(o, probs) bounds for `attention_packed`: rotation is the same arithmetic in both grades."""
    o, probs = attention_bound(None, *split("attention_packed", qkv, batch, heads, kv_heads, rotary), causal, scale)
    return rows(o), probs


def attention_packed_backward_bound(
    expected: Any, do: Any, qkv: Any, o: Any, saved: Any, batch: int, heads: int, kv_heads: int, rotary: Rotary = None, causal: bool = True,
    scale: float | None = None, operands: str = "float32", *, backward: Any = attention_backward_bound,
) -> Array:  # fmt: skip
    """Bounds for `attention_packed_backward`. Turning (a, b) back, fl(fl(a c) ± fl(b s)), carries |c| da + |s| db and adds gamma_2 a grade."""
    q, k, v = split("attention_packed_backward", qkv, batch, heads, kv_heads, rotary)
    do, o = by_head(do, batch, heads), by_head(o, batch, heads)
    dq, dk, dv = backward(None, do, q, k, v, o, saved, causal, scale, operands)
    if rotary is not None:
        exact = by_head(np.asarray(expected, np.float64), batch, heads + 2 * kv_heads)
        dq, dk = (_turned(d, x, rotary) for d, x in ((dq, exact[:, :heads]), (dk, exact[:, heads : heads + kv_heads])))
    return np.concatenate([rows(dq), rows(dk), rows(dv)], axis=1)


def _turned(d: Array, turned: Array, rotary: Any) -> Array:
    """|out' - out| for inputs within d of one another; `turned` is the exact grade's result, whose norm a rotation keeps."""
    cos, sin = (np.abs(np.asarray(t, np.float64)) for t in rotary)
    half = d.shape[-1] // 2
    a, b = d[..., :half], d[..., half:]
    size = np.abs(turned[..., :half]) + np.abs(turned[..., half:])
    added = 2 * gamma(2) * (2 * size + a + b) + TINY
    return np.concatenate([cos * a + sin * b + added, cos * b + sin * a + added], axis=-1)


def product(a: Array, b: Array) -> Array:
    return a @ np.swapaxes(b, -1, -2)  # exact: a bound


def times(a: Array, b: Array) -> Array:
    return a @ b  # exact: a bound


def promised(bound: Array, *sizes: Array) -> Array:
    """Infinite where a float32 could overflow; else a little larger than `bound`, for the roundings of this computation."""
    return np.where(max(float(np.max(s, initial=0.0)) for s in sizes) < REACH, bound * (1 + 1e-9), np.inf)
