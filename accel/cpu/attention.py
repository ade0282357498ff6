"""Dense attention: the page of `lpref.ref.attention.dense`, head by head: its bits in grade exact, within its bound in grade fast.

The products are `product`'s (k ascending from +0); `fused` marks grade fast, where they use fused multiply-adds and the rows of
scores the float32 functions of `softmax`.

What causality saves: scores and products run over visible positions only, in blocks of 8 queries. The definition adds the masked
ones too, as probability +0 times a number: that changes no bit of a sum that started at +0, unless the number is NaN or infinite.
`reach` tells whether that can be; then the whole rows are used.

    napkin, B·H = 64, T = 128, D = 32, causal: 7 products of 9.4 M multiply-adds, 44 a nanosecond: 1.5 ms; 0.53 M exp at 1.4 ns
    and passes over rows: 1.3 ms; together 3 ms on one core; measured a head, in µs: forward 85 and backward 56 in grade exact,
    24 and 21 in grade fast.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu.product import product
from lpref.accel.cpu.rows import KERNEL, host, reach
from lpref.accel.cpu.softmax import score_gradient_row, score_gradient_row_fast, softmax_rows, softmax_rows_fast
from lpref.accel.cpu.threads import divide
from lpref.ref.attention.dense import check_heads, check_permissions, check_saved, default_scale

QUERIES = 8
"""Queries of one block: the rows of the register tile."""
SAFE = 1e30
"""Below this no masked product can overflow float32."""


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool = True, scale: float | None = None, operands: str = "float32",
    keep: str = "least", *, fused: bool = False,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(o, probs): `lpref.ref.attention.attention`; `fused`: of grade fast, which rounds no operands either."""
    check_heads("attention", q, k, v, causal)
    check_permissions("attention", operands, keep)
    q, k, v = host("attention", q, k, v)
    o, probs = np.empty(q.shape[:3] + v.shape[3:], np.float32), np.empty((*q.shape[:3], k.shape[2]), np.float32)
    divide(_forward, q.shape[0] * q.shape[1], q, k, v, causal, np.float32(default_scale(q, scale)), fused, o, probs)
    return o, probs


def attention_backward(
    do: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, o: np.ndarray, saved: np.ndarray,
    causal: bool = True, scale: float | None = None, operands: str = "float32", *, fused: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """(dq, dk, dv): `lpref.ref.attention.attention_backward` of saved probabilities; `fused`: of grade fast."""
    check_heads("attention_backward", q, k, v, causal)
    check_permissions("attention_backward", operands)
    check_saved("attention_backward", do, q, k, v, saved, logarithms=False)
    do, q, k, v, probs = host("attention_backward", do, q, k, v, saved)
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    divide(_backward, k.shape[0] * k.shape[1], do, q, k, v, probs, causal, np.float32(default_scale(q, scale)), fused, dq, dk, dv)
    return dq, dk, dv


@njit(**KERNEL)
def transposed(x):  # type: ignore[no-untyped-def]
    """A copy of x [R, C] as [C, R]."""
    R, C = x.shape
    out = np.empty((C, R), np.float32)
    for first in range(0, R, 8):
        for c in range(C):
            for r in range(first, min(first + 8, R)):
                out[c, r] = x[r, c]
    return out


@njit(**KERNEL)
def _padded(n, S):  # type: ignore[no-untyped-def]
    """n rounded up to a vector of 16, at most S: positions after n are computed and then overwritten."""
    return min((n + 15) // 16 * 16, S)


@njit(**KERNEL)
def head_forward(q, kt, v, causal, scale, fused, p, o, at, pitch):  # type: ignore[no-untyped-def]
    """One head: q [T, D], kt [D, S], v [S, E] -> p [T, S]; row i of the result goes to o.flat[at + i·pitch …]."""
    T, D = q.shape
    S, E = v.shape
    e, t = np.empty(QUERIES * S, np.float32), np.empty(S, np.float32)
    skip = causal and reach(v) < np.inf
    for i in range(0, T, QUERIES):
        rows = min(QUERIES, T - i)
        last = i + rows + S - T if causal else S
        n = _padded(last, S)
        product(p, i * S, S, q, i * D, D, 1, kt, 0, S, rows, n, D, False, fused)
        seen = i + 1 + S - T if causal else S
        if fused:
            softmax_rows_fast(p, i, rows, seen, n, scale)
        else:
            softmax_rows(p, i, rows, seen, n, scale, e, t)
        product(o, at + i * pitch, pitch, p, i * S, S, 1, v, 0, E, rows, E, last if skip else S, False, fused)


@njit(**KERNEL)
def _forward(start, stop, q, k, v, causal, scale, fused, o, probs):  # type: ignore[no-untyped-def]
    """Query heads start … stop of B · H."""
    H, G = q.shape[1], k.shape[1]
    for task in range(start, stop):
        b, h = task // H, task % H
        g = h // (H // G)
        head_forward(q[b, h], transposed(k[b, g]), v[b, g], causal, scale, fused, probs[b, h], o[b, h], 0, v.shape[3])


@njit(**KERNEL)
def skips(causal, scale, do, q, k, v, p, E):  # type: ignore[no-untyped-def]
    """May a head's backward leave out what causality masks? Only where no masked product, of these greatest magnitudes, can overflow."""
    return causal and do * v * (E + 1.0) * max(1.0, abs(scale)) * (k + q + 1.0) < SAFE and p <= 1.0


@njit(**KERNEL)
def _backward(start, stop, do, q, k, v, probs, causal, scale, fused, dq, dk, dv):  # type: ignore[no-untyped-def]
    """Key heads start … stop of B · G, each with its query heads in ascending order."""
    T, D = q.shape[2:]
    G, S, E = k.shape[1], k.shape[2], v.shape[3]
    group = q.shape[1] // G
    ds, t = np.empty((T, S), np.float32), np.empty(S, np.float32)
    dkh, dvh = np.empty((S, D), np.float32), np.empty((S, E), np.float32)
    for task in range(start, stop):
        b, g = task // G, task % G
        kh, vt = k[b, g], transposed(v[b, g])
        if group == 1:
            dkh, dvh = dk[b, g], dv[b, g]
        for h in range(g * group, (g + 1) * group):
            doh, qh, p = do[b, h], q[b, h], probs[b, h]
            skip = skips(causal, scale, reach(doh), reach(qh), reach(kh), reach(vt), reach(p), E)
            head_backward(doh, qh, kh, vt, p, skip, scale, fused, dq[b, h], dkh, dvh, ds, t)
            if group == 1:
                continue
            for j in range(S):
                for d in range(D):
                    dk[b, g, j, d] = dkh[j, d] if h == g * group else dk[b, g, j, d] + dkh[j, d]
                for d in range(E):
                    dv[b, g, j, d] = dvh[j, d] if h == g * group else dv[b, g, j, d] + dvh[j, d]


@njit(**KERNEL)
def head_backward(do, q, k, vt, p, skip, scale, fused, dq, dk, dv, ds, t):  # type: ignore[no-untyped-def]
    """One head; `skip` leaves out what causality masks. q [T, D], k [S, D], vt [E, S], p and ds [T, S]."""
    T, D = q.shape
    E, S = vt.shape
    for i in range(0, T, QUERIES):
        rows = min(QUERIES, T - i)
        last = i + rows + S - T if skip else S
        n = _padded(last, S)
        product(ds, i * S, S, do, i * E, E, 1, vt, 0, S, rows, n, E, False, fused)
        for r in range(i, i + rows):
            if fused:
                score_gradient_row_fast(ds, p, r, n, scale)
            else:
                score_gradient_row(ds, p, r, n, scale, t)
            ds[r, n : n + QUERIES] = np.float32(0)  # read by the products of the next rows' block
        product(dq, i * D, D, ds, i * S, S, 1, k, 0, D, rows, D, last, False, fused)
    for j in range(0, S, QUERIES):
        rows = min(QUERIES, S - j)
        first = max(0, j - (S - T)) if skip else 0
        product(dv, j * E, E, p, first * S + j, 1, S, do, first * E, E, rows, E, T - first, False, fused)
        product(dk, j * D, D, ds, first * S + j, 1, S, q, first * D, D, rows, D, T - first, False, fused)
