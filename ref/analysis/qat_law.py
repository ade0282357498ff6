r"""The scaling law of quantization-aware training: the loss that quantization adds, in model size N, tokens D and group size G.

.. math:: L_{QAT} = E + A N^{-\alpha} + B D^{-\beta} + \delta, \qquad \delta = k\, D^{\gamma_D} (\log_2 G)^{\gamma_G} N^{-\gamma_N}

delta falls with N, rises with D and with G, and is 0 at G = 1. N and D in units of their own: the paper's constants go with N and D as counts.
The fit is linear in log delta: ln k + gD ln D + gG ln log2 G - gN ln N, with a Huber loss. Fitted separately for W4A4, W4A16 and W16A4. Of small
models, whose losses differ from run to run by as much as delta, `fit_noisy_qat_law` takes least squares of delta itself.

Source: arXiv 2505.14302, eq. 5; 268 runs, N 74M to 595M, D 10 to 100 billion, G 32 to 256 and whole rows.
Source level: secondary (the form); the constants of `FITTED` from memory.
Pitfalls: a delta that is not positive (noise) has no logarithm; average seeds first, and fit what is left with `fit_noisy_qat_law`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lpref.ref import elementary
from lpref.ref.analysis.fit import linear_fit
from lpref.ref.errors import SpecError

Point = tuple[float, float, float, float]
"""N, D, G, delta."""


def ln(x: float) -> float:
    """The natural logarithm, as everywhere here."""
    return float(elementary.log(np.float64(x)))


def power(x: float, y: float) -> float:
    """x^y for x > 0."""
    return float(elementary.exp(np.float64(y * ln(x))))


@dataclass(frozen=True)
class Chinchilla:
    """The loss without quantization, E + A / N^alpha + B / D^beta. Defaults: Hoffmann et al., arXiv 2203.15556, approach 3 (from memory)."""

    e: float = 1.69
    a: float = 406.4
    alpha: float = 0.34
    b: float = 410.7
    beta: float = 0.28

    def loss(self, n: float, d: float) -> float:
        """The loss of a model of n parameters after d tokens."""
        return self.e + self.a * power(n, -self.alpha) + self.b * power(d, -self.beta)


@dataclass(frozen=True)
class QatLaw:
    """k, gamma_N, gamma_D, gamma_G."""

    k: float
    n: float
    d: float
    g: float

    def delta(self, n: float, d: float, group: float) -> float:
        """What quantization adds to the loss.

        >>> round(QatLaw(1.0, 0.5, 0.25, 1.0).delta(4.0, 16.0, 8.0), 12)
        3.0
        """
        if group == 1:
            return 0.0
        size = ln(group) / ln(2.0)
        return self.k * power(d, self.d) * power(size, self.g) * power(n, -self.n)


def fit_qat_law(points: Sequence[Point], huber: float | None = 1e-3) -> QatLaw:
    """The law of (N, D, G, delta) points. Raises SpecError for a delta that is not positive, or points that do not vary."""
    bad = [i for i, (*_, delta) in enumerate(points) if not delta > 0]
    if bad:
        raise SpecError([f"points.{i}: delta {points[i][3]!r} is not positive" for i in bad], remedy="average over seeds first")
    return _law(linear_fit([_slopes(point) for point in points], [ln(delta) for *_, delta in points], huber))


def fit_noisy_qat_law(points: Sequence[Point]) -> QatLaw:
    """The law with the least squares of delta itself: right for noise that is as large at a small delta, which may then be negative.

    Gauss and Newton's steps, halved while they do not lower the sum of squares, from the fit of the positive points on, at most 200.
    Raises SpecError where the positive points do not determine a law.
    """
    positive = [point for point in points if point[3] > 0]
    found = linear_fit([_slopes(point) for point in positive], [ln(delta) for *_, delta in positive])
    least = _squares(points, found)
    for _ in range(200):
        deltas = [_law(found).delta(*point[:3]) for point in points]
        rows = [[delta * slope for slope in _slopes(point)] for delta, point in zip(deltas, points, strict=True)]
        step = linear_fit(rows, [point[3] - delta for delta, point in zip(deltas, points, strict=True)])
        while max(abs(s) for s in step) > 1e-12 and not _squares(points, [c + s for c, s in zip(found, step, strict=True)]) < least:
            step = [s / 2 for s in step]
        if max(abs(s) for s in step) <= 1e-12:
            break
        found = [c + s for c, s in zip(found, step, strict=True)]
        least = _squares(points, found)
    return _law(found)


def _slopes(point: Point) -> list[float]:
    """What ln delta is linear in: 1, -ln N, ln D, ln log2 G."""
    n, d, group, _ = point
    return [1.0, -ln(n), ln(d), ln(ln(group) / ln(2.0))]


def _law(found: Sequence[float]) -> QatLaw:
    return QatLaw(float(elementary.exp(np.float64(found[0]))), *found[1:])


def _squares(points: Sequence[Point], found: Sequence[float]) -> float:
    law = _law(found)
    return math.fsum((law.delta(n, d, group) - delta) ** 2 for n, d, group, delta in points)


FITTED = {
    "w4a4": QatLaw(0.1582, 0.2186, 0.0745, 0.7779),
}
"""The constants of the paper's W4A4 fit, from memory. Of W4A16 and W16A4 only exponents are known to us: `EXPONENTS`."""

EXPONENTS = {"w4a4": (0.2186, 0.0745, 0.7779), "w4a16": (0.3589, 0.1610, 0.3533), "w16a4": (0.1816, 0.0331, 0.9812)}
"""(gamma_N, gamma_D, gamma_G): the weights' part rises faster with tokens, the activations' with the group size."""
