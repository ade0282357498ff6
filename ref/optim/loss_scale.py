r"""Loss scaling: multiply the loss by S before the backward pass, divide the gradients by S after it.

Small gradients then stay above the underflow threshold of binary16. With S a power of two the division is exact, and gradients that neither
under- nor overflowed are bit-equal to those without scaling. Dynamic scaling after each backward pass, with `overflow` = any gradient not finite::

    overflow     the whole step is skipped: weights, moments and the update count stay;  good = 0, spent = spent + 1;
                 S = max(S*backoff, minimum) where spent >= hysteresis
    otherwise    good = good + 1; when good = interval:  S = min(S*growth, maximum), good = spent = 0;  S is at least `minimum`

Static scaling keeps S; an overflow skips the step as well. Defaults are those of torch.amp.GradScaler: 65536, 2, 0.5, 2000.
Pitfalls: unscale before clipping; a skipped step must not advance t (the bias correction would drift) nor the schedule;
when the loss itself is NaN, S falls to `minimum` and stays: the caller stops the run after too many skips in a row.
With hysteresis h, S stays through the first h - 1 overflows since it last grew (Megatron: h = 2). A `minimum` that a schedule raises lifts S
at the next good step (arXiv:1905.12334).
Source: Micikevicius et al., arXiv:1710.03740, section 3.2; pytorch/pytorch torch/amp/grad_scaler.py; NVIDIA/Megatron-LM
megatron/core/optimizer/grad_scaler.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from lpref.ref.errors import SpecError


@dataclass(frozen=True)
class LossScale:
    """Settings of the controller. `none` is S = 1 without skipping."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: Literal["none", "static", "dynamic"] = "none"
    init: float = 65536.0
    growth: float = 2.0
    backoff: float = 0.5
    interval: int = 2000
    minimum: float = 1.0
    maximum: float = 2.0**24
    hysteresis: int = 1

    def __post_init__(self) -> None:
        problems = [
            f"{name}: {getattr(self, name)} is not a power of two, so unscaling would round"
            for name in ("init", "growth", "backoff", "minimum", "maximum")
            if np.frexp(getattr(self, name))[0] != 0.5
        ]
        problems += [f"{name}: {getattr(self, name)} is below 1" for name in ("interval", "hysteresis") if getattr(self, name) < 1]
        if problems:
            raise SpecError(problems, where="loss_scale")

    def start(self) -> LossScaleState:
        """The state before the first step."""
        return LossScaleState(1.0 if self.kind == "none" else self.init)


@dataclass(frozen=True)
class LossScaleState:
    """The scale S and the counters of the controller; part of a checkpoint."""

    scale: float = 1.0
    good: int = 0
    """Steps without overflow since the last change of S."""
    skipped: int = 0
    """Steps skipped so far."""
    in_a_row: int = 0
    """Steps skipped since the last good one."""
    spent: int = 0
    """Overflows since S last grew."""


def update_loss_scale(config: LossScale, state: LossScaleState, overflow: bool) -> LossScaleState:
    """The controller's next state.

    >>> update_loss_scale(LossScale("dynamic"), LossScaleState(8.0, good=5), overflow=True)
    LossScaleState(scale=4.0, good=0, skipped=1, in_a_row=1, spent=1)
    """
    if overflow:
        backs_off = config.kind == "dynamic" and state.spent + 1 >= config.hysteresis
        scale = max(state.scale * config.backoff, config.minimum) if backs_off else state.scale
        return LossScaleState(scale, 0, state.skipped + 1, state.in_a_row + 1, state.spent + 1)
    good = state.good + 1
    if config.kind == "dynamic" and good >= config.interval:
        return LossScaleState(max(min(state.scale * config.growth, config.maximum), config.minimum), 0, state.skipped)
    scale = max(state.scale, config.minimum) if config.kind == "dynamic" else state.scale
    return replace(state, scale=scale, good=good, in_a_row=0)


def all_finite(arrays: Iterable[np.ndarray]) -> bool:
    """Whether no element of any array is NaN or infinite."""
    return all(bool(np.isfinite(a).all()) for a in arrays)


def unscale(grads: Mapping[str, Any], scale: float, ops: Any = None) -> dict[str, Any]:
    """g * (1/S), exact for a power of two up to underflow; S = 1 returns the arrays themselves. ops: the backend of the arrays."""
    if scale == 1.0:
        return dict(grads)
    multiply = np.multiply if ops is None else ops.mul
    return {name: multiply(g, g.dtype.type(1.0 / scale)) for name, g in grads.items()}
