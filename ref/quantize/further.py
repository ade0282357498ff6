"""What the rules with a memory observe beyond amax and counts: their ends, elements that would overflow at half the scale, searched scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.formats import format as format_named
from lpref.ref.quantize.elements import beyond
from lpref.ref.quantize.quantizer import Quantizer
from lpref.ref.scaling import clip, minmax
from lpref.ref.scaling.statistics import block_extremes

REMEMBER = ("affine", "clip", "minmax", "overflow_rate")
"""Rules that may observe more."""


def further(x: NDArray[np.float32], scales: NDArray[np.float32], q: Quantizer, axis: int, state: Mapping[str, Any] | None) -> dict[str, Any]:
    """The further observations of x [R, C] under the decode scales of its grid."""
    rule = q.scale.rule
    if rule == "overflow_rate":
        return {"half": beyond(x / (scales[0, 0] / np.float32(2)), x, q, format_named(q.format)) if x.size else 0}
    if rule == "clip" and q.scale.history == "hindsight" and clip.searches(q.scale, state):
        target = q.scale.target if q.scale.target is not None else format_named(q.format).max
        return {"clip": scales, "deviation": clip.deviation(x, q.blocks.on(x.shape, axis), scales, target)}
    if rule in ("affine", "minmax") and q.scale.history == "hindsight":
        whole = (max(x.shape[0], 1), max(x.shape[1], 1))
        low, high = block_extremes(x, whole) if rule == "affine" else minmax.spanned(x, whole, q.scale.span)
        return {"low": low[0, 0], "high": high[0, 0]} if x.size else {}
    return {}
