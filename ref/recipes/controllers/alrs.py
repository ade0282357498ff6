r"""`alrs`: the learning rate of learned quantizer parameters, adapted in every pass (ALRS of Double Rounding; page `lpref.ref.optim.scale_rates`).

`eta` holds one factor for each pass: for D = h - l the published ones are 10^(-D/2) where D is even, 5 * 10^(-(D+1)/2) where it is odd
(8, 6, 4, 2 bits: 1, .1, .01, .001). State: none.
Source: arXiv 2502.01199. Source level: read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lpref.ref.errors import SpecError
from lpref.ref.optim.scale_rates import ScaleRates
from lpref.ref.recipes.controllers.base import Clock, Kind, State

ROLE = "quantizer_step"


@dataclass(frozen=True)
class Alrs(Kind):
    """ALRS; eta by pass."""

    eta: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.eta or not all(isinstance(one, (int, float)) and one >= 0 for one in self.eta):
            raise SpecError([f"eta: {list(self.eta)} are not numbers >= 0, one for each pass"])

    def problems(self, recipe: Any) -> Iterator[str]:
        if len(self.eta) != max(1, len(recipe.passes)):
            yield f"parameters.eta: {len(self.eta)} factors for {max(1, len(recipe.passes))} passes"

    def around(self, state: State, optimizer: Any, clock: Clock) -> Any:
        roles = getattr(optimizer, "roles", {})
        return ScaleRates(optimizer, frozenset(name for name, role in roles.items() if role == ROLE), float(self.eta[clock.pass_]))
