r"""Bit widths of layers under a budget: the exact least cost, and HASB's roulette.

    allocate    min sum_l cost_l(b_l)   over b_l in the candidates, sum_l n_l b_l <= budget             (dynamic programming, exact)
    roulette    a layer whose Hessian trace is below the mean draws uniformly, else width b with probability b / sum of widths

HASB (Double Rounding) uses traces t_l: wide codes are drawn more often where the loss bends more; its subnets minimize a cost of traces under the
average-bit constraint. What the cost of a width is stays the caller's choice: t_l times the squared rounding error is the usual one.

Source: Double Rounding, arXiv 2502.01199, sec. 3.4; HAWQ-V2, arXiv 1911.03852 (the cost). Source level: secondary.
Pitfalls: the table has one entry a bit of the budget over the greatest common divisor of the sizes: sizes without one make it large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from lpref.ref.errors import SpecError


def allocate(costs: Sequence[Mapping[int, float]], sizes: Sequence[int], budget: int) -> list[int]:
    """A width for every layer: costs[l] maps a width to its cost, sizes[l] counts parameters, `budget` is in bits. Ties: the narrower width.

    >>> allocate([{2: 9.0, 4: 1.0}, {2: 3.0, 4: 2.0}], [10, 10], 60)
    [4, 2]

    Raises SpecError where even the narrowest widths exceed the budget.
    """
    least = sum(n * min(c) for c, n in zip(costs, sizes, strict=True))
    if least > budget:
        raise SpecError([f"the narrowest widths need {least} bits, the budget has {budget}"], where="allocate")
    unit = math.gcd(*sizes)
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for cost, n in zip(costs, sizes, strict=True):
        new: dict[int, tuple[float, tuple[int, ...]]] = {}
        for used, (total, chosen) in best.items():
            for bits in sorted(cost):
                bits_used = used + n // unit * bits
                if bits_used * unit <= budget and (bits_used not in new or total + cost[bits] < new[bits_used][0]):
                    new[bits_used] = (total + cost[bits], (*chosen, bits))
        best = new
    return list(min(best.items(), key=lambda item: (item[1][0], item[0]))[1][1])


def roulette(trace: float, mean: float, widths: Sequence[int]) -> dict[int, Fraction]:
    """Probability of every width for a layer with this Hessian trace.

    >>> {b: str(p) for b, p in roulette(2.0, 1.0, [2, 4, 6, 8]).items()}
    {2: '1/10', 4: '1/5', 6: '3/10', 8: '2/5'}
    """
    if trace < mean:
        return {b: Fraction(1, len(widths)) for b in widths}
    return {b: Fraction(b, sum(widths)) for b in widths}
