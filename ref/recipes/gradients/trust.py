r"""Trust mask: the gradient passes where the rounding error is small.

    dv = g   where |v^ - v| <= threshold * s,   else 0          float32: |fl(v^ - v)| against fl(threshold * s)

In units of the scale, so for a grid of step 2 s (QuEST's odd integers) threshold 1 is half a step: every element inside the grid passes, and
of those beyond it the ones that clipping moved by no more than half a step. threshold = inf is straight-through.
``params``: threshold (1). Infinity and NaN do not pass.

Source: QuEST, arXiv 2502.05003, sec. 3.3; IST-DASLab/QuEST src/models/quantization/base_linear.py, HadamardTrustQuantizer.
Source level: read (the code).
Deviation: there the bound is T times the RMS, T = a_b / (2^b - 1); that is this bound up to the 1e-8 which the scale adds to the RMS.
Pitfalls: it is not the mask of a clipping range: values just beyond the range pass. Taken in the rotated basis, then rotated back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.ref.recipes.gradients.rule import GradientRule, Kept, Seen, passes


def _inside(seen: Seen) -> Kept:
    ops = seen.ops
    error = ops.abs(ops.sub(seen.quantized.dequantize(seen.v.dtype), seen.v))
    return {"inside": ops.greater_equal(ops.mul(seen.s, seen.number(seen.params["threshold"])), error)}


def _surrogate(u: np.ndarray, levels: tuple[float, ...], params: Mapping[str, Any]) -> np.ndarray:
    grid = np.array(levels)
    nearest = grid[np.abs(u[..., None] - grid).argmin(-1)]
    return np.where(np.abs(u - nearest) <= params["threshold"], u, nearest)


def _problems(params: Mapping[str, Any]) -> list[str]:
    return [] if params["threshold"] > 0 else [f"threshold: {params['threshold']!r} is not a positive number"]


TRUST = GradientRule(passes, _surrogate, _inside, defaults={"threshold": 1.0}, problems=_problems)
