r"""The number line of a format, for proofs: its values as fractions on each side of zero, and what lies beyond the last one.

Read off the table of values (`Format.decode` over all codes) and the family's statement about the ends:

- floats: one more step of the last binade, the value that an unbounded exponent would give (rounding may reach it: overflow)
- integers and fixed point: one unit beyond max and min
- code books: nothing, beyond the last value is an overflow at once; or the magnitude that the book names as `beyond`

- tapered formats (posits, takums): nothing; and nothing but 0 itself becomes 0

Midpoints are arithmetic, geometric (sqrt(l u); next to zero arithmetic), listed by the book, or the value of the bit string followed by
a 1, in the family's member of one bit more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import numpy as np

from lpref.ref.formats import CodebookFormat, FloatFormat, Format, IntFormat
from lpref.ref.formats.inexact import InexactCodebook
from lpref.ref.formats.p3109 import P3109Format
from lpref.ref.formats.posit import PositFormat
from lpref.ref.formats.tapered import TaperedFormat


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
    met: tuple[Mapping[Fraction, bool], ...] = ({}, {})  # of listed ones: false where it is only the float64 below the midpoint
    zero_is_outside: bool = False
    never_to_zero: bool = False
    odd_end: bool = False  # to_odd stays at an odd last code where infinity is the next one

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

    def middle(self, lower: Fraction, upper: Fraction, negative: bool) -> tuple[Fraction, int, bool]:
        """The midpoint of two neighbouring magnitudes, as (number, which root of it, whether it is met or lies just above)."""
        if lower in self.middles[negative]:
            return self.middles[negative][lower], 1, self.met[negative].get(lower, True)
        return (lower * upper, 2, True) if self.midpoint == "geometric" and lower > 0 else ((lower + upper) / 2, 1, True)


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
        above, below, f.midpoint, *_listed(f, values), zero is None and isinstance(f, FloatFormat), isinstance(f, TaperedFormat),
        isinstance(f, P3109Format) and f.extended,
    )  # fmt: skip


Sides = tuple[dict[Fraction, Fraction], dict[Fraction, Fraction]]
Met = tuple[dict[Fraction, bool], dict[Fraction, bool]]


def _listed(f: Format, values: np.ndarray) -> tuple[Sides, Met]:
    """Lower magnitude -> magnitude of the midpoint, and whether that is met, where the format lists them; positive and negative."""
    sides: Sides = ({}, {})
    met: Met = ({}, {})
    if isinstance(f, TaperedFormat):
        return _bit_strings(f)
    middles = f.middles if isinstance(f, CodebookFormat) else ()
    exact = f.ties if isinstance(f, InexactCodebook) else (True,) * len(middles)
    ascending = np.unique(values[np.isfinite(values)] + 0.0).tolist()
    for (a, b), m, tie in zip(pairwise(ascending) if middles else (), middles, exact, strict=True):
        if (a < 0) == (b < 0) or 0 in (a, b):
            lower = Fraction(min(abs(a), abs(b)))
            sides[m < 0][lower], met[m < 0][lower] = Fraction(abs(m)), tie
    return sides, met


def _bit_strings(f: TaperedFormat) -> tuple[Sides, Met]:
    """Midpoints of a tapered format: the odd codes of the family's member of one bit more."""
    codes = np.arange(2 ** (f.bits - 1), dtype=np.uint64)
    lower = f.decode(codes).tolist()
    wider = [posit_value(2 * c + 1, f.bits + 1, f.es) for c in codes.tolist()] if isinstance(f, PositFormat) else None
    middles = wider or [Fraction(m) for m in f._middle(codes).tolist()]
    side = {Fraction(a): m for a, m in zip(lower, middles, strict=True)}
    met = dict.fromkeys(side, f.exact)
    return (side, side), (met, met)


def posit_value(code: int, bits: int, es: int) -> Fraction:
    """The value of a positive posit, from the standard's text: regime, exponent, fraction, bits beyond the end 0.

    >>> [str(posit_value(c, 4, 1)) for c in (1, 2, 4, 7)]
    ['1/16', '1/4', '1', '16']
    """
    string = f"{code:0{bits - 1}b}"
    run = len(string) - len(string.lstrip(string[0]))
    k = run - 1 if string[0] == "1" else -run
    rest = string[run + 1 :].ljust(es, "0")
    fraction = rest[es:]
    e = int(rest[:es] or "0", 2)
    return (1 + Fraction(int(fraction or "0", 2), 2 ** len(fraction))) * Fraction(2) ** (k * 2**es + e)


def _first(where: np.ndarray) -> int | None:
    found = np.flatnonzero(where)
    return int(found[0]) if found.size else None


def _ends(f: Format, positive: tuple[Point, ...], negative: tuple[Point, ...]) -> tuple[Fraction | None, Fraction | None]:
    """(next above, next below), magnitudes."""
    if isinstance(f, TaperedFormat):
        return positive[-1].magnitude, negative[-1].magnitude
    if isinstance(f, FloatFormat):
        top = positive[-1].magnitude
        above = top + Fraction(2) ** (f.emax - f.trailing_bits)
        return above, above if negative else positive[0].magnitude
    if isinstance(f, IntFormat):
        unit = positive[0].magnitude
        return Fraction(f.max) + unit, Fraction(-f.min) + unit
    beyond = f.beyond if isinstance(f, CodebookFormat) else None
    above = positive[-1].magnitude if beyond is None else Fraction(beyond)
    below = negative[-1].magnitude if negative else Fraction(0)
    return above, below if beyond is None or not negative else above
