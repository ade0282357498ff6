r"""The number line of a format, for proofs: its values as fractions on each side of zero, and what lies beyond the last one.

Read off the table of values (`Format.decode` over all codes) and the family's statement about the ends:

- floats: one more step of the last binade, the value that an unbounded exponent would give (rounding may reach it: overflow)
- integers: max + 1, min - 1
- code books: nothing; beyond the last value is an overflow at once

Midpoints are arithmetic unless the format says otherwise (`Format.midpoint`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from lpref.ref.formats import FloatFormat, Format, IntFormat


@dataclass(frozen=True)
class Point:
    """A value's magnitude and its code."""

    magnitude: Fraction
    code: int


@dataclass(frozen=True)
class Line:
    """See the module's page. `next_above`, `next_below`: magnitudes of the virtual neighbours; equal to the last: none; None: no end."""

    positive: tuple[Point, ...]  # ascending magnitudes, zero left out
    negative: tuple[Point, ...]
    zero: int | None
    minus_zero: int | None
    infinity: int | None
    minus_infinity: int | None
    nan_codes: frozenset[int]
    next_above: Fraction | None
    next_below: Fraction | None
    midpoint: str = "arithmetic"
    zero_is_outside: bool = False

    @property
    def has_zero(self) -> bool:
        return self.zero is not None

    @property
    def smallest_code(self) -> int:
        """The code of the smallest value of a format without negative ones."""
        return self.zero if self.zero is not None else self.positive[0].code

    def zero_code(self, negative: bool) -> int:
        """The code that ±0 becomes; in a format without zero, the first positive value's."""
        if self.zero is None:
            return self.positive[0].code
        return self.minus_zero if negative and self.minus_zero is not None else self.zero

    def middle(self, lower: Fraction, upper: Fraction) -> tuple[Fraction, int] | None:
        """The midpoint as (number, root), None where it is the arithmetic one."""
        return (lower * upper, 2) if self.midpoint == "geometric" and lower > 0 else None


@lru_cache(maxsize=64)
def line(f: Format) -> Line:
    """The number line of a format of at most 16 bits."""
    codes = np.arange(2**f.bits, dtype=np.uint64)
    values = np.asarray(f.decode(codes), np.float64)
    sides: dict[bool, dict[Fraction, int]] = {False: {}, True: {}}
    for code, value in zip(codes.tolist(), values.tolist(), strict=True):
        if value and np.isfinite(value):
            sides[value < 0].setdefault(Fraction(abs(value)), code)
    positive, negative = (tuple(Point(m, c) for m, c in sorted(sides[s].items())) for s in (False, True))
    zeros = [(c, bool(np.signbit(values[c]))) for c in np.flatnonzero(values == 0).tolist()]
    zero = next((c for c, minus in zeros if not minus), None)
    above, below = _ends(f, positive, negative)
    return Line(
        positive, negative, zero, next((c for c, minus in zeros if minus), None),
        _first(np.isposinf(values)), _first(np.isneginf(values)), frozenset(np.flatnonzero(np.isnan(values)).tolist()),
        above, below, getattr(f, "midpoint", "arithmetic"), zero is None and not f.signed,
    )  # fmt: skip


def _first(where: np.ndarray) -> int | None:
    found = np.flatnonzero(where)
    return int(found[0]) if found.size else None


def _ends(f: Format, positive: tuple[Point, ...], negative: tuple[Point, ...]) -> tuple[Fraction | None, Fraction | None]:
    """(next above, next below), magnitudes."""
    if isinstance(f, FloatFormat):
        top = positive[-1].magnitude
        above = top + Fraction(2) ** (f.emax - f.trailing_bits)
        return above, above if negative else positive[0].magnitude
    if isinstance(f, IntFormat):
        return Fraction(f.max) + 1, Fraction(-f.min) + 1
    return positive[-1].magnitude, negative[-1].magnitude if negative else Fraction(0)
