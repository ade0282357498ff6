r"""The derivative of a tanh that stands before the rounding, which itself passes gradients straight through.

    dv = g (1 - tanh(slope v)^2) c      c = 1 / max|tanh(slope v)| over the tensor with ``params.normalize: true`` (DoReFa's weights:
                                            v^ = 2 Q(tanh v / (2 max|tanh v|) + 1/2) - 1), else slope

float32, in this order: t = tanh(slope * v); d = 1 - t * t; the product with c. The maximum is a constant: no gradient goes through it.
``params``: normalize (true), slope (1). A tensor of zeros has c = 1.

Source: DoReFa, arXiv 1606.06160, eq. 9; tensorpack/tensorpack examples/DoReFa-Net/dorefa.py.
Source level: secondary.
Deviation: TensorFlow differentiates the maximum too, which reaches the one element that attains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.ref import elementary
from lpref.ref.recipes.gradients.rule import GradientRule, Kept, Seen, multiplied


def _slope(seen: Seen) -> Kept:
    ops, number, slope = seen.ops, seen.number, seen.params["slope"]
    t = ops.tanh(seen.v if slope == 1 else ops.mul(seen.v, number(slope)))
    d = ops.sub(number(1), ops.mul(t, t))
    if not seen.params["normalize"]:
        return {"slope": d if slope == 1 else ops.mul(d, number(slope))}
    top = ops.amax(t)
    return {"slope": ops.div(d, ops.where(ops.greater(top, number(0)), top, number(1)))}


def _surrogate(u: np.ndarray, levels: tuple[float, ...], params: Mapping[str, Any]) -> np.ndarray:
    t = elementary.tanh(params["slope"] * u)
    return t / max(np.abs(t).max(), np.finfo(np.float64).tiny) if params["normalize"] else t


def _problems(params: Mapping[str, Any]) -> list[str]:
    return [] if params["slope"] > 0 else [f"slope: {params['slope']!r} is not a positive number"]


TANH = GradientRule(multiplied, _surrogate, _slope, defaults={"normalize": True, "slope": 1.0}, problems=_problems)
