r"""Fits in one defined order: linear least squares with Huber weights, and the minimum of a function of one number.

Least squares solve the normal equations $A^T W A c = A^T W y$ by elimination with row pivots; sums are `math.fsum`, so the result does not depend on
the machine. Huber weights (loss $r^2/2$ up to `huber`, linear beyond) are iterated: $w = \min(1, huber / |r|)$, until no coefficient moves by more
than 1e-12 of its size, at most 200 times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lpref.ref.errors import SpecError


def linear_fit(rows: Sequence[Sequence[float]], targets: Sequence[float], huber: float | None = None) -> list[float]:
    """Coefficients c that minimize the loss of sum_j rows[i][j] c[j] - targets[i].

    >>> [round(c, 12) for c in linear_fit([[1, 0], [1, 1], [1, 2]], [1, 3, 5])]
    [1.0, 2.0]

    Raises SpecError where the rows do not determine the coefficients.
    """
    weights, found = [1.0] * len(rows), [0.0] * len(rows[0])
    for _ in range(200):
        last, found = found, _solved(rows, targets, weights)
        if huber is None or all(abs(a - b) <= 1e-12 * max(abs(a), 1e-300) for a, b in zip(found, last, strict=True)):
            break
        residuals = [math.fsum(r * c for r, c in zip(row, found, strict=True)) - y for row, y in zip(rows, targets, strict=True)]
        weights = [1.0 if abs(r) <= huber else huber / abs(r) for r in residuals]
    return found


def _solved(rows: Sequence[Sequence[float]], targets: Sequence[float], weights: Sequence[float]) -> list[float]:
    n = len(rows[0])
    a = [[math.fsum(w * r[i] * r[j] for w, r in zip(weights, rows, strict=True)) for j in range(n)] for i in range(n)]
    b = [math.fsum(w * r[i] * y for w, r, y in zip(weights, rows, targets, strict=True)) for i in range(n)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(a[k][i]))
        if abs(a[pivot][i]) <= 1e-14 * max(abs(a[k][k]) for k in range(n)):
            raise SpecError([f"the {len(rows)} points do not determine {n} coefficients"], where="linear_fit", remedy="vary every variable")
        a[i], a[pivot], b[i], b[pivot] = a[pivot], a[i], b[pivot], b[i]
        for k in range(i + 1, n):
            factor = a[k][i] / a[i][i]
            a[k] = [x - factor * y for x, y in zip(a[k], a[i], strict=True)]
            b[k] -= factor * b[i]
    found = [0.0] * n
    for i in reversed(range(n)):
        found[i] = (b[i] - math.fsum(a[i][j] * found[j] for j in range(i + 1, n))) / a[i][i]
    return found


def minimum(function: Callable[[float], float], low: float, high: float, rounds: int = 120) -> float:
    """Where a function with one minimum in low .. high is least, by golden sections.

    >>> round(minimum(lambda x: (x - 0.3) ** 2, 0.0, 1.0), 6)
    0.3
    """
    ratio = (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    fa, fb = function(a), function(b)
    for _ in range(rounds):
        if fa <= fb:
            high, b, fb = b, a, fa
            a = high - ratio * (high - low)
            fa = function(a)
        else:
            low, a, fa = a, b, fb
            b = low + ratio * (high - low)
            fb = function(b)
    return (low + high) / 2
