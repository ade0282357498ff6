r"""The multiplicative update of LNS-Madam: a step of the logarithm, in whole units, whose size does not depend on the weight.

.. math::
    v_t = \beta v_{t-1} + (1 - \beta) g_t^2, \qquad
    n = \mathrm{rint}\left(\mathrm{clamp}(g_t / \sqrt{v_t / (1 - \beta^t)}, \pm \mathrm{bound})\right), \qquad
    w_t = \mathrm{clamp}(w_{t-1}\, 2^{-f\,\eta\, n\, \mathrm{sgn}\, w_{t-1}}, \pm m)

eta is `rate`, f the learning rate over its peak, m = `largest` times the RMS of the first weights. With eta = 1/gamma' and weights stored in
lnsB_ggamma', n is what is added to the exponent: the update acts on the code. float32, in this order::

    v' = (v*beta) + ((g*g)*(1-beta));   r = g / sqrt(v' / (1 - beta^t));   0 where v' = 0;   n = rint(min(max(r, -bound), bound))
    w' = w * exp2(s*n), s = -(f eta) where w > 0, + where w < 0, 0 where w = 0;   then min and max with m

A weight of zero stays zero, and no weight changes its sign. The run's weight decay plays no part.
Defaults: rate 1/128, bound 10, beta 0.999, largest 3.
Source: LNS-Madam, arXiv 2106.13914; jiaweizzhao/lns-madam-optimizer lns_madam.py. Source level: read (the code).
Pitfalls: g over the root of a mean of which it is part: at t = 1 every n is +-1; rounding sends |g| below half the root to no step at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.ref.errors import SpecError
from lpref.ref.optim.rules.base import integer_power

Array = Any


@dataclass(frozen=True)
class Madam:
    """The constants of the multiplicative update."""

    rate: float = 1 / 128
    bound: float = 10.0
    beta: float = 0.999
    largest: float = 3.0

    def __post_init__(self) -> None:
        problems = [f"{n}: {getattr(self, n)!r} is not a positive number" for n in ("rate", "bound", "largest") if not 0 < getattr(self, n) < np.inf]
        if not 0 <= self.beta < 1:
            problems.append(f"beta: {self.beta!r} is not within [0, 1)")
        if problems:
            raise SpecError(problems)

    def first(self, name: str, p: Array, ops: Any) -> dict[str, Array]:
        """The arrays that a weight needs: its mean square of gradients, and the largest magnitude that it may have."""
        mean = ops.div(ops.tree_sum(ops.mul(p, p).reshape(-1)).reshape(1), p.dtype.type(p.size))
        return {f"{name}/square": ops.sub(p, p), f"{name}/most": ops.mul(ops.sqrt(mean), p.dtype.type(self.largest))}

    def updated(self, name: str, p: Array, g: Array, kept: Mapping[str, Array], t: int, factor: float, ops: Any) -> tuple[Array, dict[str, Array]]:
        """(weight, arrays) after update number `t` (1-based); `factor` is f.

        >>> from lpref.ref.optim.weights import DefinedOps
        >>> p = np.float32([1, -1, 0])
        >>> m = Madam(rate=1.0)
        >>> m.updated("w", p, np.float32([2, 2, 2]), m.first("w", p, DefinedOps), 1, 1.0, DefinedOps)[0].tolist()
        [0.5, -2.0, 0.0]
        """
        kind = p.dtype.type
        square, most = kept[f"{name}/square"], kept[f"{name}/most"]
        v = ops.add(ops.mul(square, kind(self.beta)), ops.mul(ops.mul(g, g), kind(1.0 - self.beta)))
        alive, zero = ops.greater(v, kind(0)), kind(0)
        root = ops.sqrt(ops.div(ops.where(alive, v, kind(1)), kind(1.0 - integer_power(self.beta, t))))
        ratio = ops.where(alive, ops.div(g, root), zero)
        n = ops.rint(ops.minimum(ops.maximum(ratio, kind(-self.bound)), kind(self.bound)))
        s = kind(-self.rate * factor)
        step = ops.where(ops.greater(p, zero), ops.mul(n, s), ops.where(ops.greater(zero, p), ops.mul(n, -s), zero))
        moved = ops.mul(p, ops.exp2(step))
        moved = ops.minimum(ops.maximum(moved, ops.neg(most)), most)
        return moved, {f"{name}/square": v, f"{name}/most": most}
