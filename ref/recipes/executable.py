"""What `linear_forward` and `linear_backward` can run, said once: the mechanisms of a recipe that this version lacks."""

from __future__ import annotations

from collections.abc import Iterator

from lpref.ref.recipes.controllers import KINDS
from lpref.ref.recipes.gemm import GEMMS, GemmSpec, PlannedQuantizer, Slot
from lpref.ref.recipes.recipe import LinearRecipe, Recipe

OUTPUTS = ("float32", "bfloat16", "binary16")


def missing_mechanisms(recipe: Recipe) -> list[str]:
    """The mechanisms that keep this version from running a recipe, in words; empty when it can."""
    linears = [recipe.linear, *recipe.variants.values()]
    found = [text for linear in linears for text in missing_in_linear(linear)]
    found += [f"the controller {one.kind}" for one in recipe.controllers if one.kind not in KINDS]
    around = [q for op in recipe.operations.values() for q in (op.input, op.output, op.saved, op.gradient)]
    found += [q.missing for q in around if isinstance(q, PlannedQuantizer)]
    return list(dict.fromkeys(found))


def missing_in_linear(linear: LinearRecipe) -> list[str]:
    """The same for one linear recipe."""
    return list(dict.fromkeys(_linear(linear)))


def _linear(linear: LinearRecipe) -> Iterator[str]:
    for name in GEMMS:
        spec = linear.gemm(name)
        yield from _gemm(spec)
        for slot in (spec.a, spec.b):
            yield from _slot(slot)
    for saved in linear.save.values():
        if isinstance(saved.quantizer, PlannedQuantizer):
            yield saved.quantizer.missing


def _gemm(spec: GemmSpec) -> Iterator[str]:
    if spec.output not in OUTPUTS:
        yield f"output in {spec.output}"


def _slot(slot: Slot) -> Iterator[str]:
    for q in slot.quantizers().values():
        if isinstance(q, PlannedQuantizer):
            yield q.missing
