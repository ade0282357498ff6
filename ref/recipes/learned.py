"""The learned parameters of a layer: their names, their first values, and how they reach the quantizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lpref.ref.quantize import Quantizer
from lpref.ref.recipes.gemm import TENSORS
from lpref.ref.recipes.gradient import learned_names
from lpref.ref.recipes.gradients import LEARNED, RULES
from lpref.ref.recipes.recipe import LinearRecipe
from lpref.ref.recipes.shared import SharedBlocks

PARAMETERS = tuple(f"{tensor}_{name}" for tensor in ("x", "w") for name in LEARNED)
"""Every name that a layer's learned parameters may have."""


def slot_parameters(params: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The learned parameters of a forward slot, by what they are: step, offset, zero, alpha."""
    tensor = TENSORS[path]
    return {name: params[f"{tensor}_{name}"] for name in LEARNED if path.startswith("fprop") and f"{tensor}_{name}" in params}


def learned_state(params: Mapping[str, Any], path: str, q: Any, ops: Any) -> Mapping[str, Any] | None:
    """The quantizer's state from the learned parameters of its slot; None where it learns nothing, or nothing is there yet."""
    if not isinstance(q, Quantizer) or q.scale.rule != "learned":
        return None
    found = slot_parameters(params, path)
    return RULES[q.gradient.kind].state(found, q, ops) if found else None


def first_parameters(layer: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Learned parameters of a layer by name, from its first input and weight, each in the basis of its slot."""
    found = {}
    recipe: LinearRecipe = layer.recipe
    for path in ("fprop.a", "fprop.b"):
        q = recipe.slot(path).quantizer
        if isinstance(q, Quantizer) and learned_names(q):
            v = layer.plain(path, tensors[TENSORS[path]])
            blocks = SharedBlocks.of(q, v.shape, layer.ops)
            first = RULES[q.gradient.kind].first
            found.update({f"{TENSORS[path]}_{name}": first[name](v, q, blocks) for name in learned_names(q)})
    return found
