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
from lpref.trainer.data.batches import Batch
from lpref.trainer.quantizers import QuantizerStates


@dataclass(frozen=True)
class TrainState:
    """What changes from step to step besides the weights."""

    step: int  # global batches consumed
    update: int  # updates applied
    optimizer: Any
    quantizers: Mapping[str, Any]
    loss_scale: LossScaleState


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


def gradients(
    model: Any, batches: Sequence[Batch], context: Any, scale: float
) -> tuple[float, dict[str, Any], dict[str, list[Mapping[str, Any]]]]:
    """(mean loss, gradients of `scale`·loss, observations) over equal micro-batches, added in their order.

    `context(micro)` gives the Context of one micro-batch. A parameter that the loss does not reach gets zeros.
    """
    m = len(batches)
    losses, observed = [], {}  # type: ignore[var-annotated]
    for tensor in model.params.values():
        tensor.grad = None
    for micro, batch in enumerate(batches):
        ctx = context(micro)
        loss = model.loss(batch, ctx)
        seed = np.asarray(np.float32(scale) / np.float32(m), loss.dtype).reshape(loss.shape)
        loss.backward(model.array(seed))
        losses.append(float(loss.item()))
        for place, seen in ctx.observed.items():
            observed.setdefault(place, []).append(seen)
    mean = losses[0] if m == 1 else float(np.float32(sum(losses) / m))
    return mean, model.grads(), observed


def train_step(
    model: Any, state: TrainState, batches: Sequence[Batch], rules: Rules, context: Any
) -> tuple[TrainState, StepResult]:
    """(state after, what to report). The weights of `model` are replaced unless the step is skipped.

    A step is skipped when the loss or a gradient is not finite: weights, optimizer, update count and quantizer states stay, the loss
    scale goes down. The caller decides whether that ends the run.
    """
    lr = rules.schedule(state.update)
    loss, grads, observed = gradients(model, batches, context, state.loss_scale.scale)
    ctx = OptimContext(step=state.step, update=state.update, seed=rules.seed, lr=lr, peak=rules.schedule.lr, total=rules.steps)
    try:
        done = guarded_step(
            rules.optimizer, model.arrays(), grads, state.optimizer, ctx, loss_scale=rules.loss_scale, scale=state.loss_scale,
            clip=rules.clip, backend=rules.backend, finite=bool(np.isfinite(loss)),
        )  # fmt: skip
    except NonFiniteError:  # finite gradients whose squares overflow: no norm, no step
        scale = update_loss_scale(rules.loss_scale, state.loss_scale, overflow=True)
        return replace(state, step=state.step + 1, loss_scale=scale), StepResult(loss, lr, float("inf"), True, observed)
    if not done.applied:
        return replace(state, step=state.step + 1, loss_scale=done.scale), StepResult(
            loss, lr, done.norm, True, observed
        )
    model.set_arrays(done.params)
    after = TrainState(
        state.step + 1, state.update + 1, done.state, rules.quantizers.update(state.quantizers, observed), done.scale
    )
    return after, StepResult(loss, lr, done.norm, False, observed)
