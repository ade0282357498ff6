r"""How much of a training budget to spend on quantized training: the compute-optimal split between full precision and QAT.

With S = D / (N B / 8) tokens per byte of the quantized model (N parameters of B bits, D tokens in all), the best share of the tokens is

.. math:: f^* = \exp(-a / \ln S), \qquad a = 6.7297

It grows with D and falls with N and B. The loss behind it (per split):

.. math::
    L = \text{Chinchilla}(N, D) + \theta 2^{-\kappa B} + \phi 2^{-\chi B} N^{-\psi} S_{qat}^{-\omega}
        + \lambda 2^{-\mu B} N^{-\nu} S_{fp}^{-\xi} S_{qat}^{-\rho}

with S_qat = f S and S_fp = (1 - f) S; a negative xi says that more full-precision tokens make the quantized phase harder.

Source: Compute-optimal QAT, arXiv 2509.22935; 757 runs, 86M to 2.2B parameters, 1 to 6 bits. Source level: secondary.
Pitfalls: ln S, natural; S is per byte, so fewer bits mean a larger S; below S = 1 the law says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lpref.ref import elementary
from lpref.ref.analysis.fit import minimum
from lpref.ref.analysis.qat_law import Chinchilla, ln, power
from lpref.ref.errors import SpecError

A = 6.7297


def tokens_per_byte(tokens: float, parameters: float, bits: float) -> float:
    """S = D / (N B / 8).

    >>> tokens_per_byte(20e9, 1e9, 4)
    40.0
    """
    return tokens / (parameters * bits / 8)


def best_fraction(s: float, a: float = A) -> float:
    """f*, the share of the tokens for QAT.

    >>> [round(best_fraction(s), 2) for s in (10, 100, 1e3, 1e4, 1e5)]
    [0.05, 0.23, 0.38, 0.48, 0.56]
    """
    if not s > 1:
        raise SpecError([f"{s!r} tokens per byte; the law is of more than 1"], where="best_fraction")
    return float(elementary.exp(np.float64(-a / ln(s))))


def fit_split(points: Sequence[tuple[float, float]]) -> float:
    """a from (S, f*) points: least squares of ln f* = -a / ln S."""
    terms = [(-1.0 / ln(s), ln(f)) for s, f in points]
    return math.fsum(x * y for x, y in terms) / math.fsum(x * x for x, _ in terms)


@dataclass(frozen=True)
class SplitLoss:
    """The loss of a split, constants by the names of the formula."""

    base: Chinchilla
    theta: float
    kappa: float
    phi: float
    chi: float
    psi: float
    omega: float
    lambda_: float
    mu: float
    nu: float
    xi: float
    rho: float

    def loss(self, n: float, tokens: float, bits: float, fraction: float) -> float:
        """The final loss with the share `fraction` of the tokens in QAT, 0 < fraction < 1."""
        s = tokens_per_byte(tokens, n, bits)
        qat, fp = fraction * s, (1 - fraction) * s
        floor = self.theta * 2.0 ** (-self.kappa * bits)
        own = self.phi * 2.0 ** (-self.chi * bits) * power(n, -self.psi) * power(qat, -self.omega)
        both = self.lambda_ * 2.0 ** (-self.mu * bits) * power(n, -self.nu) * power(fp, -self.xi) * power(qat, -self.rho)
        return self.base.loss(n, tokens) + floor + own + both

    def best(self, n: float, tokens: float, bits: float) -> float:
        """The share with the least loss."""
        return minimum(lambda f: self.loss(n, tokens, bits, f), 1e-6, 1 - 1e-6)
