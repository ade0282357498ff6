r"""AdamW: Adam with decoupled weight decay.

.. math::
    m_t &= \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) g_t^2 \\
    u_t &= \frac{m_t / (1-\beta_1^t)}{\sqrt{v_t / (1-\beta_2^t)} + \epsilon}, \qquad
    w_t = (1 - \eta\lambda)\, w_{t-1} - \eta\, u_t

Written order of the float32 arithmetic (each operation rounded; coefficients computed in float64 on the host and rounded once)::

    m' = (b1*m) + (c1*g)                  c1 = 1 - b1
    v' = (b2*v) + (c2*(g*g))              c2 = 1 - b2
    s  = (a*m') / ((sqrt(v')*r) + eps)

    eps_mode "outside"   a = lr/(1 - b1^t)                   r = 1/sqrt(1 - b2^t)     eps is added after the correction (torch)
    eps_mode "raw"       a = lr*sqrt(1 - b2^t)/(1 - b1^t)    r = 1                    eps is added to the raw sqrt(v) (HF AdamW, GaLore)
    wd_order "before"    delta = -((lrwd*p) + s)             decay of the old weight (torch, bitsandbytes CPU)
    wd_order "inside"    delta = -(lr*(u + (wd*p)))          u = s with lr = 1: same algebra as "before", other rounding (COAT)
    wd_order "after"     delta = -(s + (lrwd*(p - s)))       decay of the stepped weight (GaLore, bitsandbytes CUDA 8-bit)

Defaults: lr 1e-3, betas (0.9, 0.999) (language models: 0.9, 0.95), eps 1e-8, weight_decay 1e-2 (language models: 0.1).
Special values: a non-finite gradient makes m, v and the delta non-finite: check before the update. v >= 0 always.
Pitfalls: torch computes m by lerp, m + (1-b1)(g-m), and the weight in two roundings: last bits differ from this page.
g*g overflows float32 above 1.8e19 and loses bits below 1e-19, as everywhere.
Source: Kingma & Ba, arXiv:1412.6980, Algorithm 1; Loshchilov & Hutter, arXiv:1711.05101, Algorithm 2;
pytorch/pytorch torch/optim/adamw.py (`wd_order="before"`, `eps_mode="outside"`). Source level: read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from lpref.ref.optim.rules.base import Array, Rule, StateSpec, integer_power


class AdamWCoefficients(NamedTuple):
    """The scalars of one update, float64; the update rounds each once to the arrays' dtype."""

    b1: float
    c1: float
    b2: float
    c2: float
    a: float
    r: float
    eps: float
    lr: float
    wd: float
    lrwd: float


def adamw_coefficients(
    t: int,
    lr: float,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    wd: float = 0.0,
    wd_order: str = "before",
    eps_mode: str = "outside",
) -> AdamWCoefficients:
    """Coefficients of update number `t` (1-based). For `wd_order="inside"` the learning rate stays out of `a`."""
    correct1, correct2 = 1.0 - integer_power(b1, t), math.sqrt(1.0 - integer_power(b2, t))
    rate = 1.0 if wd_order == "inside" else lr
    a, r = (rate / correct1, 1.0 / correct2) if eps_mode == "outside" else (rate * correct2 / correct1, 1.0)
    return AdamWCoefficients(b1, 1.0 - b1, b2, 1.0 - b2, a, r, eps, lr, wd, lr * wd)


def adamw_update(
    p: Array, g: Array, m: Array, v: Array, k: AdamWCoefficients, wd_order: str = "before"
) -> tuple[Array, Array, Array]:
    """(delta, m', v') in p's dtype, in the order written above. All four arrays have one shape.

    >>> one = np.ones(2, np.float32)
    >>> adamw_update(one, one, 0 * one, 0 * one, adamw_coefficients(1, lr=0.5, b1=0.5, b2=0.75, eps=0.0))[0]
    array([-0.5, -0.5], dtype=float32)
    """
    b1, c1, b2, c2, a, r, eps, lr, wd, lrwd = (p.dtype.type(value) for value in k)
    m_new = b1 * m + c1 * g
    v_new = b2 * v + c2 * (g * g)
    s = (a * m_new) / (np.sqrt(v_new) * r + eps)
    if wd_order == "before":
        delta = -(lrwd * p + s)
    elif wd_order == "inside":
        delta = -(lr * (s + wd * p))
    else:
        delta = -(s + lrwd * (p - s))
    return delta, m_new, v_new


@dataclass(frozen=True)
class AdamW(Rule):
    """AdamW, arXiv:1711.05101. Two moments of the parameter's shape."""

    lr: float = 1e-3
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    wd_order: Literal["before", "inside", "after"] = "before"
    eps_mode: Literal["outside", "raw"] = "outside"

    def states(self) -> tuple[StateSpec, ...]:
        return (StateSpec("m", "signed"), StateSpec("v", "unsigned"))

    def update(
        self, p: Array, g: Array, state: Mapping[str, Array], *, t: int, lr: float, decay: bool, ops: Any = None
    ) -> tuple[Array, dict[str, Array]]:
        wd = self.weight_decay if decay else 0.0
        k = adamw_coefficients(t, lr, *self.betas, self.eps, wd, self.wd_order, self.eps_mode)
        kernel = adamw_update if ops is None else ops.adamw_update
        delta, m, v = kernel(p, g, state["m"], state["v"], k, self.wd_order)
        return delta, {"m": m, "v": v}
