"""States of delayed scaling on the device (kernels/delayed.cu), which a step updates itself: the next one can begin before the host has seen it.

What counts, is saved and is reported are the host's states, which `lpref.ref.quantize.update_state` makes of the amaxes that the device tells. The
device's are a mirror: `renew` writes it from the host's states where these are not the ones that it is known to hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from lpref.accel.cuda import device, feed
from lpref.accel.cuda.qtensor import Observed
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer

STATE = np.dtype([("window", "<u4"), ("recent", "<u4"), ("target", "<f4"), ("divider", "<f4")])
"""`State` of kernels/delayed.cu."""


class Delayed:
    """The states of those of these places that scale so. `places`: their names, in order."""

    def __init__(self, places: Mapping[str, Quantizer]) -> None:
        held = {place: q for place, q in places.items() if q.scale.rule == "te" and q.scale.history == "delayed"}
        self.places = tuple(held)
        self.known: Any = None
        """The host's states that the mirror holds, as the object that they are; None: it may hold others."""
        self._number = {place: i for i, place in enumerate(held)}
        self._pitch = max((q.scale.window for q in held.values()), default=0)
        if held:
            cp, count = device.cupy(), len(held)
            self._of = cp.asarray(np.array([_place(q) for q in held.values()], STATE).view(np.uint8))
            self._scales, self._begins = cp.zeros(count, np.float32), cp.zeros(count, np.uint32)
            self._histories = cp.zeros((count, self._pitch), np.float32)

    def holds(self, states: Mapping[str, Any]) -> bool:
        """Whether these states are all here."""
        return all(place in self._number for place in states)

    def renew(self, states: Mapping[str, Any]) -> None:
        """The mirror holds these states, before what comes later in the current stream; what came earlier is done."""
        if states is self.known or not self.places:
            return
        scales, histories = np.ones(len(self.places), np.float32), np.zeros((len(self.places), self._pitch), np.float32)
        for place, i in self._number.items():
            if place in states:
                scales[i], history = states[place]["scale"], states[place]["history"]
                histories[i, : len(history)] = history
        with device.general():
            for here, value in ((self._scales, scales), (self._histories, histories), (self._begins, np.zeros_like(scales, np.uint32))):
                here[...] = device.cupy().asarray(value)
        self.known = states

    def scale(self, place: str) -> Any:
        """S of a place, float32 [1] on the device; None for places that are not here."""
        i = self._number.get(place)
        return None if i is None else self._scales[i : i + 1]

    def update(self, observed: Mapping[str, Sequence[Any]], verdict: Any, fed: Any, told: Any, start: int) -> bool:
        """The states after a step that the verdict allows; the amax of place number p becomes word start + p of the row of `told` that `fed` names.

        Returns whether it could: what was looked into while the step ran (statistics) is no longer on the device.
        """
        seen = [observed.get(place, ()) for place in self.places]
        if not all(isinstance(one, Observed) for found in seen for one in found):
            return False
        rows = np.array([one.row.data.ptr for found in seen for one in found], np.uint64)
        if rows.size:
            first = np.array([0, *accumulate(len(found) for found in seen)], np.uint32)
            lists = [feed.upload(feed.same, a) for a in (rows, first)]
            numbers = (np.int32(told.shape[1]), np.int32(start), self._scales, self._histories, np.int32(self._pitch), self._begins)
            device.function("delayed", "delayed")((len(seen),), (device.THREADS,), (*lists, self._of, verdict, fed, told, *numbers))
        return True

    def seen(self, observed: Mapping[str, Sequence[Any]], told: np.ndarray) -> dict[str, list[dict[str, Any]]]:
        """What `update_state` reads of a step, for the places that it observed; told: their words of its row."""
        return {place: [{"amax": value}] for place, value in zip(self.places, told.view(np.float32), strict=True) if observed.get(place)}


def _place(q: Quantizer) -> tuple[int, int, float, float]:
    target = format_named(q.format).max if q.scale.target is None else q.scale.target
    return q.scale.window, int(q.scale.algo == "most_recent"), target, 2.0**q.scale.margin
