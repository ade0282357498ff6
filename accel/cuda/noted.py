"""Greatest magnitudes that kernels note of the arrays that they write (kernels/peak.cuh), for scales of whole tensors that are made of them.

What is noted is of the array object: one that is made of it, or that reuses its memory, has none. Nothing is written in place that has one.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device
from lpref.accel.cuda.qtensor import Counters
from lpref.ref.quantize import Quantizer

Noted = tuple[device.Macros, Any]
"""What a kernel is told: macros, and the row of counters in which it notes (0: it does not)."""
NOWHERE: Noted = ((), 0)
PEAK = (("LP_PEAK", 1),)
_now = threading.local()
_held: dict[int, tuple[Any, Any]] = {}
"""id of an array -> a weak reference to it, and what was noted of it; gone with the array."""


@contextmanager
def noting(wanted: bool) -> Iterator[None]:
    """Inside, kernels of this thread note, if it is wanted."""
    before, _now.wanted = getattr(_now, "wanted", False), wanted
    try:
        yield
    finally:
        _now.wanted = before


def wanted() -> bool:
    """Whether kernels of this thread note now."""
    return bool(getattr(_now, "wanted", False))


def reads(q: Quantizer) -> bool:
    """Whether the quantizer measures a whole tensor before its one scale is known."""
    return q.scale.rule in ("te", "amax") and q.scale.history == "current" and q.blocks.other is None and q.blocks.k is None


def counters(y: Any, whole: bool = True) -> Noted:
    """What a kernel that will write all of y is told, or several that do together.

    whole: whether the kernel can, its blocks having all their threads.
    """
    if not (wanted() and whole and y.size) or arrays.is_sixteen(y):
        return NOWHERE
    key, row = id(y), Counters.take().row
    _held[key] = weakref.ref(y, lambda _: _held.pop(key, None)), bits(row)
    return PEAK, row


def bits(row: Any) -> Any:
    """Where in a row of counters a greatest magnitude is noted, uint32 [1]."""
    return row[2:3].view(np.uint32)[:1]


def of(x: Any) -> Any:
    """float32 bits of the greatest magnitude of x, uint32 [1] on the device, where noted of this array or the one that it views; None else."""
    for one in (x, x.base):
        there, peak = _held.get(id(one), (None, None))
        if there is not None and there() is one and (one.size, one.dtype, one.data.ptr) == (x.size, x.dtype, x.data.ptr):
            return peak
    return None
