"""What the forward pass keeps for the backward pass, and the operands that the backward pass makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lpref.ref.recipes.gemm import TENSORS
from lpref.ref.recipes.gradient import local_gradient
from lpref.ref.recipes.layer import K_AXIS, Layer, Made
from lpref.ref.recipes.recipe import LinearRecipe
from lpref.ref.recipes.sources import made_in_forward, maker, origin, saved_tensor


@dataclass(frozen=True)
class Kept:
    """What the forward pass saved: name in `save` -> tensor, operand or `LocalGradient`; and the learned parameters that it used."""

    entries: Mapping[str, Any]
    params: Mapping[str, Any]


def saved_by(layer: Layer, tensors: Mapping[str, Any], made: Mapping[str, Made]) -> dict[str, Any]:
    """Every entry of `save`; `made` are the forward slots."""
    found = {}
    for name, saved in layer.recipe.save.items():
        tensor = tensors[saved_tensor(name, saved)]
        if saved.what in ("hp", "reference"):
            found[name] = tensor
        elif saved.what == "mask":
            found[name] = local_gradient(layer, saved.of, tensor, made[saved.of].quantized)
        elif saved.quantizer is not None:
            words = layer.words(f"save.{name}", saved_tensor(name, saved), tensor, saved.quantizer)
            found[name] = layer.ops.operand(tensor, saved.quantizer, k_axis=1, words=words)
        else:
            path = maker(layer.recipe, name)
            found[name] = made[path].operand if path in made else layer.operand(path, tensor)
    return found


def entry(saved: Kept, recipe: LinearRecipe, wanted: Any) -> Any:
    """The first saved entry whose declaration `wanted` accepts; the validator has shown that there is one."""
    return next(saved.entries[name] for name, declared in recipe.save.items() if wanted(declared))


def tensor_of(saved: Kept, recipe: LinearRecipe, tensor: str) -> Any:
    """x or w in high precision."""
    names = [n for n, s in recipe.save.items() if s.what in ("hp", "reference") and saved_tensor(n, s) == tensor]
    return saved.entries[names[0]]


def backward_operand(layer: Layer, path: str, dy: Any, saved: Kept, made: Mapping[str, Any]) -> Any:
    """The operand of a backward slot from its declared source."""
    slot, tensor = layer.recipe.slot(path), TENSORS[path]
    if slot.source == "hp":
        if tensor != "dy" and made_in_forward(layer.recipe, path):
            return entry(saved, layer.recipe, lambda s: s.what == "codes" and s.quantizer is None and s.of == path)
        return layer.operand(path, dy if tensor == "dy" else tensor_of(saved, layer.recipe, tensor))
    of = origin(layer.recipe, path)
    codes = made[of] if of in made else saved.entries[of]
    if slot.source == "requant":
        return layer.operand(path, codes.dequantize(dy.dtype))
    return replace(codes, k_axis=K_AXIS[path])
