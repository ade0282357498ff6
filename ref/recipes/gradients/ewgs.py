r"""EWGS, element-wise gradient scaling: the gradient grows where it pulls an element away from its grid point, and shrinks where it pulls back.

    dv = g (1 + delta sgn(g) (v - v^) / (s (Qp - Qn)))  inside Qn .. Qp, else 0

float32, in this order: e = (v / s - rint(v / s)) * fl(1 / (Qp - Qn)); dv = g + (|g| * e) * delta. It is not a derivative of anything: |g| is in it.
With a learned scale ds is that of LSQ with c = 1 (`lpref.ref.recipes.gradients.lsq`). ``params``: delta (1e-3); 0 is clipped straight-through.

Source: EWGS, arXiv 2104.00903, eq. 4; cvlab-yonsei/EWGS CIFAR10/custom_modules.py, EWGS_discretizer.
Source level: read (the code).
Deviation: delta is a constant (the code's default phase); the paper sets it from the Hessian's trace and the gradients' deviation. The code learns
a lower and an upper bound and an output scale; here the scale (learned or measured) gives both bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lpref.ref.recipes.gradients.lsq import first_step, phi, step_part, within
from lpref.ref.recipes.gradients.rule import GradientRule, Kept, Seen


def _keep(seen: Seen) -> Kept:
    ops = seen.ops
    span = 1.0 / float(seen.levels[-1] - seen.levels[0])
    error = ops.mul(ops.sub(seen.ratio, ops.rint(seen.ratio)), seen.number(span))
    learned = {"phi": phi(seen)} if seen.q.scale.learned else {}
    return {"inside": within(seen), "pull": ops.mul(error, seen.number(seen.params["delta"])), **learned}


def _scaled(g: Any, kept: Kept, ops: Any) -> Any:
    moved = ops.add(g, ops.mul(ops.abs(g), kept["pull"]))
    return ops.where(kept["inside"], moved, g.dtype.type(0))


def _problems(params: Mapping[str, Any]) -> list[str]:
    delta = params["delta"]
    return [] if 0 <= delta < math.inf else [f"delta: {delta!r} is not a number >= 0"]


EWGS = GradientRule(
    _scaled, None, _keep, learned={"step": step_part}, first={"step": first_step}, defaults={"delta": 1e-3}, problems=_problems,
)  # fmt: skip
