"""What the forward pass keeps for the backward pass, and the operands that the backward pass makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lpref.ref.recipes.gemm import TENSORS
from lpref.ref.recipes.gradient import local_gradient
from lpref.ref.recipes.layer import K_AXIS, Layer, Made
from lpref.ref.recipes.parts import tensor_of_operand
from lpref.ref.recipes.products import transposed
from lpref.ref.recipes.projection import expanded, projected
from lpref.ref.recipes.recipe import LinearRecipe
from lpref.ref.recipes.sixteen import rounds_input
from lpref.ref.recipes.sources import made_in_forward, maker, only_turned, origin, saved_tensor


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
        elif saved.what == "projection":
            found[name] = projected(layer, name, saved, tensor)
        elif saved.quantizer is not None:
            layer.ctx.saves(f"save.{name}", tensor.size)
            words = layer.words(f"save.{name}", saved_tensor(name, saved), tensor, saved.quantizer)
            found[name] = layer.ops.operand(tensor, saved.quantizer, k_axis=1, words=words)
        else:
            path = maker(layer.recipe, name)
            codes = made[path].operand if path in made else layer.operand(path, tensor)
            found[name] = transposed(codes, 1 - K_AXIS[path]) if only_turned(layer.recipe, name) else codes
    return found


@lru_cache(maxsize=256)
def from_input(recipe: LinearRecipe) -> bool:
    """Whether all that is saved of x are the codes of the forward slot, which come from x rounded to bfloat16 and from nothing else."""
    about = [s for name, s in recipe.save.items() if saved_tensor(name, s) == "x"]
    return rounds_input(recipe) and all(s.what == "codes" and s.quantizer is None and s.of == "fprop.a" for s in about)


def without_input(saved: Kept, recipe: LinearRecipe) -> Kept:
    """What was saved but for x; `with_input` brings it back."""
    return Kept({name: kept for name, kept in saved.entries.items() if saved_tensor(name, recipe.save[name]) != "x"}, saved.params)


def with_input(saved: Kept, recipe: LinearRecipe, x: Any, ops: Any) -> Kept:
    """What was saved `without_input`, and x [M, K] again, of a layer whose slots take it `from_input`."""
    codes = {name: ops.operand(x, recipe.fprop.a.quantizer, k_axis=1) for name in recipe.save if name not in saved.entries}
    return Kept({**saved.entries, **codes}, saved.params)


def entry(saved: Kept, recipe: LinearRecipe, wanted: Any) -> Any:
    """The first saved entry whose declaration `wanted` accepts; the validator has shown that there is one."""
    return next(saved.entries[name] for name, declared in recipe.save.items() if wanted(declared))


def tensor_of(layer: Layer, saved: Kept, tensor: str, dtype: Any) -> Any:
    """x or w in high precision, or what a projection has left of it."""
    save = layer.recipe.save
    name = next(n for n, s in save.items() if s.what in ("hp", "reference", "projection") and saved_tensor(n, s) == tensor)
    kept = saved.entries[name]
    return expanded(layer, name, save[name], kept, dtype) if save[name].what == "projection" else kept


def at_hand(saved: Kept, recipe: LinearRecipe, path: str) -> Any:
    """What was saved of the operand of a backward slot of x or w: it, or the same codes under another axis; None where it is yet to be made."""
    if recipe.slot(path).source in ("reuse", "reuse_transposed"):
        return saved.entries.get(origin(recipe, path))
    names = [n for n, s in recipe.save.items() if s.what == "codes" and s.quantizer is None and s.of == path]
    return next((saved.entries[n] for n in names if n in saved.entries), None)


def backward_operand(layer: Layer, path: str, dy: Any, saved: Kept, made: Mapping[str, Any]) -> Any:
    """The operand of a backward slot from its declared source."""
    slot, tensor = layer.recipe.slot(path), TENSORS[path]
    if slot.source == "hp":
        if tensor != "dy" and made_in_forward(layer.recipe, path):
            return entry(saved, layer.recipe, lambda s: s.what == "codes" and s.quantizer is None and s.of == path)
        return layer.operand(path, dy if tensor == "dy" else tensor_of(layer, saved, tensor, dy.dtype))
    of = origin(layer.recipe, path)
    codes = made[of] if of in made else saved.entries[of]
    if slot.source == "requant":
        return layer.operand(path, tensor_of_operand(codes, dy.dtype, layer.ops))
    return transposed(codes, K_AXIS[path])
