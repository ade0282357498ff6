"""How often each point of a format's grid is used by the weights, as the forward pass quantizes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer, quantize
from lpref.ref.random import WordAddress

MOST = 6  # tensors shown


def code_histogram(x: np.ndarray, q: Quantizer, k_axis: int, state: Any, words: WordAddress) -> dict[str, Any]:
    """{format, grid, share}: the format's finite values (−0 and 0 are one), and the share of the elements on each."""
    t = quantize(x, q, state=state, words=words, k_axis=k_axis)
    f = format_named(q.format)
    grid = np.unique(np.asarray(f.table()[0], np.float64) + 0.0)
    values = t.element_values().reshape(-1)
    place = np.searchsorted(grid, values[np.isfinite(values)])
    counts = np.bincount(place, minlength=grid.size)
    return {"format": q.format, "grid": grid.tolist(), "share": (counts / max(values.size, 1)).tolist()}


def weight_histograms(model: Any, states: Mapping[str, Any], seed: int, step: int) -> dict[str, dict[str, Any]]:
    """{site/fprop/b: histogram} of the first quantized weights, formats of at most 8 bits only."""
    out: dict[str, dict[str, Any]] = {}
    for site in model.linear_sites():
        linear = model.recipes[site.name]
        q = linear.fprop.b.quantizer if linear is not None else None
        if not isinstance(q, Quantizer) or format_named(q.format).bits > 8 or len(out) == MOST:
            continue
        place = f"{site.name}/fprop/b"
        state = states.get(place)
        if q.scale.rule == "learned":
            state = {
                "scale": next(
                    (
                        p.data
                        for name, p in model.params.items()
                        if name.startswith(f"{site.name}.") and name.endswith("w_step")
                    ),
                    1.0,
                )
            }
        weight = model.params[site.parameter].data.reshape(site.n, site.k)
        out[place] = code_histogram(weight, q, 1, state, WordAddress(seed, step, f"{place}/histogram"))
    return out
