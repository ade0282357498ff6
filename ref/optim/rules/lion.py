r"""Lion: the sign of an interpolated momentum.

.. math::
    c_t = \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad
    w_t = w_{t-1} - \eta\,(\mathrm{sign}(c_t) + \lambda w_{t-1}), \qquad
    m_t = \beta_2 m_{t-1} + (1-\beta_2) g_t

Written order of the float32 arithmetic::

    c     = (b1*m) + (c1*g)               c1 = 1 - b1
    delta = -(lr*(sign(c) + (wd*p)))      sign(0) = 0, sign(NaN) = NaN
    m'    = (b2*m) + (c2*g)               c2 = 1 - b2

Defaults: betas (0.9, 0.99), lr 1e-4 (3-10 times below AdamW's), weight_decay 3-10 times above AdamW's.
Laws: with wd = 0 every |delta| is exactly fl32(lr) where c != 0; the delta does not change when g and m are scaled by a power of two.
Pitfalls: m is updated after c is formed; folding the decay into g is another method.
Source: Chen et al., arXiv:2302.06675, Algorithm 2; bitsandbytes backends/default/ops.py. Source level: secondary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.ref.optim.rules.base import Array, Rule, StateSpec


def lion_update(p: Array, g: Array, m: Array, lr: float, b1: float, b2: float, wd: float) -> tuple[Array, Array]:
    """(delta, m') in p's dtype, in the order written above; the scalars are rounded once to it.

    >>> p = np.float32([1, 1, 1])
    >>> lion_update(p, np.float32([3, -2, 0]), 0 * p, lr=0.25, b1=0.9, b2=0.5, wd=0.0)[0] + 0.0
    array([-0.25,  0.25,  0.  ], dtype=float32)
    """
    lr_, b1_, c1, b2_, c2, wd_ = (p.dtype.type(value) for value in (lr, b1, 1.0 - b1, b2, 1.0 - b2, wd))
    c = b1_ * m + c1 * g
    return -(lr_ * (np.sign(c) + wd_ * p)), b2_ * m + c2 * g


@dataclass(frozen=True)
class Lion(Rule):
    """Lion, arXiv:2302.06675. One moment of the parameter's shape."""

    lr: float = 1e-4
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)

    def states(self) -> tuple[StateSpec, ...]:
        return (StateSpec("m", "signed"),)

    def update(
        self, p: Array, g: Array, state: Mapping[str, Array], *, t: int, lr: float, decay: bool, ops: Any = None
    ) -> tuple[Array, dict[str, Array]]:
        kernel = lion_update if ops is None else ops.lion_update
        delta, m = kernel(p, g, state["m"], lr, *self.betas, self.weight_decay if decay else 0.0)
        return delta, {"m": m}
