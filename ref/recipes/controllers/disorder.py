r"""`disorder`: freeze the scales whose gradient keeps its sign (GAQAT).

Over a window of `every` steps the disorder of a learned scale is the share of sign changes between neighbouring gradients,

.. math:: d = \frac{1}{K - 1} \sum_{t=2}^{K} [\mathrm{sgn}\,g_t \ne \mathrm{sgn}\,g_{t-1}]

of all gradients of the parameter (several where it has one per block). At the window's end the scales with d < `threshold` are frozen for the next
window. threshold 0 freezes nothing. The sign of 0 is +.

of      the gradients are those of the pass `of` (the task's), and a frozen scale gets none of them: it follows the gradients of the other passes
        alone (the smoothness term's). It is judged in every window.
empty   the gradients are those of the step; a frozen scale stands still, is not judged, and after its window it is free again.

State: per scale the last signs, changes and comparisons so far; the frozen names.
Source: arXiv 2412.05551 (mechanism, from public reviews). Source level: secondary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lpref.ref.errors import SpecError
from lpref.ref.recipes.controllers.base import Clock, Kind, Seen, State
from lpref.ref.recipes.groups import Grouped


def flips(before: np.ndarray, now: np.ndarray) -> int:
    """How many signs (booleans: negative) differ.

    >>> flips(np.array([True, False]), np.array([False, False]))
    1
    """
    return int(np.count_nonzero(before != now))


@dataclass(frozen=True)
class Disorder(Kind):
    """GAQAT. every: steps of a window.  threshold: scales with less disorder are frozen.  of: the pass whose gradients are judged."""

    needs: ClassVar[frozenset[str]] = frozenset({"scales"})
    every: int = 50
    threshold: float = 0.3
    of: str = ""

    def __post_init__(self) -> None:
        problems = [] if self.every >= 2 else [f"every: {self.every} steps have no two gradients to compare"]
        problems += [] if 0 <= self.threshold <= 1 else [f"threshold: {self.threshold!r} is not between 0 and 1"]
        if problems:
            raise SpecError(problems)

    def problems(self, recipe: Any) -> Iterator[str]:
        linears = [recipe.linear, *recipe.variants.values()]
        slots = [slot for linear in linears for slot in (linear.fprop.a, linear.fprop.b)]
        if not any(q.scale.learned for slot in slots for q in slot.quantizers().values() if hasattr(q, "scale")):
            yield "kind: no scale is learned, so there is nothing to freeze"
        if self.of and self.of not in [one.name for one in recipe.passes if one.update == "summed"]:
            yield f"of: {self.of!r} is no summed pass of the recipe"

    def start(self, weights: Mapping[str, Any], ops: Any) -> dict[str, Any]:
        return {"steps": 0, "signs": {}, "flips": {}, "compared": {}, "frozen": []}

    def after(self, state: State, seen: Seen) -> tuple[State, Mapping[str, Any]]:
        """Signs are compared on the host: no arithmetic."""
        signs, changed, compared = dict(state["signs"]), dict(state["flips"]), dict(state["compared"])
        for name, g in (seen.by_pass.get(self.of, {}) if self.of else seen.scales).items():
            if name in state["frozen"] and not self.of:
                continue
            now = np.atleast_1d(np.asarray(seen.ops.arrays.host(g))) < 0
            if name in signs:
                changed[name] = changed.get(name, 0) + flips(signs[name], now)
                compared[name] = compared.get(name, 0) + now.size
            signs[name] = now
        if state["steps"] + 1 < self.every:
            return {**state, "steps": state["steps"] + 1, "signs": signs, "flips": changed, "compared": compared}, {}
        return {**self.start({}, seen.ops), "frozen": self.orderly(changed, compared)}, {}

    def orderly(self, changed: Mapping[str, int], compared: Mapping[str, int]) -> list[str]:
        """The scales whose disorder is below the threshold."""
        return sorted(name for name, n in compared.items() if n and changed[name] / n < self.threshold)

    def withheld(self, state: State) -> Mapping[str, Any]:
        return {self.of: state["frozen"]} if self.of else {}

    def around(self, state: State, optimizer: Any, clock: Clock) -> Any:
        return Grouped(optimizer, dict.fromkeys(state["frozen"], 0.0)) if state["frozen"] and not self.of else optimizer
