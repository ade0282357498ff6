"""`FedStates`: the states of a run's quantizers as a step on the device reads them: those of delayed scaling lie there (`lpref.accel.cuda.delayed`),
numbers of others come from a feed, the rest is as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.accel.cuda.delayed import Delayed
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.state import phase

READ_BY_KERNELS = ("scale", "amax", "low", "high")
"""Entries of states that kernels read; the host reads the others, and `lpref.ref.quantize.state.phase` says what it makes of them."""


class FedStates:
    """The states of these quantizers in a feed (`lpref.accel.cuda.feed`)."""

    def __init__(self, feed: Any, places: Mapping[str, Quantizer]) -> None:
        self.feed, self.places, self.delayed = feed, places, Delayed(places)
        self.sources: dict[Any, np.ndarray] = {}
        self.now: dict[str, dict[str, Any]] = {}
        """What a context holds as its states."""

    def phases(self, states: Mapping[str, Any]) -> tuple[Any, ...]:
        """What of the states chooses a step's operations: part of its kind."""
        return tuple(phase(self.places[place], own) for place, own in states.items() if place in self.places)

    def fill(self, states: Mapping[str, Any]) -> None:
        """These states are those of the next step."""
        self.delayed.renew(states)
        self.now = {place: {key: self._fed(place, key, value) for key, value in own.items()} for place, own in states.items()}

    def _fed(self, place: str, key: str, value: Any) -> Any:
        if key == "scale" and (here := self.delayed.scale(place)) is not None:
            return here
        if key not in READ_BY_KERNELS:
            return value
        found = (place, key, np.shape(value))
        if found not in self.sources:
            self.sources[found] = self.feed.array(np.shape(value), np.float32)
        self.sources[found][...] = value
        return self.sources[found]
