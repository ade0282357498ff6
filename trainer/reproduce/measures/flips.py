"""How often quantized weights change at the end of a run: oscillation between neighbours on the grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.ref.recipes.guided import guided


def weight_flips(seed: int, train: str, recipe: Any, window: int = 30, backend: str = "cpu", **overrides: Any) -> float:
    """Changes of a quantized weight a step, the mean over the forward weights of all layers and the last `window` steps.

    train: a training spec, `overrides` its fields by dotted path. Weights that a companion tensor guides are counted as guided.
    """
    from lpref.trainer.loop import start_state
    from lpref.trainer.passes import step_of
    from lpref.trainer.setup import prepare
    from lpref.trainer.spec import load_spec

    spec = load_spec(train, {**overrides, "recipe": recipe, "train.seed": seed, "backend": backend})
    prepared = prepare(spec)
    state = start_state(prepared)
    before: dict[str, Any] = {}
    shares = []
    for step in range(spec.train.steps):
        state, _ = step_of(prepared, state, batches(prepared, step), False)
        if step + window >= spec.train.steps:
            now = forward_weights(prepared, state)
            shares += [np.mean(now[site] != before[site]) for site in before]
            before = now
    return float(np.mean(shares))


def batches(prepared: Any, step: int) -> list[Any]:
    """The whole batch of a step."""
    from lpref.trainer.data.batches import train_batch

    train = prepared.spec.train
    return [train_batch(prepared.data, prepared.length, train.batch, train.seed, step, 0, train.batch)]


def forward_weights(prepared: Any, state: Any) -> dict[str, Any]:
    """Site -> the values that the coming forward pass multiplies, of the sites that quantize their weight."""
    model, ops = prepared.model, prepared.backend
    companions = prepared.rules.controllers.companions(state.controllers, prepared.clock(state))
    found = {}
    for site in model.sites.values():
        slot = model.recipes[site.name].fprop.b
        if slot.quantizer is not None:
            w, companion = model.params[site.parameter].data, companions.get(site.name)
            led = slot.guided and companion is not None
            found[site.name] = guided(w, companion, slot.quantizer, ops) if led else ops.qdq(w, slot.quantizer, k_axis=1)
    return found
