"""Arrays of fewer bits than float32 at the door of a linear layer.

A backend may keep what a recipe rounds to bfloat16 in 16 bits (`lpref.ref.backend.Arrays.wide`): such an array stands for its float32 values. A layer
whose slots hand x and dY to `operand` and do nothing else with them takes it as it is; the others, which compute with them in their dtype (splits,
mixing, learned and faded quantizers, gradient rules, projections, values that are quantized again), get float32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from lpref.ref.quantize import Quantizer
from lpref.ref.recipes.gemm import GEMMS, Slot
from lpref.ref.recipes.recipe import LinearRecipe
from lpref.ref.recipes.sources import maker, origin


def entered(recipe: LinearRecipe, x: Any, ops: Any) -> Any:
    """x as the layer's arithmetic takes it: float32, or what `operand` reads by itself."""
    return x if x.dtype.kind == "f" or only_operands(recipe) else ops.arrays.wide(x)


@lru_cache(maxsize=256)
def only_operands(recipe: LinearRecipe) -> bool:
    """Whether x and dY go to `operand` and nowhere else."""
    saved = all(s.what in ("hp", "reference", "codes") for s in recipe.save.values())
    return saved and all(_plain(slot) for name in GEMMS for slot in (recipe.gemm(name).a, recipe.gemm(name).b))


@lru_cache(maxsize=256)
def rounds_input(recipe: LinearRecipe) -> bool:
    """Whether all that the layer reads of x is x rounded to nearest even in bfloat16."""
    return only_operands(recipe) and _casts(recipe, "fprop.a") and _casts(recipe, "wgrad.b")


@lru_cache(maxsize=256)
def rounds_gradient(recipe: LinearRecipe) -> bool:
    """Whether all that the layer reads of dY is dY rounded to nearest even in bfloat16."""
    return only_operands(recipe) and _casts(recipe, "dgrad.a") and _casts(recipe, "wgrad.a")


@lru_cache(maxsize=256)
def codes_input(recipe: LinearRecipe) -> bool:
    """Whether all that the layer reads of x is one set of codes under one scale of the whole tensor."""
    return all(s.what == "codes" for s in recipe.save.values()) and _codes(recipe, "fprop.a", "wgrad.b")


@lru_cache(maxsize=256)
def codes_gradient(recipe: LinearRecipe) -> bool:
    """The same of dY."""
    return _codes(recipe, "dgrad.a", "wgrad.a")


def _codes(recipe: LinearRecipe, path: str, again: str) -> bool:
    """Whether the slot `again` takes the codes of the slot `path`, which are made of the tensor as it is, by its amax or those of steps before."""
    slot, q = recipe.slot(path), recipe.slot(path).quantizer
    if not (only_operands(recipe) and isinstance(q, Quantizer) and slot.source == "hp") or slot.transforms:
        return False
    scaled = (q.scale.rule, q.scale.history) in (("te", "delayed"), ("te", "current"), ("amax", "current"))
    one = scaled and q.blocks.other is None and q.blocks.k is None
    taken = recipe.slot(again).source == "reuse_transposed" and maker(recipe, origin(recipe, again)) == path
    return one and taken and recipe.gemm(path.partition(".")[0]).transform is None and recipe.wgrad.transform is None


def _casts(recipe: LinearRecipe, path: str) -> bool:
    """Whether the slot casts its tensor to bfloat16, or takes the codes of one that does."""
    slot, gemm = recipe.slot(path), recipe.gemm(path.partition(".")[0])
    if gemm.transform is not None or slot.transforms:
        return False
    if slot.source in ("reuse", "reuse_transposed"):
        made = maker(recipe, origin(recipe, path))
        return bool(made) and made != path and _casts(recipe, made)
    q = slot.quantizer
    return (
        slot.source == "hp" and isinstance(q, Quantizer) and q.format == "bfloat16" and q.scale.rule == "none"
        and q.rounding == "nearest_even" and q.overflow == "to_infinity"
    )  # fmt: skip


def _plain(slot: Slot) -> bool:
    q = slot.quantizer
    kept = slot.split is None and slot.mixing is None and slot.expression is None and slot.source != "requant" and slot.fade == 1.0
    return kept and (q is None or (isinstance(q, Quantizer) and not q.scale.learned and q.gradient.kind == "ste"))
