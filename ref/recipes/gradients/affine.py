r"""Learned scale and learned integer zero point (EfficientQAT).

    s^ = clip(s, 1e-4, 1e4)    z^ = clip(round(z), Qn, Qp)    k = round(v / s^) + z^    q = clip(k, Qn, Qp)    v^ = (q - z^) s^

    dv = g                              where Qn <= k <= Qp,  else 0
    ds = sum g ((q - z^) - v / s^)      inside,   sum g (q - z^)   outside
    dz = 0                              inside,   -sum g s^        outside        (rounds and clips of s and z pass straight through)

float32; q - z^ is the element value, so the difference is one rounding. First values: s = (max v - min v) / (Qp - Qn) and z = Qn - round(min v / s),
with zero in the range. Sums as in `lpref.ref.recipes.gradients.lsq`, not multiplied by anything.

Source: EfficientQAT, arXiv 2407.11062, eq. 1 and 2, appendix A; OpenGVLab/EfficientQAT quantize/quantizer.py.
Source level: read (the code).
Deviation: the first z is rounded and clipped here, there rounded only (its use clips it).
Pitfalls: a straight-through clip of s keeps training a scale below 1e-4; the block's rounding is that of v / s before z is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.elements import element_range
from lpref.ref.recipes.gradients.rule import GradientRule, Kept, Seen, passes

SMALLEST, LARGEST = 1e-4, 1e4


def _keep(seen: Seen) -> Kept:
    ops = seen.ops
    shifted = seen.quantized.dequantize(seen.v.dtype)
    value = ops.rint(ops.div(shifted, seen.s))  # q - z, a whole number: the quotient is within half a unit of it
    inside = ops.equal(ops.rint(seen.ratio), value)
    part = ops.where(inside, ops.sub(value, seen.ratio), value)
    return {"inside": inside, "part": part, "s": seen.s}


def _scale(g: Any, kept: Kept, ops: Any) -> Any:
    return ops.mul(g, kept["part"])


def _zero(g: Any, kept: Kept, ops: Any) -> Any:
    return ops.where(kept["inside"], g.dtype.type(0), ops.neg(ops.mul(g, kept["s"])))


def _state(learned: Mapping[str, Any], q: Quantizer, ops: Any) -> Mapping[str, Any]:
    low, high = element_range(q, format_named(q.format))
    s, z = learned["step"], learned["zero"]
    scale = ops.minimum(ops.maximum(s, s.dtype.type(SMALLEST)), s.dtype.type(LARGEST))
    return {"scale": scale, "zero": ops.minimum(ops.maximum(ops.rint(z), z.dtype.type(low)), z.dtype.type(high))}


def _first_scale(v: Any, q: Quantizer, block: Any) -> Any:
    low, high = element_range(q, format_named(q.format))
    small, large = block.extremes(v)
    found = block.ops.div(block.ops.sub(large, small), v.dtype.type(high - low))
    return block.ops.minimum(block.ops.maximum(found, v.dtype.type(SMALLEST)), v.dtype.type(LARGEST))


def _first_zero(v: Any, q: Quantizer, block: Any) -> Any:
    ops, (low, high) = block.ops, element_range(q, format_named(q.format))
    small, _ = block.extremes(v)
    found = ops.sub(v.dtype.type(low), ops.rint(ops.div(small, _first_scale(v, q, block))))
    return ops.minimum(ops.maximum(found, v.dtype.type(low)), v.dtype.type(high))


def _surrogate(u: np.ndarray, levels: tuple[float, ...], params: Mapping[str, Any]) -> np.ndarray:
    return np.clip(u, levels[0] - 0.5, levels[-1] + 0.5)


AFFINE = GradientRule(
    passes, _surrogate, _keep, learned={"step": _scale, "zero": _zero}, first={"step": _first_scale, "zero": _first_zero}, state=_state,
)  # fmt: skip
