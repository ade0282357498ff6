"""Controllers whose state is one of several levels: what `diversity` and `plateau` share.

`levels` holds one {path: value} per precision, coarse to fine; the one that the state names is in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lpref.ref.errors import SpecError
from lpref.ref.recipes.controllers.base import Clock, Influence, Kind, State


@dataclass(frozen=True)
class Levels(Kind):
    """levels and the steps of an epoch."""

    levels: tuple[Mapping[str, Any], ...] = ()
    every: int = 50

    def check(self, least: Mapping[str, int], positive: Iterable[str]) -> None:
        """SpecError for fields below their least value, negative ones, and for no levels."""
        least = {"every": 1, **least}
        problems = [f"{name}: {getattr(self, name)} is below {low}" for name, low in least.items() if getattr(self, name) < low]
        problems += [f"{name}: {getattr(self, name)} is negative" for name in positive if not getattr(self, name) >= 0]
        problems += [] if self.levels else ["levels: none; give one {path: value} per precision"]
        if problems:
            raise SpecError(problems)

    def all_changes(self) -> Iterator[Mapping[str, Any]]:
        yield from self.levels

    def is_last(self, state: State) -> bool:
        """Whether there is no level after the one in force."""
        return bool(state["level"] + 1 >= len(self.levels))

    def influence(self, state: State, clock: Clock) -> Influence:
        return Influence(recipe=self.levels[state["level"]])
