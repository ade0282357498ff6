r"""DGE, the differentiable gradient estimator of FP4 training: between two neighbouring levels a steep curve instead of a jump.

On an interval of width d, t in [0, d] from its lower end::

    f(t)  = d/2 (1 + sgn(2 t/d - 1) |2 t/d - 1|^(1/k))
    f'(t) = 1/k |2 t/d - 1|^(1/k - 1)                            dv = g min(f', cap)

evaluated on v / s, the intervals being those between the format's levels (E2M1: widths .5, .5, .5, .5, 1, 1, 2 on each side). float32, in
this order: r = |v / s|; lo, hi the levels around r (lo <= r < hi; at the largest level and beyond it, the last interval with t = d);
z = |(r - lo) - (hi - r)| / (hi - lo), min with 1; slope = min(pow(z, 1/k - 1) * fl(1/k), cap).

``params``: k (5), cap (3). k = 1 is straight-through. NaN slopes are NaN: a NaN element makes a NaN gradient.
The mean of f' over an interval is 1; of min(f', 3) with k = 5 it is 0.594, so the cap also shrinks the average gradient.

Source: arXiv 2501.17116, sec. 3.1, eq. 7 and 8, appendix C.
Source level: secondary.
Pitfalls: f' belongs to the scaled weight; its interval is the grid's, which is not uniform in E2M1.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from lpref.ref import elementary
from lpref.ref.recipes.gradients.rule import GradientRule, Kept, Seen, multiplied

MOST_LEVELS = 64


def magnitudes(levels: tuple[float, ...]) -> list[float]:
    """The ends of the intervals of |v / s|: the magnitudes of the levels, from 0."""
    return sorted({0.0, *(abs(level) for level in levels)})


def _slope(seen: Seen) -> Kept:
    ops, number, ends = seen.ops, seen.number, magnitudes(seen.levels)
    r = ops.minimum(ops.abs(seen.ratio), number(ends[-1]))
    lo, hi = ops.mul(r, number(0)), ops.add(ops.mul(r, number(0)), number(ends[1]))
    for lower, upper in pairwise(ends[1:]):
        above = ops.greater_equal(r, number(lower))
        lo, hi = ops.where(above, number(lower), lo), ops.where(above, number(upper), hi)
    z = ops.div(ops.abs(ops.sub(ops.sub(r, lo), ops.sub(hi, r))), ops.sub(hi, lo))
    k = float(seen.params["k"])
    steep = ops.mul(ops.pow(z, number(1 / k - 1)), number(1 / k))
    return {"slope": ops.minimum(steep, number(seen.params["cap"]))}


def _surrogate(u: np.ndarray, levels: tuple[float, ...], params: Mapping[str, Any]) -> np.ndarray:
    """The staircase of curves, without the cap; beyond the largest level a line of slope 1/k."""
    ends = np.array(magnitudes(levels))
    r = np.minimum(np.abs(u), ends[-1])
    i = np.clip(np.searchsorted(ends, r, side="right") - 1, 0, len(ends) - 2)
    d = ends[i + 1] - ends[i]
    z = 2 * (r - ends[i]) / d - 1
    bent = np.copysign(elementary.pow(np.abs(z), np.float64(1 / params["k"])), z)
    return np.copysign(ends[i] + d / 2 * (1 + bent) + (np.abs(u) - r) / params["k"], u)


def _problems(params: Mapping[str, Any]) -> list[str]:
    found = [] if params["k"] >= 1 else [f"k: {params['k']!r} is below 1"]
    return found + ([] if params["cap"] > 0 else [f"cap: {params['cap']!r} is not a positive number"])


DGE = GradientRule(multiplied, _surrogate, _slope, defaults={"k": 5.0, "cap": 3.0}, problems=_problems)
