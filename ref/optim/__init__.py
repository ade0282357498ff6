"""Optimizers: update rules, stored state, clipping, schedules, loss scaling."""

from lpref.ref.optim.averaging import Averaging
from lpref.ref.optim.clip import clip_global_norm, clip_value, global_norm
from lpref.ref.optim.context import OptimContext
from lpref.ref.optim.loss_scale import LossScale, LossScaleState, all_finite, unscale, update_loss_scale
from lpref.ref.optim.optimizer import NO_DECAY, Optimizer, optimizer
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
from lpref.ref.optim.step import StepResult, guarded_step
from lpref.ref.optim.storage import STORAGES, Storage, storage
from lpref.ref.optim.weights import Weights

__all__ = [
    "AdamW", "AdamWCoefficients", "Averaging", "Lion", "LossScale", "LossScaleState", "NO_DECAY", "OptimContext", "Optimizer", "RULES", "Rule",
    "SCHEDULES", "SGD", "STORAGES", "Schedule", "StateSpec", "StepResult", "Storage", "Weights", "adamw_coefficients", "adamw_update", "all_finite",
    "clip_global_norm", "clip_value", "global_norm", "guarded_step", "lion_update", "optimizer", "schedule", "sgd_update", "storage",
    "unscale", "update_loss_scale",
]  # fmt: skip
