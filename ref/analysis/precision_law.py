r"""A law of the loss under low precision: the forward format costs parameters, the backward format costs tokens (Quartet).

.. math:: L(N, D) = \left( \frac{A}{(N\, \mathrm{eff}_N)^{\alpha}} + \frac{B}{(D\, \mathrm{eff}_D)^{\beta}} \right)^{\gamma} + E

eff_N belongs to the precision of the forward pass (0 < eff_N <= 1), eff_D to that of the backward pass; both are 1 for the base run. Given the base
law, a precision's efficiency is the number that makes its losses fit: here the least sum of squared log-losses, each by golden sections.

Source: Quartet, arXiv 2505.14669, eq. 1 and 2. Source level: secondary (the form); the paper's constants are not stated here.
Pitfalls: forward and backward formats must be varied one at a time, else eff_N and eff_D cannot be told apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lpref.ref.analysis.fit import minimum
from lpref.ref.analysis.qat_law import ln, power


@dataclass(frozen=True)
class PrecisionLaw:
    """The base law."""

    a: float
    alpha: float
    b: float
    beta: float
    gamma: float
    e: float

    def loss(self, n: float, d: float, eff_n: float = 1.0, eff_d: float = 1.0) -> float:
        """The loss of a model of n parameters after d tokens under a precision.

        >>> round(PrecisionLaw(1.0, 1.0, 1.0, 1.0, 0.5, 1.0).loss(8.0, 8.0, 0.5, 1.0), 12) == round(1 + 0.375**0.5, 12)
        True
        """
        return power(self.a * power(n * eff_n, -self.alpha) + self.b * power(d * eff_d, -self.beta), self.gamma) + self.e

    def speed_for_loss(self, n: float, d: float, eff_n: float, eff_d: float) -> float:
        """How many times the tokens the base run of the same size could do without for the same loss; 0 where no number is enough.

        A precision pays off when it is faster than this by its factor.
        """
        left = power(self.loss(n, d, eff_n, eff_d) - self.e, 1 / self.gamma) - self.a * power(n, -self.alpha)
        return power(left / self.b, -1 / self.beta) / d if left > 0 else 0.0


def fit_efficiency(law: PrecisionLaw, points: Sequence[tuple[float, float, float]], which: str) -> float:
    """eff_n or eff_d (`which`) of (N, D, loss) points, the other being 1."""

    def error(log_efficiency: float) -> float:
        efficiency = math.exp(log_efficiency)  # exact: a search variable on the host
        given = {"eff_n": efficiency} if which == "eff_n" else {"eff_d": efficiency}
        return math.fsum((ln(law.loss(n, d, **given)) - ln(loss)) ** 2 for n, d, loss in points)

    return math.exp(minimum(error, ln(1e-4), ln(4.0)))  # exact: a search variable on the host
