"""Optimizers: update rules, stored state, clipping, schedules, loss scaling."""

from lpref.ref.optim.clip import clip_global_norm, clip_value, global_norm
from lpref.ref.optim.context import OptimContext
from lpref.ref.optim.loss_scale import LossScale, LossScaleState, all_finite, unscale, update_loss_scale
from lpref.ref.optim.rules import (
    RULES,
    SGD,
    AdamW,
    AdamWCoefficients,
    Lion,
    Rule,
    StateSpec,
    adamw_coefficients,
    adamw_update,
    lion_update,
    sgd_update,
)
from lpref.ref.optim.schedule import SHAPES as SCHEDULES
from lpref.ref.optim.schedule import Schedule, schedule

__all__ = [
    "AdamW", "AdamWCoefficients", "Lion", "LossScale", "LossScaleState", "OptimContext", "RULES", "Rule", "SCHEDULES", "SGD", "Schedule",
    "StateSpec", "adamw_coefficients", "adamw_update", "all_finite", "clip_global_norm", "clip_value", "global_norm", "lion_update", "schedule",
    "sgd_update", "unscale", "update_loss_scale",
]  # fmt: skip
