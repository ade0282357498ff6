"""Greatest magnitudes that kernels note of the arrays that they write (kernels/peak.cuh), for scales of whole tensors that are made of them.

What is noted is of the array object: one that is made of it, or that reuses its memory, has none. Nothing is written in place that has one.

Quantizers that transform a tensor down its columns need the greatest magnitude after the transform too. Who writes a tensor does not know who reads
it, so a step remembers (`Turns`) of which shapes it had to measure that, and in the steps after it who writes such a shape notes both
(kernels/noting.cuh). What was not noted is measured, so that nothing but time depends on what is remembered.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from lpref.accel.cuda import arrays, device, feed, hadamard
from lpref.accel.cuda.qtensor import Counters
from lpref.ref.quantize import Quantizer

Noted = tuple[device.Macros, Any]
"""What a kernel is told: macros, and the row of counters in which it notes (0: it does not)."""
NOWHERE: Noted = ((), 0)
PEAK = (("LP_PEAK", 1),)
_now = threading.local()
ROWS = 16
"""Rows of a transform that kernels note."""


class Turn(NamedTuple):
    """A Hadamard transform of each `ROWS` rows of a matrix: the bytes of the float32 signs of these rows, none: no signs."""

    signs: bytes


Turns = dict[tuple[int, ...], Turn]
"""Shape of matrices -> the transform before which the step measured them last."""


class Note(NamedTuple):
    """float32 bits of greatest magnitudes, uint32 [1] each on the device: of an array, and of the matrix of this shape after the transform."""

    plain: Any
    turned: Any = None
    turn: Turn | None = None
    shape: tuple[int, ...] = ()


_held: dict[int, tuple[Any, Note]] = {}
"""id of an array -> a weak reference to it, and what was noted of it; gone with the array."""


@contextmanager
def noting(wanted: bool, turns: Turns | None = None) -> Iterator[None]:
    """Inside, kernels of this thread note, if it is wanted; and what is in `turns`, where they put what they measure."""
    before = getattr(_now, "wanted", False), getattr(_now, "turns", None)
    _now.wanted, _now.turns = wanted, turns
    try:
        yield
    finally:
        _now.wanted, _now.turns = before


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
    row = Counters.take().row
    _hold(y, Note(bits(row)))
    return PEAK, row


def bits(row: Any, place: int = 2) -> Any:
    """Where in a row of counters a greatest magnitude is noted, uint32 [1]."""
    return row[place : place + 1].view(np.uint32)[:1]


NOT_TURNED = (0, 0, 0, np.float32(0))


def panels(y: Any, width: int, paired: bool = True, whole: bool = True) -> tuple[device.Macros, Any, tuple[Any, ...]]:
    """`counters` of a kernel that can write the matrix y by panels (noting.cuh) of an array [rows, width], and what it is told of them.

    paired: whether two numbers may be read at once; whole: as in `counters`."""
    turn = (getattr(_now, "turns", None) or {}).get(y.shape)
    if turn is None or not paired or arrays.is_sixteen(y) or y.ndim != 2 or y.shape[0] % ROWS or width % 2:
        return (*counters(y, whole), NOT_TURNED)
    row = Counters.take().row
    _hold(y, Note(bits(row), bits(row, 4), turn, y.shape))
    signs = hadamard.held_signs(np.frombuffer(turn.signs, np.float32), ROWS, ROWS)[0] if turn.signs else 0
    return (*PEAK, ("LP_TURNED", ROWS)), row, (y.shape[0], width, signs, np.float32(1.0 / math.sqrt(ROWS)))


def turn_of(size: int, signs: Any) -> Turn | None:
    """The transform of this size and these signs, where kernels can note it: signs that no step changes, one for each of its rows."""
    if size != ROWS or feed.fed(signs) or device.on_device(signs):
        return None
    held = np.empty(0, np.float32) if signs is None else np.ascontiguousarray(signs, np.float32)
    return Turn(held.tobytes()) if signs is None or held.shape == (ROWS,) else None


def turned(x: Any, turn: Turn | None) -> Note | None:
    """What was noted of x and of its transform; None where it was not: then who writes such a shape will, if it can."""
    if turn is None:
        return None
    note, turns = _note(x), getattr(_now, "turns", None)
    if note is not None and note.turn == turn and note.shape == x.shape:
        return note
    if turns is not None:
        turns[x.shape] = turn
    return None


def of(x: Any) -> Any:
    """float32 bits of the greatest magnitude of x, uint32 [1] on the device, where noted of this array or the one that it views; None else."""
    note = _note(x)
    return None if note is None else note.plain


def _note(x: Any) -> Note | None:
    for one in (x, x.base):
        there, note = _held.get(id(one), (None, None))
        if there is not None and there() is one and (one.size, one.dtype, one.data.ptr) == (x.size, x.dtype, x.data.ptr):
            return note
    return None


def _hold(y: Any, note: Note) -> None:
    key = id(y)
    _held[key] = weakref.ref(y, lambda _: _held.pop(key, None)), note
