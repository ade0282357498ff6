r"""DSQ, differentiable soft quantization: between two grid points the derivative of a scaled tanh.

On the uniform grid of step d (in units of the scale), f = distance of v / s to its nearest grid point, so that the jump lies at
1/2 - |f| / d of a step from v::

    phi(u)  = tanh(kappa (u - m)) / tanh(kappa / 2)         m the middle of the interval, u in steps
    slope   = (kappa / 2) / tanh(kappa / 2) (1 - tanh(kappa (1/2 - |f| / d))^2)      dv = g slope inside Qn .. Qp, 0 outside
    kappa   = ln(2 / alpha - 1)                             alpha = 1 - tanh(kappa / 2), how far the soft curve stays from the hard one

alpha -> 0 is the hard jump (slope 0 on the grid points, infinite at the jump), alpha -> 1 straight-through. A schedule may lower it.
``params``: alpha (0.2), 0 < alpha < 1. The forward pass is the hard rounding, as in the source.

Source: arXiv 1908.05852, eq. 3 to 9; ricky40403/DSQ DSQConv.py (not by the authors).
Source level: read (the code), secondary (the paper).
Deviation: alpha is a setting, not learned; the source learns it with the clipping bounds l and u, here the scale's rule sets the range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.ref import elementary
from lpref.ref.recipes.gradients.rule import GradientRule, Kept, Seen, multiplied


def constants(alpha: float) -> tuple[float, float]:
    """kappa and (kappa / 2) / tanh(kappa / 2); float64.

    >>> [round(c, 12) for c in constants(0.2)]
    [2.197224577336, 1.373265360835]
    """
    kappa = math.log(2 / alpha - 1)  # exact: a constant, in float64 on the host
    return kappa, kappa / 2 / (1 - alpha)


def _slope(seen: Seen) -> Kept:
    ops, number = seen.ops, seen.number
    kappa, height = constants(seen.params["alpha"])
    distance = ops.abs(ops.sub(ops.rint(seen.ratio), seen.ratio))
    t = ops.tanh(ops.mul(ops.sub(number(0.5), distance), number(kappa)))
    slope = ops.mul(ops.sub(number(1), ops.mul(t, t)), number(height))
    inside = ops.greater_equal(seen.ratio, seen.lowest) & ops.greater_equal(seen.largest, seen.ratio)
    return {"slope": ops.where(inside, slope, number(0))}


def _surrogate(u: np.ndarray, levels: tuple[float, ...], params: Mapping[str, Any]) -> np.ndarray:
    kappa, _ = constants(params["alpha"])
    clipped = np.clip(u, levels[0], levels[-1])
    low = np.minimum(np.floor(clipped), levels[-1] - 1)
    return low + (elementary.tanh(kappa * (clipped - low - 0.5)) / (1 - params["alpha"]) + 1) / 2


def _problems(params: Mapping[str, Any]) -> list[str]:
    return [] if 0 < params["alpha"] < 1 else [f"alpha: {params['alpha']!r} is not between 0 and 1"]


DSQ = GradientRule(multiplied, _surrogate, _slope, defaults={"alpha": 0.2}, problems=_problems)
