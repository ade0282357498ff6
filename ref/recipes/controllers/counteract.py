r"""`counteract`: layers whose gradient is quantized far off its direction take smaller steps (UI8).

With d_l the deviation 1 - cos(dY, Q(dY)) that the quantizer in `slot` of layer l last observed (the rule `clip` does, where it searches)::

    lr_l = lr max(exp(-alpha d_l), beta)

of the layer's own weight, from the step after on. A layer that has shown none keeps lr.

State: ``{site: d}``. alpha 20, beta 0.1: from memory.
Source: arXiv 1912.12607, "deviation counteractive learning rate scaling". Source level: memory.
Pitfalls: with Adam a smaller gradient is no smaller step; this factor is on the learning rate, which works under every rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lpref.ref import elementary
from lpref.ref.errors import SpecError
from lpref.ref.recipes.controllers.base import Clock, Kind, Seen, State


@dataclass(frozen=True)
class Counteract(Kind):
    """The slot whose deviation counts, and the two numbers of the formula."""

    slot: str = "dgrad.a"
    alpha: float = 20.0
    beta: float = 0.1

    def __post_init__(self) -> None:
        problems = [] if self.alpha >= 0 else [f"alpha: {self.alpha} would raise the rate of layers that deviate"]
        if not 0 < self.beta <= 1:
            problems.append(f"beta: {self.beta} is not in (0, 1]")
        if problems:
            raise SpecError(problems)

    def after(self, state: State, seen: Seen) -> tuple[State, Mapping[str, Any]]:
        """The newest deviation of each layer: the largest of the step's micro-batches."""
        suffix, found = "/" + self.slot.replace(".", "/"), dict(state)
        for place, entries in seen.observed.items():
            shown = [float(one["deviation"]) for one in entries if "deviation" in one]
            if place.endswith(suffix) and shown:
                found[place.removesuffix(suffix)] = max(shown)
        return found, {}

    def factor(self, deviation: float) -> float:
        """max(exp(-alpha d), beta).

        >>> Counteract().factor(0.0), Counteract().factor(1.0)
        (1.0, 0.1)
        """
        return max(float(elementary.exp(np.float32(-self.alpha * deviation))), self.beta)

    def around(self, state: State, optimizer: Any, clock: Clock) -> Any:
        """The optimizer with the factor of each weight that has one."""
        factors = {f"{site}.weight": self.factor(d) for site, d in state.items()}
        return replace(optimizer, factors={**optimizer.factors, **factors}) if factors else optimizer
