r"""Straight-through estimators, and no gradient at all.

    ste           dv = g                                            everywhere
    clipped_ste   dv = g   where Qn <= v / s <= Qp,  else 0;        with ``params.bounds: exclusive``, <
                  ``params.limit``: instead dv = g where |v| < limit (or <=), whatever the scale: a bound on the tensor's own values
    zero          dv = 0

Comparisons are of v with fl(s Qn) and fl(s Qp). Surrogates: u, clip(u, Qn, Qp), 0.

Source: Bengio et al., arXiv 1308.3432; the clip of Hinton's lecture and arXiv 1602.02830; ``limit``: facebookresearch/LLM-QAT models/utils_quant.py,
SymQuantizer.backward (clip_val +-2, exclusive).
Source level: read (LLM-QAT), memory (the others).
Pitfalls: a mask of the tensor's own values is not the clipping range: LLM-QAT never clips, and drops gradients of |w| >= 2 all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.ref.recipes.gradients.rule import GradientRule, Kept, Seen, passes

BOUNDS = ("inclusive", "exclusive")


def _inside(seen: Seen) -> Kept:
    ops, limit = seen.ops, seen.params["limit"]
    beyond = ops.greater if seen.params["bounds"] == "exclusive" else ops.greater_equal
    if limit is not None:
        return {"inside": beyond(seen.number(limit), ops.abs(seen.v))}
    return {"inside": beyond(seen.v, ops.mul(seen.s, seen.lowest)) & beyond(ops.mul(seen.s, seen.largest), seen.v)}


def _problems(params: Mapping[str, Any]) -> list[str]:
    found = [] if params["bounds"] in BOUNDS else [f"bounds: {params['bounds']!r} is not one of {', '.join(BOUNDS)}"]
    limit = params["limit"]
    return found + ([f"limit: {limit!r} is not a positive number"] if limit is not None and not limit > 0 else [])


STE = GradientRule(lambda g, kept, ops: g, lambda u, levels, params: u)
CLIPPED_STE = GradientRule(
    passes, lambda u, levels, params: np.clip(u, levels[0], levels[-1]), _inside,
    defaults={"bounds": "inclusive", "limit": None}, problems=_problems,
)  # fmt: skip
ZERO = GradientRule(lambda g, kept, ops: ops.mul(g, g.dtype.type(0)), lambda u, levels, params: np.zeros_like(u))
