"""Targets of `lpref diff`: other implementations of what lpref defines. `base` is the protocol; one small file for each built-in one."""

from __future__ import annotations

from lpref.conformance.targets.base import (
    AttentionCase,
    Case,
    CastCase,
    GemmCase,
    OptimizerCase,
    QuantizeCase,
    Target,
    TargetAnswer,
    TargetCrashed,
    TargetError,
    TargetMissing,
    TargetRaised,
    TargetRefused,
    TargetTimeout,
)

__all__ = [
    "AttentionCase", "Case", "CastCase", "GemmCase", "OptimizerCase", "QuantizeCase", "Target", "TargetAnswer", "TargetCrashed",
    "TargetError", "TargetMissing", "TargetRaised", "TargetRefused", "TargetTimeout",
]  # fmt: skip
