"""One guarded optimizer step: unscale, check, clip, update, and the loss scale's next state, in this order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.ref.optim.clip import clip_global_norm, global_norm
from lpref.ref.optim.context import OptimContext
from lpref.ref.optim.loss_scale import LossScale, LossScaleState, all_finite, unscale, update_loss_scale
from lpref.ref.optim.optimizer import Optimizer

Array = np.ndarray


@dataclass(frozen=True)
class StepResult:
    """What a guarded step leaves. Where `applied` is False, `params` and `state` are the very objects that went in."""

    params: Mapping[str, Array]
    state: Mapping[str, Array]
    scale: LossScaleState
    applied: bool
    norm: float
    """Global gradient norm before clipping, after unscaling; NaN for a skipped step."""


def guarded_step(
    opt: Optimizer,
    params: Mapping[str, Array],
    grads: Mapping[str, Array],
    state: Mapping[str, Array],
    ctx: OptimContext,
    *,
    loss_scale: LossScale | None = None,
    scale: LossScaleState | None = None,
    clip: float | None = None,
    backend: Any = None,
    finite: bool = True,
) -> StepResult:
    """Apply one update unless a gradient is not finite; then parameters, moments and the update count stay as they are.

    `grads` are those of the loss times `scale.scale`. clip: global norm limit, None for none. finite: False skips the step whatever
    the gradients are (a loss that is not finite).
    The caller advances its update count only when `applied`.
    """
    config = loss_scale or LossScale()
    before = scale or config.start()
    unscaled = unscale(grads, before.scale, backend)
    good = finite and bool((all_finite if backend is None else backend.all_finite)(list(unscaled.values())))
    after = update_loss_scale(config, before, overflow=not good)
    if not good:
        return StepResult(params, state, after, False, float("nan"))
    if clip is None:
        norm = float((global_norm if backend is None else backend.global_norm)(list(unscaled.values())))
    else:
        unscaled, norm = clip_global_norm(unscaled, clip, ops=backend)
    new_params, new_state = opt.update(params, unscaled, state, ctx, backend)
    return StepResult(new_params, new_state, after, True, norm)
