"""The quantizers of a model under a recipe: their states between steps, and what they report.

A place is ``site/gemm/slot`` (``h.0.mlp.up/dgrad/a``). Its tensor is one of three classes, by which figures are summed up: `x` the layer's
input, `w` its weight, `dy` the gradient of its output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lpref.ref.quantize import Quantizer, init_state, update_state
from lpref.ref.recipes import EXEMPT, Split
from lpref.ref.recipes.fallback import first_threshold, next_threshold

Observed = Mapping[str, Sequence[Mapping[str, Any]]]
TENSOR = {
    ("fprop", "a"): "x",
    ("fprop", "b"): "w",
    ("dgrad", "a"): "dy",
    ("dgrad", "b"): "w",
    ("wgrad", "a"): "dy",
    ("wgrad", "b"): "x",
}


@dataclass(frozen=True)
class QuantizerStates:
    """`places` maps ``site/gemm/slot`` to its quantizer, in the order of the model's layers; `thresholds` ``site/gemm/slot/threshold`` to a
    fallback split whose threshold moves."""

    places: Mapping[str, Quantizer]
    thresholds: Mapping[str, Split] = field(default_factory=dict)

    def start(self) -> dict[str, dict[str, Any]]:
        """The states before the first step; quantizers without state are left out."""
        moving = {place: first_threshold(split) for place, split in self.thresholds.items()}
        return {place: state for place, q in self.places.items() if (state := init_state(q))} | moving

    def update(self, states: Mapping[str, Any], observed: Observed) -> dict[str, Any]:
        """The states after a step that saw `observed` (one entry a micro-batch at each place)."""
        after = {}
        for place, state in states.items():
            seen = observed.get(place, ())
            split = self.thresholds.get(place)
            after[place] = update_state(self.places[place], state, seen) if split is None else next_threshold(split, state, seen)
        return after

    def shares(self, observed: Observed) -> dict[str, dict[str, float]]:
        """{class: {overflowed, underflowed}}, shares of all elements that were quantized in this step."""
        sums: dict[str, list[int]] = {}
        for place, seen in observed.items():
            _, gemm, slot = place.rsplit("/", 2)
            total = sums.setdefault(TENSOR.get((gemm, slot), slot), [0, 0, 0])
            for one in seen:
                for i, key in enumerate(("count", "overflowed", "underflowed")):
                    total[i] += int(one.get(key, 0))
        return {name: {"overflowed": o / n, "underflowed": u / n} for name, (n, o, u) in sorted(sums.items()) if n}

    def layers(self, observed: Observed) -> dict[str, dict[str, float]]:
        """{place: {sqnr_db, overflowed, underflowed}}; the error is that of the first micro-batch."""
        out = {}
        for place, seen in observed.items():
            count = sum(int(one.get("count", 0)) for one in seen)
            if not count:
                continue
            figures = {key: sum(int(one.get(key, 0)) for one in seen) / count for key in ("overflowed", "underflowed")}
            sqnr = seen[0].get("sqnr_db")
            if sqnr is not None and math.isfinite(sqnr):
                figures = {"sqnr_db": round(float(sqnr), 3), **figures}
            out[place] = figures
        return out


def kept_weights(recipe: Any, model: Any) -> dict[str, Any]:
    """Parameter name -> how the recipe keeps it between steps; empty where weights are plain float32.

    `model` has the recipe bound. A weight that several sites share is kept where one of them is quantized.
    """
    if recipe.weights.plain:
        return {}
    if recipe.weights.of == "all":
        return {name: recipe.weights for name, role in model.roles.items() if role != "quantizer_step"}
    return {site.parameter: recipe.weights for name, site in model.sites.items() if model.recipes[name] != EXEMPT}


def places_of(recipes: Mapping[str, Any] | None) -> dict[str, Quantizer]:
    """Every quantized slot of every linear layer; `recipes` is a model's {site: LinearRecipe}, None for none."""
    out = {}
    for site, linear in (recipes or {}).items():
        for gemm, slot in TENSOR:
            quantizer = getattr(getattr(linear, gemm), slot).quantizer
            if isinstance(quantizer, Quantizer):
                out[f"{site}/{gemm}/{slot}"] = quantizer
    return out


def states_of(recipes: Mapping[str, Any] | None) -> QuantizerStates:
    """The quantizers of a model, and every split of a linear layer whose threshold moves."""
    out = {}
    for site, linear in (recipes or {}).items():
        for gemm, slot in TENSOR:
            split = getattr(getattr(linear, gemm), slot).split
            if split is not None and split.band:
                out[f"{site}/{gemm}/{slot}/threshold"] = split
    return QuantizerStates(places_of(recipes), out)
