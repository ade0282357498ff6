r"""Code books whose true values are no float64s: what decode rounds, and what encode does not.

The true values (roots of two in lns, tenths in apot) define the format. `values` are their float64 roundings, correctly
rounded: that is all `decode` can say, and `exact` is False. The nearest roundings compare x with the midpoints of the
**true** values: for each pair of neighbours `middles` holds the float64 at or next below the magnitude of that midpoint,
and `ties` whether it is the midpoint itself. No float64 lies between the two, so every decision is the exact one.
Directed roundings take x for a value where x equals its float64; stochastic ones take nu between the float64 values.
`round` of narrower floats rounds the float64 once more, to their dtype; so it may step on by one value if a directed
rounding is applied to its own float32 result.

Source: IEEE 754-2019, sec. 4.3 (correct rounding), applied to the true values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from lpref.ref.formats.codebook import CodebookFormat


@dataclass(frozen=True, kw_only=True)
class InexactCodebook(CodebookFormat):
    """A code book of rounded values with exact midpoints."""

    ties: tuple[bool, ...]  # of each of `middles`: it is the midpoint, not the float64 below it
    middle: str = "listed"
    exact: bool = False

    @cached_property
    def _changes(self) -> tuple[np.ndarray, np.ndarray]:
        return np.abs(np.array(self.middles)), np.array(self.ties)


def floor_float(x: Fraction) -> float:
    """The float64 at or next below x > 0.

    >>> floor_float(Fraction(1, 10)).hex(), floor_float(Fraction(1, 4))
    ('0x1.9999999999999p-4', 0.25)
    """
    near = float(x)  # correctly rounded
    return near if Fraction(near) <= x else math.nextafter(near, 0.0)
