"""`Levels`: what a scale rule gives the pass over the elements, and what of it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lpref.accel.cuda import cast, elementwise
from lpref.ref.formats import format as format_named

MULTIPLY, DIVIDE, SPAN, CENTERED, ROUNDED, SQUEEZED = range(6)
"""How an element meets its scale: `lp_scaled` of core/rules.h."""
NOTHING, HALF, TOP = range(3)
"""What else the pass counts: nothing, elements that would overflow at half the scale, the largest magnitude of a code."""


@dataclass(frozen=True, eq=False)
class Levels:
    """Scales of the grid, on the device.

    values   float32, what decoding multiplies with; NaN: the block decodes to NaN
    factors  float32, what an element is divided by or multiplied with
    how      the operation; offsets: what it subtracts; stop, down: the numbers of ROUNDED
    points   int32 zero points of the grid, or None
    codes    stored scales where they are not those that the rule's kernel has written; more: further stored levels; aux: as `QTensor.aux`
    more_of  what else is counted
    told     names of what the row of counters holds beyond the four counts, in order
    shown    further observations: arrays on the device by name
    """

    values: Any
    factors: Any
    how: int
    offsets: Any = None
    stop: float = 1.0
    down: float = 1.0
    points: Any = None
    codes: Any = None
    more: tuple[Any, ...] = ()
    aux: Mapping[str, Any] | None = None
    more_of: int = NOTHING
    told: tuple[str, ...] = ()
    shown: Mapping[str, Any] = field(default_factory=dict)


def stored(values: Any, name: str) -> tuple[Any, Any]:
    """(codes, the float32 that they decode to) of scales in their stored format, to nearest even, saturated."""
    if name == "float32":
        return values.view(np.uint32), values
    codes = cast.encode(values, name)
    return codes, cast.decode(codes, name)


def raised(values: Any, name: str) -> Any:
    """Scales at least the smallest positive value of their stored format; NaN stays."""
    return elementwise.maximum(values, np.float32(format_named(name).min_subnormal))


def inverse(values: Any) -> Any:
    """min(1 / s, FLT_MAX)."""
    return elementwise.minimum(elementwise.div(np.float32(1), values), np.float32(np.finfo(np.float32).max))
