"""Update rules in one pass over the parameter: the pages of `lpref.ref.optim.rules`, with their bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from lpref.accel.cpu.rows import KERNEL, host, row_sum
from lpref.accel.cpu.threads import split
from lpref.ref import optim as ref
from lpref.ref.optim import AdamWCoefficients
from lpref.ref.reduce import LANES, tree_sum

PART = 1024


def adamw_update(
    p: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, k: AdamWCoefficients, wd_order: str = "before"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(delta, m', v'): `lpref.ref.optim.adamw_update`; its `before` order is compiled, the others are the definition."""
    if wd_order != "before":
        return ref.adamw_update(p, g, m, v, k, wd_order)
    p, g, m, v = host("adamw_update", p, g, m, v)
    delta, m_new, v_new = np.empty_like(p), np.empty_like(p), np.empty_like(p)
    flat = [a.reshape(-1) for a in (p, g, m, v, delta, m_new, v_new)]
    scalars = np.array(k, np.float32)
    split(p.size, lambda start, stop: _adamw(scalars, *[a[start:stop] for a in flat]))
    return delta, m_new, v_new


def global_norm(arrays: Sequence[np.ndarray]) -> np.floating:
    """`lpref.ref.optim.global_norm`."""
    if not arrays:
        return np.float32(0)
    sums = [_sum_of_squares(a.reshape(-1)) for a in host("global_norm", *arrays)]
    return np.sqrt(tree_sum(np.array(sums, np.float32)))


@njit(**KERNEL)
def _sum_of_squares(x):  # type: ignore[no-untyped-def]
    lanes = np.zeros(LANES, np.float32)
    for start in range(0, x.size, LANES):
        for l in range(min(LANES, x.size - start)):
            lanes[l] += x[start + l] * x[start + l]
    return row_sum(lanes, LANES)


@njit(**KERNEL)
def _adamw(scalars, p, g, m, v, delta, m_new, v_new):  # type: ignore[no-untyped-def]
    """Three loops over a part that stays in the cache: one over all seven arrays has too many that could overlap to be a vector loop."""
    b1, c1, b2, c2, a, r, eps, lrwd = scalars[0], scalars[1], scalars[2], scalars[3], scalars[4], scalars[5], scalars[6], scalars[9]
    for first in range(0, p.size, PART):
        last = first + PART
        P, G, M, V, D, M2, V2 = (
            p[first:last], g[first:last], m[first:last], v[first:last], delta[first:last], m_new[first:last], v_new[first:last],
        )  # fmt: skip
        for i in range(P.size):
            M2[i] = b1 * M[i] + c1 * G[i]
        for i in range(P.size):
            V2[i] = b2 * V[i] + c2 * (G[i] * G[i])
        for i in range(P.size):
            D[i] = -(lrwd * P[i] + (a * M2[i]) / (np.sqrt(V2[i]) * r + eps))
