"""`FedContext`: the context of a step on the device, whose numbers change from replay to replay of its graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lpref.ref.recipes import Context


@dataclass(frozen=True)
class FedContext(Context):
    """A context whose step, states and random signs come from a feed (`lpref.accel.cuda.feed`)."""

    feed: Any = field(default=None, compare=False)

    def signs(self, slot: str, n: int) -> Any:
        return self.feed.made(signs_of, self.words(slot, "signs"), n)


def signs_of(address: Any, n: int) -> np.ndarray:
    """`lpref.ref.random.signs`."""
    from lpref.ref import random

    return random.signs(address, n)
