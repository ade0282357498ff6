r"""Guided rounding of a weight: to whichever of **its** two neighbours on the grid is nearer to a companion tensor (Q-EMA).

With $\underline w \le w \le \overline w$ the neighbours of w under w's own scales, and c the companion (a moving average of the weight)::

    w^ = upper  where c is nearer to it than to lower, a tie away from zero;  lower elsewhere

so that a weight that swings around a threshold keeps the side on which its average lies. c may be anywhere: it only chooses. The neighbours are the
quantizer's own values under `toward_negative` and `toward_positive`; w^ is then quantized by it to nearest, which must leave it as it is. It does for
mx scales that do not clip (ceil, rceil, tetrajet): the largest element's neighbour below is at least half the format's largest value, so the
scale of w^ is that of w, or half of it, and doubled elements are on the grid too. V13 refuses other quantizers.

A weight on the grid stays. Zero block: zero. NaN and infinity: as the quantizer says.
Source: arXiv 2502.20853, sec. 5.1; thu-ml/TetraJet-MXFP4Training quantization/QuantizerFP_torch.py, `cast_to_fp_ExMy_with_EMA` (read: the lower
neighbour's mantissa, plus one where the average's is at least half a step above it).
Pitfalls: that code moves a weight that lies exactly on the grid to the next value where the average is half a step beyond; here it stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lpref.ref.quantize import Quantizer


def guided(w: Any, companion: Any, q: Quantizer, ops: Any) -> Any:
    """The values of w [N, K] under `q`, each the neighbour that `companion` chooses."""
    lower = ops.qdq(w, replace(q, rounding="toward_negative"), k_axis=1)
    upper = ops.qdq(w, replace(q, rounding="toward_positive"), k_axis=1)
    both, twice = ops.add(lower, upper), ops.add(companion, companion)
    zero = w.dtype.type(0)
    at_least, above = ops.greater_equal(twice, both), ops.greater(twice, both)
    return ops.where(ops.where(ops.greater_equal(lower, zero), at_least, above), upper, lower)


def cannot_guide(q: Any) -> str:
    """Why `q` cannot round by a companion; empty where it can."""
    if not isinstance(q, Quantizer):
        return "there is no quantizer to guide"
    if q.rounding not in ("nearest_even", "nearest_away", "nearest_toward_zero"):
        return f"rounding {q.rounding!r} does not keep values that are on its grid"
    if q.scale.rule != "mx" or q.scale.mode not in ("ceil", "rceil", "tetrajet") or q.scale.multiplier != 1.0:
        rule = f"{q.scale.rule!r} ({q.scale.mode})"
        return f"under the scale rule {rule} values on the grid may clip or be scaled anew; use mx with ceil, rceil or tetrajet"
    return ""
