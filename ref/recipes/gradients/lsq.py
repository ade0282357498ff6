r"""LSQ: a learned step, and LSQ+: a learned step and offset.

    v^ = s round(clip((v - b) / s, Qn, Qp)) + b                     b = 0 in LSQ

    dv = g   where Qn < (v - b) / s < Qp,  else 0
    ds = c sum g phi,   phi = Qn                                    where (v - b) / s <= Qn
                              Qp                                    where (v - b) / s >= Qp
                              round((v - b)/s) - (v - b)/s          between
    db = c sum g                                                    over what lies outside Qn .. Qp (inside, v - b and + b cancel)
    c  = 1 / sqrt(n Qp);  n = the elements that share a weight's step, or an activation's features (its columns)

s is the block's scale times the tensor scale; sums run over the block that shares a parameter, in the defined order of `lpref.ref.reduce`,
products rounded to float32.
``params``: count (features; numel takes n over all elements of an activation, batch included, as the public implementations do), scaled
(true; false: c = 1), init: lsq s = 2 mean|v| / sqrt(Qp); full (L4Q) s = max(|min v / Qn|, |max v / Qp|), nothing is clipped at first.
LSQ+ starts b at 0 with symmetric formats, at min v with unsigned ones, and then s = (max v - min v) / Qp.

Source: LSQ, arXiv 1902.08153, eq. 1-5; hustzxd/LSQuantization lsq.py. LSQ+, arXiv 2004.09576, eq. 5-9. L4Q, arXiv 2402.04902.
Source level: read (LSQ's code), memory (LSQ+).
Pitfalls: c multiplies the gradient of s, not s; s must stay positive; hustzxd's FunLSQ masks |v / s| > Qp where its round_pass masks like clamp.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.elements import element_range
from lpref.ref.recipes.gradients.rule import GradientRule, Kept, Seen, passes

INITS, COUNTS = ("lsq", "full"), ("features", "numel")


def within(seen: Seen) -> Any:
    """Qn < v / s < Qp."""
    return seen.ops.greater(seen.ratio, seen.lowest) & seen.ops.greater(seen.largest, seen.ratio)


def phi(seen: Seen) -> Any:
    """d v^ / ds of every element. With double rounding what is subtracted from is the code, which a second rounding made."""
    ops = seen.ops
    if seen.q.scale.rule != "double_rounding":
        return step_derivative(seen.ratio, seen.lowest, seen.largest, ops)
    code = ops.rint(ops.div(seen.quantized.dequantize(seen.v.dtype), seen.s))
    return ops.where(within(seen), ops.sub(code, seen.ratio), code)


def step_derivative(ratio: Any, lowest: Any, largest: Any, ops: Any) -> Any:
    """phi of the ratio v / s; the bounds are scalars of its dtype."""
    inner = ops.sub(ops.rint(ratio), ratio)
    return ops.where(ops.greater_equal(lowest, ratio), lowest, ops.where(ops.greater_equal(ratio, largest), largest, inner))


def step_part(g: Any, kept: Kept, ops: Any) -> Any:
    """g phi."""
    return ops.mul(g, kept["phi"])


def offset_part(g: Any, kept: Kept, ops: Any) -> Any:
    """g outside, 0 inside."""
    return ops.where(kept["inside"], g.dtype.type(0), g)


def gradient_scale(q: Quantizer, tensor: str, shape: tuple[int, ...]) -> float:
    """c = 1 / sqrt(n Qp), or 1; times 2^D with double rounding, whose element values are in units of s 2^D."""
    params, form = {**DEFAULTS, **q.gradient.params}, format_named(q.format)
    shift = 2.0 ** (q.scale.high - form.bits) if q.scale.rule == "double_rounding" else 1.0
    if not params["scaled"]:
        return shift
    features = tensor == "x" and params["count"] == "features"
    n = shape[-1] if features else math.prod(shape) if tensor == "x" else math.prod(q.blocks.on((shape[0], shape[1]), 1))
    return shift / math.sqrt(n * float(element_range(q, form)[1]))


def first_step(v: Any, q: Quantizer, block: Any) -> Any:
    """2 mean|v| / sqrt(Qp), or for `full` the step that clips nothing; at least the smallest normal number, so that it stays positive."""
    ops, lowest, largest = block.ops, *map(float, element_range(q, format_named(q.format)))
    if q.scale.rule == "double_rounding":  # the step is that of the stored codes
        lowest, largest = -(2.0 ** (q.scale.high - 1)), 2.0 ** (q.scale.high - 1) - 1
    if q.gradient.params.get("init", "lsq") == "full":
        low, high = block.extremes(v)
        down = ops.mul(low, v.dtype.type(1 / lowest)) if lowest else low
        found = ops.maximum(down, ops.mul(high, v.dtype.type(1 / largest)))
    else:
        found = ops.mul(block.mean(ops.abs(v)), v.dtype.type(2.0 / math.sqrt(largest)))
    return ops.maximum(found, v.dtype.type(np.finfo(np.float32).tiny))


def first_step_with_offset(v: Any, q: Quantizer, block: Any) -> Any:
    """LSQ+: of an unsigned format (max v - min v) / Qp, else as LSQ."""
    if format_named(q.format).signed:
        return first_step(v, q, block)
    low, high = block.extremes(v)
    largest = float(element_range(q, format_named(q.format))[1])
    found = block.ops.mul(block.ops.sub(high, low), v.dtype.type(1 / largest))
    return block.ops.maximum(found, v.dtype.type(np.finfo(np.float32).tiny))


def first_offset(v: Any, q: Quantizer, block: Any) -> Any:
    """min(v, 0) of an unsigned format, else 0."""
    low, _ = block.extremes(v)
    return block.ops.mul(low, low.dtype.type(0)) if format_named(q.format).signed else low


def _keep(seen: Seen) -> Kept:
    return {"inside": within(seen), "phi": phi(seen)}


def _surrogate(u: np.ndarray, levels: tuple[float, ...], params: Mapping[str, Any]) -> np.ndarray:
    return np.clip(u, levels[0], levels[-1])


def _problems(params: Mapping[str, Any]) -> list[str]:
    found = [f"{name}: {params[name]!r} is not one of {', '.join(known)}"
             for name, known in (("count", COUNTS), ("init", INITS)) if params[name] not in known]  # fmt: skip
    return found + ([] if isinstance(params["scaled"], bool) else [f"scaled: {params['scaled']!r} is not true or false"])


DEFAULTS = {"count": "features", "scaled": True, "init": "lsq"}
LSQ = GradientRule(
    passes, _surrogate, _keep, learned={"step": step_part}, first={"step": first_step}, factor=gradient_scale,
    defaults=DEFAULTS, problems=_problems,
)  # fmt: skip
LSQ_PLUS = GradientRule(
    passes, _surrogate, _keep, learned={"step": step_part, "offset": offset_part},
    first={"step": first_step_with_offset, "offset": first_offset}, factor=gradient_scale, defaults=DEFAULTS, problems=_problems,
)  # fmt: skip
