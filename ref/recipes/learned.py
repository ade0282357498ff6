"""The learned parameters of a layer: their names, their first values, and how they reach the quantizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lpref.ref.quantize import Quantizer
from lpref.ref.recipes.expression import NAMES, first_factors
from lpref.ref.recipes.gemm import TENSORS
from lpref.ref.recipes.gradient import learned_names, parameter_name
from lpref.ref.recipes.gradients import LEARNED, RULES
from lpref.ref.recipes.recipe import LinearRecipe
from lpref.ref.recipes.shared import SharedBlocks

PARAMETERS = tuple(f"{tensor}_{name}" for tensor in ("x", "w") for name in LEARNED)
"""What a quantizer of a layer may learn. Of several quantizers of one slot each has its own: ``x_step@int4``, label `int4`."""


def is_learned(key: str) -> bool:
    """Whether a layer's learned parameter may have this name.

    >>> is_learned("x_step@int4"), is_learned("w_a"), is_learned("weight")
    (True, True, False)
    """
    return key in NAMES or key.partition("@")[0] in PARAMETERS


def used_names(recipe: LinearRecipe) -> set[str]:
    """The learned parameters that a layer has under this recipe."""
    found = set(NAMES) if recipe.fprop.b.expression is not None else set()
    for path in ("fprop.a", "fprop.b"):
        q = recipe.slot(path).quantizer
        if isinstance(q, Quantizer):
            found |= {parameter_name(q, TENSORS[path], name) for name in learned_names(q)}
    return found


def slot_parameters(params: Mapping[str, Any], path: str, q: Any) -> dict[str, Any]:
    """The learned parameters of a forward slot, by what they are: step, offset, zero, alpha."""
    if not path.startswith("fprop") or not isinstance(q, Quantizer):
        return {}
    names = {name: parameter_name(q, TENSORS[path], name) for name in LEARNED}
    return {name: params[key] for name, key in names.items() if key in params}


def learned_state(params: Mapping[str, Any], path: str, q: Any, ops: Any) -> Mapping[str, Any] | None:
    """The quantizer's state from the learned parameters of its slot; None where it learns nothing, or nothing is there yet."""
    if not isinstance(q, Quantizer) or not q.scale.learned:
        return None
    found = slot_parameters(params, path, q)
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
            found.update({parameter_name(q, TENSORS[path], name): first[name](v, q, blocks) for name in learned_names(q)})
    if recipe.fprop.b.expression is not None:
        found.update(first_factors(layer, tensors["w"]))
    return found
