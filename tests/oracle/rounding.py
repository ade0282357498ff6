"""Rounding by definition: find the two neighbours in the list, decide, look up the code."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

from .table import HALF, Table

DETERMINISTIC = (
    "nearest_even", "nearest_away", "nearest_toward_zero", "toward_zero", "toward_positive", "toward_negative", "to_odd",
)  # fmt: skip
STOCHASTIC = ("stochastic", "stochastic_b", "stochastic_c", "stochastic_odd", "stochastic_uniform")


@dataclass(frozen=True)
class Place:
    """x between two neighbours: `lower` is nearer to zero; codes are None outside the range."""

    negative: bool
    lower: int | None
    upper: int | None
    nu: Fraction
    side: int | None = None  # sign of |x| - midpoint where the midpoint is not the arithmetic mean
    below: bool = False  # not above the range's lower end, though not negative (zero in a format without zero)


def place(table: Table, x: Fraction) -> Place:
    """Where x lies. x is finite."""
    values, negative = table.values, x < 0
    gap = table.gap if table.minus_zero is None else None
    if gap and gap[0][0] < x < gap[1][0]:  # no value nearer to zero: the sign
        return Place(negative, gap[0 if negative else 1][1], None, Fraction(0))
    if table.name == "e8m0" and x < values[0][0]:
        return Place(negative, None if x <= 0 else 0, None, Fraction(0), below=x <= 0)
    if table.never_zero and x != 0:
        x = max(x, table.smallest) if x > 0 else min(x, -table.smallest)
    if not values[0][0] <= x <= values[-1][0]:
        return Place(negative, None, None, Fraction(0))
    i = bisect_right(values, x, key=lambda p: p[0]) - 1
    if values[i][0] == x:
        return Place(negative, values[i][1], None, Fraction(0))
    low, high = values[i], values[i + 1]
    if negative:
        low, high = high, low
    side = table.side(abs(x), low[1] or 0, high[1] or 0) if table.side else None
    return Place(negative, low[1], high[1], (x - low[0]) / (high[0] - low[0]), side)


def up(table: Table, p: Place, rule: str, word: int = 0, r: int = 0) -> bool:
    """Does the magnitude go up?"""
    nu = p.nu
    odd = p.lower is not None and p.lower % 2 == 1
    if rule in STOCHASTIC:
        scaled = nu * 2**r
        if rule == "stochastic":
            return scaled.__floor__() + word >= 2**r
        if rule == "stochastic_b":
            return (2 * scaled).__floor__() + 2 * word + 1 >= 2 ** (r + 1)
        if rule == "stochastic_uniform":  # the increment is added, then the sum is rounded to nearest, ties to the even code
            place = nu + Fraction(2 * word + 1, 2 ** (r + 1)) - HALF
            return place > HALF or (place == HALF and odd)
        down = scaled.__floor__()
        if rule == "stochastic_odd" and scaled - down == HALF:
            return down + (down % 2 == 0) + word >= 2**r
        return round(scaled) + word >= 2**r
    tie = {"even": odd, "up": not p.negative, "down": p.negative, "toward_zero": False, "away": True}[table.tie]
    side = p.side if p.side is not None else (nu > HALF) - (nu < HALF)
    return {
        "nearest_even": side > 0 or (side == 0 and tie),
        "nearest_away": side >= 0,
        "nearest_toward_zero": side > 0,
        "toward_zero": False,
        "toward_positive": nu > 0 and not p.negative,
        "toward_negative": nu > 0 and p.negative,
        "to_odd": nu > 0 and not odd,
    }[rule]


def finite_code(table: Table, p: Place, rule: str, word: int = 0, r: int = 0) -> tuple[int, bool]:
    """(the code under saturation, whether the range was left). The sign of zero follows x where there is a -0."""
    code = p.upper if p.nu > 0 and up(table, p, rule, word, r) else p.lower
    if code is None:
        return table.finite[0 if p.negative or p.below else -1][1], True
    if p.negative and table.codes[code] == 0 and table.minus_zero is not None:
        code = table.minus_zero
    return code, False
