"""Quantizer states of a layer before its first step, and observations merged over the micro-batches of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lpref.ref.quantize import Quantizer, init_state, merge
from lpref.ref.recipes.gemm import TENSORS
from lpref.ref.recipes.recipe import LinearRecipe

MEANS = ("mse", "sqnr_db", "bits_per_element")
LARGEST = ("max_abs_err",)


def first_states(linear: LinearRecipe, site: str) -> dict[str, dict[str, Any]]:
    """``site/gemm/slot`` -> `init_state` of the quantizer there, for delayed scaling."""
    quantizers = {path: linear.slot(path).quantizer for path in TENSORS}
    delayed = {p: q for p, q in quantizers.items() if isinstance(q, Quantizer) and q.scale.history != "current"}
    return {f"{site}/{path.replace('.', '/')}": init_state(q) for path, q in delayed.items()}


def observe(collector: dict[str, Mapping[str, Any]], key: str, seen: Mapping[str, Any]) -> None:
    """Merge `seen` into ``collector[key]``: the largest amax (NaN wins), sums of counts; of error statistics, where both have them, the
    largest error and the mean weighted by the elements, and shares of the merged counts."""
    before = collector.get(key)
    if before is None:
        collector[key] = seen  # as it is: a device's observations wait for the device when they are read
        return
    merged = merge([before, seen])
    for name in MEANS:
        if name in before and name in seen:
            n, m = before["count"], seen["count"]
            merged[name] = (before[name] * n + seen[name] * m) / max(n + m, 1)
    for name in LARGEST:
        if name in before and name in seen:
            merged[name] = max(before[name], seen[name])
    for share, count in (("overflow_share", "overflowed"), ("underflow_share", "underflowed")):
        if share in before and share in seen:
            merged[share] = merged[count] / max(merged["count"], 1)
    collector[key] = merged
