"""The candidates of a recipe's gate: their linear recipes, their price, and what is wrong with them (V15)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lpref.ref.errors import LprefError
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer, init_state
from lpref.ref.recipes.change import changed
from lpref.ref.recipes.gate import Gate
from lpref.ref.recipes.gemm import GEMMS
from lpref.ref.recipes.learned import used_names
from lpref.ref.recipes.recipe import LinearRecipe

FULL = 32
"""Bits of what is not quantized."""


def candidates_of(gate: Gate, linear: LinearRecipe) -> list[LinearRecipe]:
    """The K linear recipes. Raises SpecError for a path that leads nowhere."""
    return [linear, *(changed(linear, paths) for paths in gate.others)]


def candidate_layers(gate: Gate, recipe: Any, layers: Mapping[str, LinearRecipe]) -> list[Mapping[str, LinearRecipe]]:
    """Of each candidate: layer -> linear recipe. Layers that are not under the recipe's `linear` stay as they are."""
    made = candidates_of(gate, recipe.linear)[1:]
    return [layers, *({name: one if linear == recipe.linear else linear for name, linear in layers.items()} for one in made)]


def bits(linear: LinearRecipe) -> tuple[int, int, int]:
    """Bits of X, W and dY: those of the formats of fprop.a, fprop.b and dgrad.a."""
    a, w, g = (linear.slot(path).quantizer for path in ("fprop.a", "fprop.b", "dgrad.a"))
    return tuple(FULL if q is None else format_named(q.format).bits for q in (a, w, g))  # type: ignore[return-value]


def prices(linear: LinearRecipe) -> tuple[float, float, float]:
    """Of the forward product, the error and the weight gradient, each over that of float32: a w, g w and a g over 32^2.

    >>> prices(LinearRecipe())
    (1.0, 1.0, 1.0)
    """
    a, w, g = bits(linear)
    return a * w / FULL**2, g * w / FULL**2, a * g / FULL**2


def gate_problems(recipe: Any) -> Iterator[str]:
    """V15: a gate has sizes, its candidates are sound and keep nothing from step to step, and the labels' loss reaches it."""
    from lpref.ref.recipes.validate import linear_problems

    gate = recipe.gate
    if gate is None:
        if any(hook.kind == "bit_cost" for hook in recipe.loss_hooks):
            yield "loss_hooks: bit_cost is the price of what a gate picks; the recipe has no gate"
        return
    yield from (f"gate.{name}: {n} is not positive" for name in ("features", "embedding", "hidden") if (n := getattr(gate, name)) < 1)
    if any(hook.kind == "block_output" for hook in recipe.loss_hooks):
        yield "loss_hooks: block_output trains single blocks; a gate's state runs through all of them"
    for index in range(gate.candidates):
        where = f"gate.others.{index - 1}" if index else "gate: linear"
        try:
            linear = changed(recipe.linear, gate.others[index - 1]) if index else recipe.linear
        except LprefError as error:
            yield f"{where}: {error}"
            continue
        yield from (f"{where}: {problem}" for problem in (linear_problems(linear) if index else ()))
        if keeps(linear):
            yield f"{where}: a scale with a memory, or a learned one; a gate's candidates have neither"


def keeps(linear: LinearRecipe) -> bool:
    """Whether something of the layer lasts from step to step beside its weight."""
    slots = [slot for gemm in GEMMS for slot in (linear.gemm(gemm).a, linear.gemm(gemm).b)]
    states = any(isinstance(q, Quantizer) and init_state(q) for slot in slots for q in slot.quantizers().values())
    return states or bool(used_names(linear)) or any(slot.split is not None and slot.split.band for slot in slots)
