r"""XNOR-Net's gradient of a binary weight $\hat w = \alpha\,\mathrm{sgn}(w)$, $\alpha$ the mean magnitude of its filter.

    dw = g (1 / n + alpha 1(|w| <= limit))

n elements share one alpha (the block; ragged blocks count their whole size), limit = ``params.limit`` (1). The first term is what w moves alpha,
with the signs of the other weights left out; the second is straight-through inside hard tanh. float32: slope = fl(1 / n) + alpha or fl(1 / n), dw = g
slope.

Source: arXiv 1603.05279, sec. 3.1, eq. 11 with sign' = 1(|w| <= 1); allenai/XNOR-Net util.lua updateBinaryGradWeight, which excludes |w| = limit and
multiplies by 1 - 1 / C, for weights that it centered over C input channels (and by n under SGD).
Source level: read.
Pitfalls: automatic differentiation of alpha sgn(w) gives sgn(w) sum(g sgn(w)) / n in place of the first term.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lpref.ref.recipes.gradients.rule import GradientRule, Kept, Seen, multiplied


def _slope(seen: Seen) -> Kept:
    ops, number = seen.ops, seen.number
    rows, columns = seen.quantized.block
    own = number(1 / (rows * columns))
    inside = ops.greater_equal(number(seen.params["limit"]), ops.abs(seen.v))
    return {"slope": ops.where(inside, ops.add(ops.add(ops.mul(seen.v, number(0)), seen.s), own), own)}


def _problems(params: Mapping[str, Any]) -> list[str]:
    return [] if params["limit"] > 0 else [f"limit: {params['limit']!r} is not a positive number"]


XNOR = GradientRule(multiplied, None, _slope, defaults={"limit": 1.0}, problems=_problems)
