r"""Bit widths of layers under a budget: the exact least cost, and HASB's roulette.

    allocate    min sum_l cost_l(b_l)   over b_l in the candidates, sum_l n_l b_l <= budget             (dynamic programming, exact)
    descent     the same sum, greedily: all begin at the widest, and the cheapest step down a bit and element is taken until the budget holds
    roulette    a layer whose Hessian trace is below the mean draws uniformly, else width b with probability b / sum of widths

HASB (Double Rounding) uses traces t_l: wide codes are drawn more often where the loss bends more; its subnets minimize a cost of traces under the
average-bit constraint. What the cost of a width is stays the caller's choice: t_l times the squared rounding error is the usual one.

Source: Double Rounding, arXiv 2502.01199, sec. 3.4; HAWQ-V2, arXiv 1911.03852 (the cost);
GACT, arXiv 2206.11357, sec. 4.3 (descent). Source level: secondary.
Pitfalls: the table has one entry a bit of the budget over the greatest common divisor of the sizes: sizes without one make it large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

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


def descent(sensitivities: Sequence[float], sizes: Sequence[int], budget: float, widths: Sequence[int] = (1, 2, 4, 8)) -> list[int]:
    """Widths b_l for the least sum of c_l / (2^b - 1)^2 with sum of n_l b_l <= budget, as GACT finds them: of all steps to the next narrower width
    the one with the least increase over the bits that it saves, again and again; of equal ones that of the later tensor. c and the
    increases are float32.

    >>> descent([1.0, 100.0], [10, 10], 100)
    [2, 8]

    Source: LiuXiaoxuanPKU/GACT-ICML gact/cpp_extension/calc_precision.cc, calc_precision (read). Raises SpecError as `allocate`.
    """
    order = sorted(widths)
    if order[0] * sum(sizes) > budget:
        raise SpecError([f"the narrowest widths need {order[0] * sum(sizes)} bits, the budget has {budget:g}"], where="descent")
    cost = [1.0 / (2**b - 1) ** 2 for b in order]
    exact = [float(np.float32(c)) for c in sensitivities]

    def step(tensor: int, level: int) -> tuple[float, int]:
        saved = sizes[tensor] * (order[level] - order[level - 1])
        return float(np.float32(exact[tensor] * (cost[level] - cost[level - 1]) / saved)), tensor

    levels = [len(order) - 1] * len(sizes)
    used = order[-1] * sum(sizes)
    while used > budget:
        _, tensor = max(step(i, level) for i, level in enumerate(levels) if level)
        used -= sizes[tensor] * (order[levels[tensor]] - order[levels[tensor] - 1])
        levels[tensor] -= 1
    return [order[level] for level in levels]


def roulette(trace: float, mean: float, widths: Sequence[int]) -> dict[int, Fraction]:
    """Probability of every width for a layer with this Hessian trace.

    >>> {b: str(p) for b, p in roulette(2.0, 1.0, [2, 4, 6, 8]).items()}
    {2: '1/10', 4: '1/5', 6: '3/10', 8: '2/5'}
    """
    if trace < mean:
        return {b: Fraction(1, len(widths)) for b in widths}
    return {b: Fraction(b, sum(widths)) for b in widths}
