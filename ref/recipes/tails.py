"""Which blocks of a recipe do not divide the layers of a model, under ``tail: error``: found when the recipe is bound, not in the first step.

A slot that quantizes in blocks of b along an axis needs a multiple of b there. The axes of the weight, K and N, are the model's; M, the tokens of
a batch, is known when the first batch is quantized, which raises ShapeError then.
"""

from __future__ import annotations

from collections.abc import Mapping

from lpref.ref.quantize import Quantizer
from lpref.ref.recipes.basis import AXES
from lpref.ref.recipes.recipe import LinearRecipe, Recipe


def tail_problems(recipe: Recipe, layers: Mapping[str, LinearRecipe], sizes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """One problem for every slot and length. `layers` is what `recipe.bind` gave, `sizes` says K and N of each."""
    found: dict[tuple[str, str, int], str] = {}
    for name, linear in layers.items():
        place = _place(recipe, linear)
        for path in AXES:
            for axis, size, block in _broken(linear, path, sizes.get(name, {})):
                text = f"{place}.{path}.quantizer.tail: 'error', but {axis} of the layer {name} is {size}, no multiple of the block of {block}"
                found.setdefault((f"{place}.{path}", axis, size), f"{text}; use tail: pad_zero or partial, or exempt the layer by a rule")
    return list(found.values())


def _place(recipe: Recipe, linear: LinearRecipe) -> str:
    return next((f"variants.{name}" for name, variant in recipe.variants.items() if variant is linear), "linear")


def _broken(linear: LinearRecipe, path: str, sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """(axis, its length, the block that does not divide it) of a slot that quantizes whole operands."""
    slot, q = linear.slot(path), linear.slot(path).quantizer
    plain = slot.source in ("hp", "requant") and slot.split is None and slot.mixing is None
    if not plain or not isinstance(q, Quantizer) or q.tail != "error" or q.scale.rule == "none":
        return []
    pairs = zip(AXES[path], (q.blocks.k, q.blocks.other), strict=True)
    return [(axis, sizes[axis], block) for axis, block in pairs if block and axis in sizes and sizes[axis] % block]
