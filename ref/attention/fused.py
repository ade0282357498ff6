r"""How far fused attention may be from the definition: matrix units multiply, and logarithms of sums are saved, not probabilities.

Forward: the bound of `lpref.ref.attention.bounds` with the products of the page `products`, and for L = log2 sum_j exp(s_j), with t of that page,

    |L' - L| <= log2 e (t + gamma_(12 S + 16)) + 3 u (|L| + log2 S + 1)        exponentials off by exp(theta), their sum, the logarithm, one addition

Backward, from o and L as they are given; P = 2^(s log2 e - L) is real, dP its error, and both the kernel and the definition keep what follows:

    exponents  s log2 e - L is off by sigma log2 e and by 2 u |s log2 e - L|, which is at most 128 or the result is below 2^-124
    P          dP = (exp(sigma + 256 u) (1 + gamma_8) - 1) P + 2^-124
    dv         dP^T |do| + e(T, g) (P + dP)^T |do|                              e: the products' error
    delta      rowsum(do o) here, rowsum(dp P) there: ddelta = |sum do o - sum dp P| + gamma_(E+1) |do| |o|
               + rowsum(dP |dp| + (P + dP) (ddp + gamma_(S+1) (|dp| + ddp)))
    ds         dds = |scale| [(P + dP) ((ddp + ddelta) (1 + gamma_4) + gamma_4 (|dp| + |delta|)) + dP |dp - delta|]
    dq, dk     dds |k| + e(S) (|ds| + dds) |k|, and the same with ds^T, q and e(T, g)

The result is the sum of both sides' errors, so twice that. Source: arXiv:2307.08691, algorithms 1 and 2; the proof is this page's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from lpref.ref.attention.bounds import (
    TINY,
    Array,
    attention_backward_bound,
    attention_bound,
    attention_packed_backward_bound,
    product,
    promised,
    times,
)
from lpref.ref.attention.dense import LOG2E, causal_mask, default_scale, log_sums
from lpref.ref.attention.packed import Rotary, rows, split
from lpref.ref.attention.products import UNIT
from lpref.ref.linalg.bounds import U32, gamma


def restated(
    expected: Any, actual: Any, q: Any, k: Any, v: Any, causal: bool = True, scale: float | None = None, operands: str = "", keep: str = ""
) -> Any:
    """(o, probs) of the definition, or (o, logarithms) where the kernel saved those."""
    return expected if actual[1].ndim == 4 else (expected[0], log_sums(q, k, causal, scale))


def forward_bound(
    expected: Any, q: Any, k: Any, v: Any, causal: bool = True, scale: float | None = None, operands: str = "float32", keep: str = "least"
) -> tuple[Array, Array]:
    """Bounds of (o, probs) or of (o, logarithms), as `restated` gave `expected`."""
    if expected[1].ndim == 4:
        return attention_bound(None, q, k, v, causal, scale)
    products = UNIT[operands]
    o, _ = attention_bound(None, q, k, v, causal, scale, products=products)
    q, k, s, sizes, sigma = _scores(q, k, causal, scale, operands)
    S = k.shape[2]
    with np.errstate(all="ignore"):
        below = np.minimum(np.max(s, axis=-1, keepdims=True) - s, 128.0)
        t = np.max(np.where(np.isfinite(s), sigma + 3 * U32 * (below + 2 * sigma), 0.0), axis=-1)
        size = np.abs(np.where(np.isfinite(expected[1]), expected[1], 0.0)) + np.log2(S) + 1  # exact: a bound
        logs = LOG2E * (t + gamma(12 * S + 16)) * (1 + 2.0**-5) + 3 * U32 * size + TINY
        return o, promised(2 * logs, sizes, *products.range(q, k))


def backward_bound(
    _: Any, do: Any, q: Any, k: Any, v: Any, o: Any, saved: Any, causal: bool = True, scale: float | None = None, operands: str = "float32"
) -> tuple[Array, Array, Array]:
    """(dq, dk, dv) bounds, given o and the probabilities or the logarithms."""
    if saved.ndim == 4:
        return attention_backward_bound(None, do, q, k, v, o, saved, causal, scale)
    products, factor = UNIT[operands], abs(default_scale(q, scale))
    B, G, S = k.shape[:3]
    T, E, group = q.shape[2], v.shape[3], q.shape[1] // G
    q, k, s, score_sizes, sigma = _scores(q, k, causal, scale, operands)
    do, v, o, logs = (np.asarray(x, np.float64) for x in (do, np.repeat(v, group, axis=1), o, saved))
    with np.errstate(all="ignore"):
        p = np.exp2(s * LOG2E - logs[..., None])  # exact: a bound
        dp_ = np.where(np.isfinite(s), np.expm1(sigma + 256 * U32) * (1 + gamma(8)) + gamma(8), 0.0) * p + TINY  # exact: a bound
        g, sizes = product(do, v), product(np.abs(do), np.abs(v))
        dg = products.error(E) * sizes + products.spill(do, v, E) + TINY
        delta = (g * p).sum(axis=-1, keepdims=True)  # exact: a bound
        size = (np.abs(do) * np.abs(o)).sum(axis=-1, keepdims=True)  # exact: a bound
        gap = np.abs((do * o).sum(axis=-1, keepdims=True) - delta) + gamma(E + 1) * size  # exact: a bound
        parts = dp_ * np.abs(g) + (p + dp_) * (dg + gamma(S + 1) * (np.abs(g) + dg))
        gap = gap + parts.sum(axis=-1, keepdims=True) + (S + E) * TINY  # exact: a bound
        ds = factor * p * np.abs(g - delta)
        apart = (dg + gap) * (1 + gamma(4)) + gamma(4) * (np.abs(g) + np.abs(delta))
        dds = factor * ((p + dp_) * apart + dp_ * np.abs(g - delta)) + TINY * (1 + factor)
        sums = np.swapaxes(ds + dds, -1, -2), np.swapaxes(p + dp_, -1, -2)
        reach_k, reach_v = times(sums[0], np.abs(q)), times(sums[1], np.abs(do))
        dq = times(dds, np.abs(k)) + products.error(S) * times(ds + dds, np.abs(k)) + _small(products, ds + dds, k, S)
        dk = times(np.swapaxes(dds, -1, -2), np.abs(q)) + products.error(T, group) * reach_k + _small(products, sums[0], q, T)
        dv = times(np.swapaxes(dp_, -1, -2), np.abs(do)) + products.error(T, group) * reach_v + _small(products, sums[1], do, T)
        dk, dv, reach_k, reach_v = (x.reshape(B, G, group, *x.shape[2:]).sum(axis=2) for x in (dk, dv, reach_k, reach_v))  # exact: a bound
        most = (score_sizes, sizes, p, times(ds + dds, np.abs(k)) / max(factor, 1e-300), *products.range(do, q, k, v))
        return promised(2 * dq, *most), promised(2 * dk, reach_k, *most), promised(2 * dv, reach_v, *most)


def packed_restated(
    expected: Any, actual: Any, qkv: Any, batch: int, heads: int, kv_heads: int, rotary: Rotary = None, causal: bool = True, scale: Any = None,
    operands: str = "", keep: str = "",
) -> Any:  # fmt: skip
    """`restated` for `attention_packed`."""
    return restated(expected, actual, *split("attention_packed", qkv, batch, heads, kv_heads, rotary), causal, scale)


def packed_forward_bound(
    expected: Any, qkv: Any, batch: int, heads: int, kv_heads: int, rotary: Rotary = None, causal: bool = True, scale: float | None = None,
    operands: str = "float32", keep: str = "least",
) -> tuple[Array, Array]:  # fmt: skip
    """`forward_bound` for `attention_packed`: rotation is the same arithmetic in both grades."""
    o, saved = forward_bound(expected, *split("attention_packed", qkv, batch, heads, kv_heads, rotary), causal, scale, operands)
    return rows(o), saved


packed_backward_bound = partial(attention_packed_backward_bound, backward=backward_bound)
"""`backward_bound` for `attention_packed_backward`."""


def _scores(q: Any, k: Any, causal: bool, scale: float | None, operands: str) -> tuple[Array, Array, Array, Array, Array]:
    """q and the repeated keys in float64, scores (-inf where masked), their magnitudes before or after the scale, and sigma of the page `bounds`."""
    q, k = np.asarray(q, np.float64), np.asarray(np.repeat(k, q.shape[1] // k.shape[1], axis=1), np.float64)
    real, D, products = default_scale(q, scale), q.shape[3], UNIT[operands]
    with np.errstate(all="ignore"):
        s, sizes = real * product(q, k), abs(real) * product(np.abs(q), np.abs(k))
        sigma = products.scores(D) * sizes + abs(real) * products.spill(q, k, D) + TINY * (1 + abs(real))
        before = product(np.abs(q), np.abs(k))
    return q, k, np.where(causal_mask(q.shape[2], k.shape[2]), s, -np.inf) if causal else s, np.maximum(sizes, before), sigma


def _small(products: Any, left: Array, right: Array, n: int) -> Array:
    """What lies below the normal numbers adds to left right."""
    return products.spill(left, np.swapaxes(right, -1, -2), n) + n * TINY * (1 + np.abs(right).max(axis=-2, keepdims=True, initial=0.0))
