"""Copies of weights in bfloat16, which a step's casts of a weight would make: written by the update that changes the weight (kernels/update.cu).

A copy is `arrays.short` of its weight, made where a step first asks for it. Nobody has to tell when a weight has changed: `renew` makes all copies
from the weights before the first of the steps that are queued together, whoever wrote to them until then; behind it nothing but the updates of these
steps writes to a weight, and an update writes both or, where the verdict forbids it, neither.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, feed

_now = threading.local()
UNROLLED = 8
"""Elements that a thread of `shorten_each` takes at a time."""


class Copies:
    """Those of these arrays, which live at least as long. `made`: address of a weight -> its copy."""

    def __init__(self, weights: Iterable[Any]) -> None:
        self.weights = {a.data.ptr: a for a in weights if a.size and a.dtype == np.float32 and a.flags.c_contiguous}
        self.made: dict[int, Any] = {}
        self._table: Any = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, `of` finds these copies in this thread."""
        before, _now.copies = getattr(_now, "copies", None), self
        try:
            yield
        finally:
            _now.copies = before

    def renew(self) -> None:
        """Every copy from its weight, in one launch."""
        if not self.made:
            return
        if self._table is None:
            rows = [(at, copy.data.ptr, copy.size) for at, copy in self.made.items()]
            self._table = feed.outside(lambda: device.cupy().asarray(np.array(rows, np.uint64)))
        across = device.blocks_for(max(copy.size for copy in self.made.values()) // UNROLLED, device.THREADS, 2)
        device.function("elementwise", "shorten_each")((across, len(self.made)), (device.THREADS,), (self._table,))

    def _of(self, x: Any) -> Any:
        weight = self.weights.get(x.data.ptr)
        if weight is None or x.dtype != np.float32 or x.size != weight.size or not x.flags.c_contiguous:
            return None
        if x.data.ptr not in self.made:
            if feed.capturing():
                return None
            self.made[x.data.ptr], self._table = arrays.short(weight), None
        return self.made[x.data.ptr].reshape(x.shape)


def of(x: Any) -> Any:
    """The copy of x, an array of bfloat16 of its shape, where x is all of a weight of the step that is at work; else None. A copy that is not there
    yet is made, unless a step is being captured."""
    copies = getattr(_now, "copies", None)
    return copies._of(x) if copies is not None else None
