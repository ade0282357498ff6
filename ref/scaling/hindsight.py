r"""Ranges in hindsight: a tensor is quantized with the range of the steps before it, so that it is read once.

With the statistic a of a step (amax; or smallest and largest element), merged over the step, and eta = `momentum`, float32::

    first step      the range of the tensor itself, as with current scaling
    later           the state's q
    update          q <- a                                        after the first step
                    q <- fl32(fl32((1 - eta) a) + fl32(eta q))    after every other

What lies outside saturates; what was outside still enters the statistic, which is measured before saturation. eta = 0 is the previous step.
For `affine` and `minmax` the low and the high end are two such numbers; the ends of `affine` include zero as always.

State: {"amax": float32, "seen": int32 steps}, or {"low": float32, "high": float32, "seen": int32 steps}. Zero tensor: its range is 0 in the mean
as well; a state of 0 is a scale of 1. NaN or infinity: as the rule's page says while measuring; they leave the state as it was.
Gradient: straight through.

Source: arXiv 2105.04246 (eta 0.9, for activations and gradients; statistics from the accumulator of the step before).
Source level: memory.
Pitfalls: saturation depends on the data of the step before, so a jump of the learning rate clips for a while; with eta = 0 and rule amax this
is current scaling one step late, and `te` delayed with window 1 and most_recent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.ref.scaling.rule import Scale


def names(rule: str) -> tuple[str, ...]:
    """The statistics that a rule follows."""
    return ("amax",) if rule == "amax" else ("low", "high")


def initial(rule: str) -> dict[str, Any]:
    """Nothing seen."""
    return {name: np.float32(0) for name in names(rule)} | {"seen": np.int32(0)}


def known(state: Mapping[str, Any] | None) -> bool:
    """Whether the state has a range yet."""
    return state is not None and int(state["seen"]) > 0


def update(scale: Scale, state: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """The state after a step that measured `seen`.

    >>> s = Scale("amax", history="hindsight", momentum=0.5)
    >>> float(update(s, {"amax": np.float32(4), "seen": np.int32(1)}, {"amax": np.float32(2)})["amax"])
    3.0
    """
    if not all(np.isfinite(seen[name]) for name in names(scale.rule)):
        return dict(state)
    new = {name: np.float32(seen[name]) for name in names(scale.rule)}
    if known(state):
        fresh, old = np.float32(1.0 - scale.momentum), np.float32(scale.momentum)
        new = {name: fresh * value + old * np.float32(state[name]) for name, value in new.items()}
    return {**new, "seen": np.int32(int(state["seen"]) + 1)}
