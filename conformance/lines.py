r"""The number line of a format, for proofs: its values as fractions on each side of zero, and what lies beyond the last one.

Read off the table of values (`Format.decode` over all codes) and the family's statement about the ends:

- floats: one more step of the last binade, the value that an unbounded exponent would give (rounding may reach it: overflow)
- integers: max + 1, min - 1
- code books: nothing, beyond the last value is an overflow at once; or the magnitude that the book names as `beyond`

Midpoints are arithmetic, geometric (sqrt(l u); next to zero arithmetic) or listed by the book.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import numpy as np

from lpref.ref.formats import CodebookFormat, FloatFormat, Format, IntFormat


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
    middles: tuple[Mapping[Fraction, Fraction], ...] = ({}, {})  # listed ones, positive and negative: lower magnitude -> midpoint's
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

    def middle(self, lower: Fraction, upper: Fraction, negative: bool) -> tuple[Fraction, int]:
        """The midpoint of two neighbouring magnitudes, as (number, which root of it)."""
        if lower in self.middles[negative]:
            return self.middles[negative][lower], 1
        return (lower * upper, 2) if self.midpoint == "geometric" and lower > 0 else ((lower + upper) / 2, 1)


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
        above, below, f.midpoint, _listed(f, values), zero is None and isinstance(f, FloatFormat),
    )  # fmt: skip


def _listed(f: Format, values: np.ndarray) -> tuple[dict[Fraction, Fraction], dict[Fraction, Fraction]]:
    """Lower magnitude -> magnitude of the midpoint, where the book lists them; positive and negative."""
    sides: tuple[dict[Fraction, Fraction], dict[Fraction, Fraction]] = {}, {}
    middles = f.middles if isinstance(f, CodebookFormat) else ()
    ascending = np.unique(values[np.isfinite(values)] + 0.0).tolist()
    for (a, b), m in zip(pairwise(ascending) if middles else (), middles, strict=True):
        if (a < 0) == (b < 0) or 0 in (a, b):
            sides[m < 0][Fraction(min(abs(a), abs(b)))] = Fraction(abs(m))
    return sides


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
    beyond = f.beyond if isinstance(f, CodebookFormat) else None
    above = positive[-1].magnitude if beyond is None else Fraction(beyond)
    below = negative[-1].magnitude if negative else Fraction(0)
    return above, below if beyond is None or not negative else above
