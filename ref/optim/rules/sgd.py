r"""SGD, with heavy-ball or Nesterov momentum and L2 weight decay.

.. math::
    h_t = g_t + \lambda w_{t-1}, \qquad
    b_1 = h_1, \; b_t = \mu b_{t-1} + (1-d) h_t, \qquad
    u_t = b_t \;\text{(heavy ball)} \;\text{or}\; h_t + \mu b_t \;\text{(Nesterov)}, \qquad
    w_t = w_{t-1} - \eta\, u_t

Written order of the float32 arithmetic::

    h     = g + (wd*p)                    g itself when wd = 0
    b'    = h at t = 1, else (mu*b) + (e*h)     e = 1 - dampening
    u     = b', or h + (mu*b') for Nesterov, or h without momentum
    delta = -(lr*u)

Defaults: lr 0.1, momentum 0, dampening 0, weight_decay 0 (image classifiers: momentum 0.9, weight_decay 5e-4).
Laws: with a constant gradient b tends to g/(1-mu).
Pitfalls: the decay is L2 (it passes through the momentum), unlike AdamW's; the first buffer is the undamped gradient;
a change of the learning rate does not rescale b (the Sutskever form, which keeps lr inside b, is another method).
Source: pytorch/pytorch torch/optim/sgd.py; Sutskever et al. 2013 for Nesterov's form. Source level: read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lpref.ref.optim.rules.base import Array, Rule, StateSpec


def sgd_update(
    p: Array,
    g: Array,
    b: Array | None,
    lr: float,
    mu: float = 0.0,
    dampening: float = 0.0,
    wd: float = 0.0,
    nesterov: bool = False,
    first: bool = False,
) -> tuple[Array, Array | None]:
    """(delta, b') in p's dtype; `b` and b' are None without momentum, `first` is t == 1.

    >>> import numpy as np
    >>> sgd_update(np.float32([1]), np.float32([2]), np.float32([4]), lr=0.5, mu=0.5)
    (array([-2.], dtype=float32), array([4.], dtype=float32))
    """
    lr_, mu_, e, wd_ = (p.dtype.type(value) for value in (lr, mu, 1.0 - dampening, wd))
    h = g + wd_ * p if wd else g
    if b is None:
        return -(lr_ * h), None
    b_new = h.copy() if first else mu_ * b + e * h
    u = h + mu_ * b_new if nesterov else b_new
    return -(lr_ * u), b_new


@dataclass(frozen=True)
class SGD(Rule):
    """SGD; one buffer of the parameter's shape when momentum > 0."""

    lr: float = 0.1
    weight_decay: float = 0.0
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    def states(self) -> tuple[StateSpec, ...]:
        return (StateSpec("b", "signed"),) if self.momentum else ()

    def update(
        self, p: Array, g: Array, state: Mapping[str, Array], *, t: int, lr: float, decay: bool, ops: Any = None
    ) -> tuple[Array, dict[str, Array]]:
        kernel = sgd_update if ops is None else ops.sgd_update
        wd = self.weight_decay if decay else 0.0
        delta, b = kernel(p, g, state.get("b"), lr, self.momentum, self.dampening, wd, self.nesterov, t == 1)
        return delta, {} if b is None else {"b": b}
