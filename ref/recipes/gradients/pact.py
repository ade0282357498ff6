r"""PACT: a learned clipping level alpha.

    v^ = alpha/n round(clip(v, 0, alpha) n/alpha)                   n = Qp; a signed format clips at -alpha too

    dv     = g   where 0 <= v < alpha,  else 0                      (signed: -alpha < v < alpha)
    dalpha = sum g   over v >= alpha                                (signed: minus the sum over v <= -alpha)

The scale is alpha / n: one division in float32, at least the smallest normal number. The comparisons are with the scale times Qn and Qp.
First alpha: ``params.first`` (10) where it is given as a number, else max|v|. The L2 penalty on alpha that the paper adds is weight decay of
these parameters.

Source: PACT, arXiv 1805.06085, eq. 1-3; foundation-model-stack/fms-model-optimizer fms_mo/quant/quantizers.py, PACT.
Source level: memory.
Pitfalls: alpha = inf is no quantizer here (the scale would be infinite); a large alpha clips nothing and rounds coarsely.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.elements import element_range
from lpref.ref.recipes.gradients.rule import GradientRule, Kept, Seen, passes


def _keep(seen: Seen) -> Kept:
    ops = seen.ops
    low, high = ops.mul(seen.s, seen.lowest), ops.mul(seen.s, seen.largest)
    above = ops.greater_equal(seen.v, high)
    if seen.levels[0] == 0:
        return {"inside": ops.greater_equal(seen.v, low) & ops.greater(high, seen.v), "above": above}
    return {"inside": ops.greater(seen.v, low) & ops.greater(high, seen.v), "above": above, "below": ops.greater_equal(low, seen.v)}


def _alpha(g: Any, kept: Kept, ops: Any) -> Any:
    zero = g.dtype.type(0)
    up = ops.where(kept["above"], g, zero)
    return ops.where(kept["below"], ops.neg(g), up) if "below" in kept else up


def _state(learned: Mapping[str, Any], q: Quantizer, ops: Any) -> Mapping[str, Any]:
    alpha = learned["alpha"]
    scale = ops.div(alpha, alpha.dtype.type(element_range(q, format_named(q.format))[1]))
    return {"scale": ops.maximum(scale, alpha.dtype.type(np.finfo(np.float32).tiny))}


def _first(v: Any, q: Quantizer, block: Any) -> Any:
    given = q.gradient.params.get("first", 10.0)
    low, high = block.extremes(v)
    if given is None:
        return block.ops.maximum(high, block.ops.neg(low))
    return block.ops.add(block.ops.mul(high, v.dtype.type(0)), v.dtype.type(given))


def _surrogate(u: np.ndarray, levels: tuple[float, ...], params: Mapping[str, Any]) -> np.ndarray:
    return np.clip(u, levels[0], levels[-1])


def _problems(params: Mapping[str, Any]) -> list[str]:
    first = params["first"]
    return [] if first is None or first > 0 else [f"first: {first!r} is neither null nor a positive number"]


PACT = GradientRule(
    passes, _surrogate, _keep, learned={"alpha": _alpha}, first={"alpha": _first}, state=_state, defaults={"first": 10.0}, problems=_problems,
)  # fmt: skip
