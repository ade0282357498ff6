"""A training step of a recipe with one pass, or with several.

    one        the recipe in force; forward, backward, update
    each       for every pass in order: its recipe, forward, backward, update; the next pass sees the new weights
    summed     for every pass its gradients, at the weights before the step or displaced from them; they are added in order, then one update.
               A controller may withhold a pass's gradient from parameters

All passes of a step see the same batch, the quantizer and controller states before it, and random words of their own (the pass number is part of
the stream). The learning rate is that of the step for each of its updates. The reported loss is the mean over the passes; a step is
reported as skipped when one of its updates was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lpref.ref.recipes.phases import Displaced
from lpref.trainer.data.batches import Batch
from lpref.trainer.probing import probed
from lpref.trainer.step import StepResult, TrainState, applied, gradients, train_step


def step_of(prepared: Any, state: TrainState, batches: Sequence[Batch], collect: bool) -> tuple[TrainState, StepResult]:
    """(state after, what to report) of one step of a prepared run."""
    state = probed(prepared, state, batches) if prepared.rules.controllers.kinds else state
    passes = prepared.recipe.passes
    if not passes:
        rules = prepared.bind(state)
        return train_step(
            prepared.model,
            state,
            batches,
            rules,
            prepared.context_of(state, collect=collect),
            prepared.clock(state),
        )
    return (_each if passes[0].update == "each" else _summed)(prepared, state, batches, collect)


def _each(p: Any, state: TrainState, batches: Sequence[Batch], collect: bool) -> tuple[TrainState, StepResult]:
    here, results, count = state, [], len(p.recipe.passes)
    lr = p.rules.schedule(state.update // count)
    for i in range(count):
        rules = p.bind(here, pass_=i)
        context, clock = p.context_of(here, collect=collect, pass_=i), p.clock(here, i)
        after, result = train_step(p.model, here, batches, rules, context, clock, lr)
        here = replace(after, step=state.step)
        results.append(result)
    return replace(here, step=state.step + 1), _reported(results)


def _summed(p: Any, state: TrainState, batches: Sequence[Batch], collect: bool) -> tuple[TrainState, StepResult]:
    total: dict[str, Any] = {}
    by_pass: dict[str, Mapping[str, Any]] = {}
    weights = p.model.arrays()
    losses: list[float] = []
    observed: dict[str, list[Any]] = {}
    for i in range(len(p.recipe.passes)):
        rules, one = p.bind(state, pass_=i), p.recipe.passes[i]
        if one.displaced is not None:
            p.model.set_arrays(displaced(p, weights, by_pass[one.displaced.of], one.displaced, state.loss_scale.scale))
        loss, grads, seen = gradients(
            p.model, batches, p.context_of(state, collect=collect, pass_=i), state.loss_scale.scale
        )
        if one.displaced is not None:
            p.model.set_arrays(weights)
        by_pass[one.name] = grads
        withheld = rules.controllers.withheld(state.controllers, one.name)
        own = {name: p.backend.sub(g, g) if name in withheld else g for name, g in grads.items()}
        total = {name: p.backend.add(total[name], g) for name, g in own.items()} if total else own
        losses.append(loss)
        observed = _joined(observed, seen)
    return applied(p.model, state, rules, p.clock(state), sum(losses) / len(losses), total, observed, by_pass=by_pass)


def displaced(
    p: Any, weights: Mapping[str, Any], grads: Mapping[str, Any], how: Displaced, scale: float
) -> dict[str, Any]:
    """The weights at which a pass is run: `lpref.ref.recipes.phases.Displaced`, of gradients of `scale` times the loss."""
    ops, moving = p.backend, [name for name, role in p.model.roles.items() if role not in ("quantizer_step", "adapter")]
    norm = float(ops.arrays.host(ops.global_norm([grads[name] for name in moving]))[()])
    if not 0 < norm < math.inf:
        return dict(weights)
    factor = how.rho / norm - how.alpha / scale
    moved = {name: ops.add(weights[name], ops.mul(grads[name], weights[name].dtype.type(factor))) for name in moving}
    return {name: moved.get(name, a) for name, a in weights.items()}


def _joined(one: Mapping[str, Sequence[Any]], other: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    return {
        place: [*one.get(place, ()), *other.get(place, ())] for place in (*one, *(p for p in other if p not in one))
    }


def _reported(results: Sequence[StepResult]) -> StepResult:
    """The passes' results as that of the step."""
    observed: dict[str, list[Any]] = {}
    for one in results:
        observed = _joined(observed, one.observed)
    loss = sum(one.loss for one in results) / len(results)
    return StepResult(loss, results[-1].lr, results[-1].grad_norm, any(one.skipped for one in results), observed)
