"""One optimizer step as a function of its inputs: forward, backward, unscale, check, clip, update, quantizer state.

Order (methods of the sources agree on it): backward of S·loss/m for each of m micro-batches, gradients added in their order → divide by S →
finite check → global-norm clip → optimizer → new loss scale, new quantizer states. Everything read within the step is as it was before
the step; observations are applied once, after it, and only if the update was (numerics N10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lpref.ref.errors import NonFiniteError
from lpref.ref.optim import LossScale, LossScaleState, OptimContext, Schedule, guarded_step, update_loss_scale
from lpref.ref.optim.loss_scale import unscale
from lpref.ref.recipes.controllers import Clock, Seen
from lpref.ref.recipes.groups import Grouped
from lpref.trainer.controllers import Controllers
from lpref.trainer.data.batches import Batch
from lpref.trainer.quantizers import QuantizerStates

NO_CONTROLLERS = Controllers()


@dataclass(frozen=True)
class TrainState:
    """What changes from step to step besides the weights."""

    step: int  # global batches consumed
    update: int  # updates applied
    optimizer: Any
    quantizers: Mapping[str, Any]
    loss_scale: LossScaleState
    controllers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepResult:
    """What a step reports. `observed` maps ``site/gemm/slot`` to what its quantizer saw, one entry a micro-batch."""

    loss: float
    lr: float
    grad_norm: float
    skipped: bool
    observed: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """The fixed parts of a run that a step needs."""

    optimizer: Any
    schedule: Schedule
    loss_scale: LossScale
    quantizers: QuantizerStates
    clip: float | None
    seed: int
    backend: Any
    steps: int | None = None
    controllers: Controllers = NO_CONTROLLERS


def gradients(
    model: Any, batches: Sequence[Batch], context: Any, scale: float
) -> tuple[float, dict[str, Any], dict[str, list[Mapping[str, Any]]]]:
    """(mean loss, gradients of `scale`·loss, observations) over equal micro-batches, added in their order.

    `context(micro)` gives the Context of one micro-batch. A parameter that the loss does not reach gets zeros.
    """
    losses, observed = both_passes(model, batches, context, seed_of(scale, len(batches)))
    return mean_loss([float(loss.item()) for loss in losses]), model.grads(), observed


def both_passes(
    model: Any, batches: Sequence[Batch], context: Any, seed: np.ndarray
) -> tuple[list[Any], dict[str, list[Mapping[str, Any]]]]:
    """Forward and backward of each micro-batch from the gradient `seed` of its loss: (losses, observations); the gradients are the model's."""
    losses, observed = [], {}  # type: ignore[var-annotated]
    for tensor in model.params.values():
        tensor.grad = None
    for micro, batch in enumerate(batches):
        ctx = context(micro)
        loss = model.training_loss(batch, ctx)
        loss.backward(model.array(np.asarray(seed, loss.dtype).reshape(loss.shape)))
        losses.append(loss.detach())
        for place, seen in ctx.observed.items():
            observed.setdefault(place, []).append(seen)
    return losses, observed


def seed_of(scale: float, micro: int) -> np.ndarray:
    """The gradient of each micro-batch's loss in `scale` times the mean of them."""
    return np.asarray(np.float32(scale) / np.float32(micro))


def mean_loss(losses: Sequence[float]) -> float:
    """The mean over equal micro-batches, rounded to float32."""
    return losses[0] if len(losses) == 1 else float(np.float32(sum(losses) / len(losses)))


def train_step(
    model: Any,
    state: TrainState,
    batches: Sequence[Batch],
    rules: Rules,
    context: Any,
    clock: Clock | None = None,
    lr: float | None = None,
) -> tuple[TrainState, StepResult]:
    """(state after, what to report). The weights of `model` are replaced unless the step is skipped.

    A step is skipped when the loss or a gradient is not finite: weights, optimizer, update count, quantizer and controller states stay,
    the loss scale goes down. The caller decides whether that ends the run.
    """
    loss, grads, observed = gradients(model, batches, context, state.loss_scale.scale)
    return applied(model, state, rules, clock, loss, grads, observed, lr)


def applied(
    model: Any,
    state: TrainState,
    rules: Rules,
    clock: Clock | None,
    loss: float,
    grads: Mapping[str, Any],
    observed: Any,
    lr: float | None = None,
    by_pass: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[TrainState, StepResult]:
    """The second half of `train_step`: one guarded update with `grads`, those of the scaled loss; by_pass: the same of each summed pass."""
    lr = rules.schedule(state.update) if lr is None else lr
    clock = Clock(state.step, state.update, rules.steps or 1, rules.seed) if clock is None else clock
    ctx = OptimContext(step=state.step, update=state.update, seed=rules.seed, lr=lr, peak=rules.schedule.lr, total=rules.steps)
    optimizer: Any = rules.controllers.around(state.controllers, rules.optimizer, clock)
    own = model.rates()
    optimizer = Grouped(optimizer, own) if own else optimizer
    frozen = {name for name, rate in own.items() if rate == 0}
    arrays = model.arrays()
    moving = {name: a for name, a in arrays.items() if name not in frozen} if frozen else arrays
    try:
        done = guarded_step(
            optimizer, moving, {name: grads[name] for name in moving}, state.optimizer, ctx, loss_scale=rules.loss_scale, scale=state.loss_scale,
            clip=rules.clip, backend=rules.backend, finite=bool(np.isfinite(loss)),
        )  # fmt: skip
    except NonFiniteError:  # finite gradients whose squares overflow: no norm, no step
        return skipped(state, rules), StepResult(loss, lr, float("inf"), True, observed)
    if not done.applied:
        return skipped(state, rules), StepResult(loss, lr, done.norm, True, observed)
    if frozen:
        done = replace(done, params={**arrays, **done.params}, state={**state.optimizer, **done.state})
    params, controllers = controlled(model, state, rules, clock, Seen(clock, loss, observed, done.params, grads, by_pass=by_pass or {}))
    model.set_arrays(params)
    quantizers = rules.quantizers.update(state.quantizers, observed)
    after = TrainState(state.step + 1, state.update + 1, done.state, quantizers, done.scale, controllers)
    return after, StepResult(loss, lr, done.norm, False, observed)


def skipped(state: TrainState, rules: Rules) -> TrainState:
    """The state after a step whose update was not applied."""
    scale = update_loss_scale(rules.loss_scale, state.loss_scale, overflow=True)
    return replace(state, step=state.step + 1, loss_scale=scale)


def controlled(
    model: Any, state: TrainState, rules: Rules, clock: Clock, seen: Seen
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """(parameters after the step, controller states): `seen` has all parameters and the gradients of the scaled loss."""
    kinds, params = rules.controllers, dict(seen.weights)
    if not kinds.kinds:
        return params, state.controllers
    names = dict.fromkeys(kinds.weights.values())
    grads = (
        unscale({name: seen.grads[name] for name in names}, state.loss_scale.scale, rules.backend)
        if "grads" in kinds.needs
        else {}
    )
    quantizers = {name: model.recipes[site].fprop.b.quantizer for site, name in kinds.weights.items()}
    wanted = {name for name, role in model.roles.items() if role == "quantizer_step"} if "scales" in kinds.needs else set()
    scales, *passes = ({n: g for n, g in one.items() if n in wanted} for one in (seen.grads, *seen.by_pass.values()))
    shown = Seen(
        clock, seen.loss, seen.observed, {name: params[name] for name in names}, grads, quantizers, rules.backend, scales,
        dict(zip(seen.by_pass, passes, strict=True)),
    )
    states, replaced = kinds.after(state.controllers, shown)
    return {**params, **replaced}, states
