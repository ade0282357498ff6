r"""`steer`: one number of a slot of every layer, moved so that an observed share stays within a band.

Every `every` steps, for each layer by itself, with r the mean of observed[`share`] / observed[`of`] over those steps:

    r > high   v <- v * factor
    r < low    v <- v / factor             v within [least, most]

`path` is the number's path in the layer's linear recipe, `slot` the slot that is observed. INT8 fallback raises the threshold of a layer whose
blocks fall back too often (arXiv 2503.08040, from memory: band .1 to .3); the overflow rule of dynamic fixed point (arXiv 1412.7024) has
share `overflowed` and factor 2.

State: per layer the value, and the sums of the present window.
Pitfalls: factor above 1 must lower the share when v grows; otherwise give its inverse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lpref.ref.errors import SpecError
from lpref.ref.recipes.controllers.base import Clock, Influence, Kind, Seen, State


@dataclass(frozen=True)
class Steer(Kind):
    """A band for an observed share, and the number that moves it."""

    path: str = ""
    slot: str = "fprop.a"
    share: str = "overflowed"
    of: str = "count"
    low: float = 0.1
    high: float = 0.3
    first: float = 1.0
    factor: float = 1.25
    least: float = 2.0**-30
    most: float = 2.0**30
    every: int = 1

    def __post_init__(self) -> None:
        problems = (
            []
            if self.path
            else ["path: missing; name the number that is moved, such as fprop.a.quantizer.scale.multiplier"]
        )
        if not 0 <= self.low <= self.high:
            problems.append(f"low: {self.low} .. high: {self.high} is no band")
        if not (self.factor > 0 and self.factor != 1.0):
            problems.append(f"factor: {self.factor} moves nothing; use a positive number other than 1")
        if not 0 < self.least <= self.first <= self.most:
            problems.append(f"first: {self.first} is not within least: {self.least} .. most: {self.most}")
        if self.every < 1:
            problems.append(f"every: {self.every} is below 1")
        if problems:
            raise SpecError(problems)

    def all_changes(self) -> Iterator[Mapping[str, Any]]:
        yield {f"linear.{self.path}": self.first}

    def start(self, weights: Mapping[str, Any], ops: Any) -> dict[str, Any]:
        return {"values": {}, "seen": {}, "all": {}, "steps": 0}

    def after(self, state: State, seen: Seen) -> tuple[State, Mapping[str, Any]]:
        """Sums of the window; at its end the values."""
        suffix = "/" + self.slot.replace(".", "/")
        shares, wholes = dict(state["seen"]), dict(state["all"])
        for place, entries in seen.observed.items():
            if place.endswith(suffix):
                site = place.removesuffix(suffix)
                shares[site] = shares.get(site, 0) + sum(int(one.get(self.share, 0)) for one in entries)
                wholes[site] = wholes.get(site, 0) + sum(int(one.get(self.of, 0)) for one in entries)
        if state["steps"] + 1 < self.every:
            return {**state, "seen": shares, "all": wholes, "steps": state["steps"] + 1}, {}
        values = {
            site: self.moved(state["values"].get(site, self.first), shares[site] / whole)
            for site, whole in wholes.items()
            if whole
        }
        return {"values": {**state["values"], **values}, "seen": {}, "all": {}, "steps": 0}, {}

    def moved(self, value: float, share: float) -> float:
        """The value after a window with this share.

        >>> [Steer("p", factor=2.0).moved(1.0, share) for share in (0.05, 0.2, 0.5)]
        [0.5, 1.0, 2.0]
        """
        if self.low <= share <= self.high:
            return value
        return min(max(value * self.factor if share > self.high else value / self.factor, self.least), self.most)

    def influence(self, state: State, clock: Clock) -> Influence:
        return Influence(layers={site: {self.path: value} for site, value in state["values"].items()})
