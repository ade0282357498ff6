"""SGD and Lion in one pass over the parameter: the pages of `lpref.ref.optim.rules`, with their bits."""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu.rows import KERNEL, host
from lpref.accel.cpu.threads import split
from lpref.ref import optim as ref

PART = 1024


def sgd_update(
    p: np.ndarray, g: np.ndarray, b: np.ndarray | None, lr: float, mu: float = 0.0, dampening: float = 0.0, wd: float = 0.0,
    nesterov: bool = False, first: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
    """`lpref.ref.optim.sgd_update`; steps with a running buffer are compiled, the others are the definition."""
    if b is None or first:
        return ref.sgd_update(p, g, b, lr, mu, dampening, wd, nesterov, first)
    p, g, b = host("sgd_update", p, g, b)
    delta, b_new = np.empty_like(p), np.empty_like(p)
    scalars = np.array([lr, mu, 1.0 - dampening, wd], np.float32)
    flat = [a.reshape(-1) for a in (p, g, b, delta, b_new)]
    split(p.size, lambda start, stop: _sgd(start, stop, scalars, wd != 0, nesterov, *flat))
    return delta, b_new


def lion_update(p: np.ndarray, g: np.ndarray, m: np.ndarray, lr: float, b1: float, b2: float, wd: float) -> tuple[np.ndarray, np.ndarray]:
    """`lpref.ref.optim.lion_update`."""
    p, g, m = host("lion_update", p, g, m)
    delta, m_new = np.empty_like(p), np.empty_like(p)
    scalars = np.array([lr, b1, 1.0 - b1, b2, 1.0 - b2, wd], np.float32)
    flat = [a.reshape(-1) for a in (p, g, m, delta, m_new)]
    split(p.size, lambda start, stop: _lion(start, stop, scalars, *flat))
    return delta, m_new


@njit(**KERNEL)
def _sgd(start, stop, scalars, decay, nesterov, p, g, b, delta, b_new):  # type: ignore[no-untyped-def]
    lr, mu, e, wd = scalars[0], scalars[1], scalars[2], scalars[3]
    h = np.empty(PART, np.float32)
    for at in range(start, stop, PART):
        n = min(PART, stop - at)
        for i in range(n):
            h[i] = g[at + i] + wd * p[at + i] if decay else g[at + i]
        for i in range(n):
            b_new[at + i] = mu * b[at + i] + e * h[i]
        for i in range(n):
            delta[at + i] = -(lr * (h[i] + mu * b_new[at + i] if nesterov else b_new[at + i]))


@njit(**KERNEL)
def _lion(start, stop, scalars, p, g, m, delta, m_new):  # type: ignore[no-untyped-def]
    lr, b1, c1, b2, c2, wd = scalars[0], scalars[1], scalars[2], scalars[3], scalars[4], scalars[5]
    for at in range(start, stop, PART):
        last = min(stop, at + PART)
        for i in range(at, last):
            c = b1 * m[i] + c1 * g[i]
            sign = np.float32(c > 0) - np.float32(c < 0) if c == c else c
            delta[i] = -(lr * (sign + wd * p[i]))
        for i in range(at, last):
            m_new[i] = b2 * m[i] + c2 * g[i]
