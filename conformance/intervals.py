r"""The definition of a cast as a step function of all 2^32 float32 patterns, derived from the format's table alone.

A deterministic cast (or a stochastic one under one fixed word) is monotone: every code owns one interval of magnitudes on each side of zero.
With the neighbours l < u of a magnitude in the table and nu = (|x| - l)/(u - l), every rounding is

    up  iff  nu > theta, or nu = theta and `inclusive`,

| rounding                                | theta                              | inclusive                        |
|-----------------------------------------|------------------------------------|----------------------------------|
| nearest_even, _away, _toward_zero       | 1/2                                | the tie rule; yes; no            |
| toward_zero; to_odd where l is odd      | 1: u itself is the first           | yes                              |
| toward_positive, _negative; to_odd else | 0 for that sign, else 1            | no, else yes                     |
| stochastic    (A) with the word R       | (2^r - R) / 2^r                    | yes                              |
| stochastic_b                            | (2^(r+1) - 2R - 1) / 2^(r+1)       | yes                              |
| stochastic_c                            | (2^r - R - 1/2) / 2^r              | where 2^r - R is even            |
| stochastic_odd                          | (2^r - R - 1/2) / 2^r              | where 2^r - R is odd             |
| stochastic_uniform                      | (2^(r+1) - 2R - 1) / 2^(r+1)       | where the code of l is odd       |

so the border between two codes is l + theta (u - l): a rational number (geometric midpoints: the root of one), turned into the first float32
at or above it with integers. Nothing here calls `Format.encode` or a kernel; the table of values and the names of the rules are all that
the two share. NaN inputs are one class: any NaN code will do. Where the definition refuses an input, the run's code is `REFUSED`.

>>> import lpref
>>> r = intervals(lpref.format("e2m1"), "nearest_even", "saturate")
>>> [(hex(a), c) for a, c in zip(r.starts[:4].tolist(), r.codes.tolist())]
[('0x0', 0), ('0x3e800001', 1), ('0x3f400000', 2), ('0x3fa00001', 3)]
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from lpref.conformance.lines import Line, Point, line
from lpref.ref.errors import LprefError, SpecError
from lpref.ref.formats import Format
from lpref.ref.rounding import Overflow, Rounding, default_word_bits
from lpref.ref.rounding import overflow as overflow_of
from lpref.ref.rounding import rounding as rounding_of

PATTERNS = 1 << 32
INFINITY = 0x7F800000
NEGATIVE = 0x80000000
ANY_NAN = -1
"""In place of a code: every code that means NaN will do."""
REFUSED = -2
"""In place of a code: the definition raises."""


@dataclass(frozen=True)
class Intervals:
    """Run j holds the patterns starts[j] … starts[j + 1] - 1, whose code is codes[j] (or `ANY_NAN`, `REFUSED`)."""

    format: Format
    starts: np.ndarray  # int64 [n + 1], strictly ascending from 0 to 2^32
    codes: np.ndarray  # int64 [n]

    def expected(self, patterns: np.ndarray) -> np.ndarray:
        """The code of each uint32 pattern."""
        return self.codes[np.searchsorted(self.starts, patterns.astype(np.int64), "right") - 1]

    def between(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The runs of the patterns start … stop - 1: (bounds [n + 1], codes [n]); bounds count from `start`."""
        i = int(np.searchsorted(self.starts, start, "right")) - 1
        j = int(np.searchsorted(self.starts, stop, "left"))
        return np.clip(self.starts[i : j + 1], start, stop) - start, self.codes[i:j]

    @property
    def line(self) -> Line:
        """The format's number line."""
        return line(self.format)

    @property
    def refused(self) -> int:
        """How many patterns the definition refuses."""
        return int(np.add.reduce(np.diff(self.starts)[self.codes == REFUSED]))


def intervals(
    f: Format, rounding: str | Rounding, overflow: str | Overflow, word: int = 0, word_bits: int | None = None
) -> Intervals:
    """The step function of one cast; `word` and `word_bits` for the stochastic roundings.

    Raises: SpecError for formats above 16 bits.
    """
    if f.bits > 16:
        raise SpecError([f"{f.name} has {f.bits} bits; proofs over all inputs stop at 16"], where="intervals")
    rule, policy = rounding_of(rounding), overflow_of(overflow)
    r = word_bits or default_word_bits(f.bits)
    cast = _Cast(f, rule, policy, line(f), word & ((1 << r) - 1), r)
    positive = [*cast.half(False)]
    negative = positive if policy.unsigned == "absolute" and not f.signed else [*cast.half(True)]
    runs = [*positive, *((a + NEGATIVE, c) for a, c in negative)]
    starts, codes = [], []
    for j, (start, code) in enumerate(runs):
        stop = runs[j + 1][0] if j + 1 < len(runs) else PATTERNS
        if stop > start:
            starts.append(start)
            codes.append(code)
    return Intervals(f, np.array([*starts, PATTERNS], np.int64), np.array(codes, np.int64))


@dataclass(frozen=True)
class _Cast:
    f: Format
    rule: Rounding
    policy: Overflow
    line: Line
    word: int
    r: int

    def half(self, negative: bool) -> Iterator[tuple[int, int]]:
        """(first magnitude pattern, code) ascending: zero, finite, infinity, NaN of one sign. Later ones win where starts meet."""
        side = self.line.negative if negative else self.line.positive
        outside = self.beyond(negative)
        if self.line.zero_is_outside:  # E8M0: no value for zero, and none below it
            absolute = self.policy.unsigned == "absolute" and not self.f.signed
            yield 0, self.line.positive[0].code if absolute else self.beyond(negative, zero=True)
        elif self.line.minus_zero is not None or not negative:
            yield 0, self.line.zero_code(negative)
        else:
            yield 0, self.line.zero_code(False)
        points = [p for p in side if p.magnitude > 0]
        zero = [Point(Fraction(0), self.line.zero_code(negative))] if self.line.has_zero else []
        if not zero or self.line.never_to_zero:
            yield 1, points[0].code if points else outside
        if self.line.never_to_zero:
            zero = []
        chain = [*zero, *points]
        for lower, upper in pairwise(chain):
            yield self.border(lower, upper, negative), upper.code
        yield from self.end(chain, negative, outside)
        yield INFINITY, self.special("infinity", negative)
        yield INFINITY + 1, self.special("nan", negative)

    def end(self, chain: list[Point], negative: bool, outside: int) -> Iterator[tuple[int, int]]:
        """Where the range ends: a virtual next value that rounding may reach, or at once, or never."""
        if not chain:
            return
        last, step = chain[-1], self.line.next_below if negative else self.line.next_above
        if step is None:
            return
        if step == last.magnitude:
            yield pattern_above(last.magnitude, 1, strict=True), outside
        else:
            yield self.border(last, Point(step, 2**self.f.bits), negative), outside

    def border(self, lower: Point, upper: Point, negative: bool) -> int:
        """The first magnitude pattern that goes up from `lower`."""
        theta, inclusive = self.threshold(lower.code, upper.code, negative)
        if self.rule.nearest:
            middle, root, met = self.line.middle(lower.magnitude, upper.magnitude, negative)
            return pattern_above(middle, root, strict=not (inclusive and met))
        between = lower.magnitude + theta * (upper.magnitude - lower.magnitude)
        return pattern_above(between, 1, strict=not inclusive)

    def threshold(self, lower: int, upper: int, negative: bool) -> tuple[Fraction, bool]:
        """(theta, inclusive) of the module's table, between two codes."""
        name, full, odd = self.rule.name, 1 << self.r, lower % 2 == 1
        if name == "nearest_even":
            tie = {
                "even_significand": odd, "even_code": odd, "lower_code": upper < lower, "up": not negative, "down": negative,
                "away": True, "toward_zero": False,
            }  # fmt: skip
            return Fraction(1, 2), tie[self.f.tie]
        if name in ("nearest_away", "nearest_toward_zero"):
            return Fraction(1, 2), name == "nearest_away"
        if name == "stochastic":
            return Fraction(full - self.word, full), True
        if name == "stochastic_b":
            return Fraction(2 * full - 2 * self.word - 1, 2 * full), True
        if name in ("stochastic_c", "stochastic_odd"):
            return Fraction(2 * (full - self.word) - 1, 2 * full), (full - self.word) % 2 == (name == "stochastic_odd")
        if name == "stochastic_uniform":
            return Fraction(2 * full - 2 * self.word - 1, 2 * full), odd
        leaves = {"toward_zero": False, "toward_positive": not negative, "toward_negative": negative, "to_odd": not odd}
        if name not in leaves:
            raise SpecError([f"rounding {name!r} has no intervals"], where="intervals")
        return (Fraction(0), False) if leaves[name] else (Fraction(1), True)

    def beyond(self, negative: bool, zero: bool = False) -> int:
        """The code of a finite overflow of that sign."""
        ends = self.line.negative[-1:] if negative else self.line.positive[-1:]
        end = ends[0].code if ends else self.line.smallest_code
        if self.policy.finite == "raise":
            return REFUSED
        stops = ("-" if negative else "+") in self.rule.toward_zero_for
        if negative and not self.f.signed:
            if self.policy.unsigned in ("smallest", "nan"):
                return end if stops else self.below_range()
        elif (stops and not zero) or (self.line.odd_end and not negative and end % 2 and self.rule.name == "to_odd"):
            return end
        return self.target("finite", negative or zero, self.line.smallest_code if zero else end)

    def below_range(self) -> int:
        """The sign rules `smallest` and `nan` of unsigned formats."""
        if self.policy.unsigned == "smallest":
            return self.line.smallest_code
        return ANY_NAN if self.line.nan_codes else REFUSED

    def special(self, field: str, negative: bool) -> int:
        """The code of an infinity or of NaN."""
        ends = self.line.negative[-1:] if negative and field == "infinity" else self.line.positive[-1:]
        code = self.target(field, negative and field == "infinity", ends[0].code if ends else self.line.smallest_code)
        below = negative and field == "infinity" and not self.f.signed and self.policy.unsigned in ("smallest", "nan")
        return self.below_range() if below and code != REFUSED else code

    def target(self, field: str, negative: bool, end: int) -> int:
        """What the policy says, as a code."""
        try:
            name = self.policy.resolve(field, self.f.targets, "intervals")
        except LprefError:
            return REFUSED
        if name == "infinity" and negative and not self.f.signed:
            return ANY_NAN if self.line.nan_codes else REFUSED
        found: dict[str, Any] = {
            "max": end, "nan": ANY_NAN, "infinity": self.line.minus_infinity if negative else self.line.infinity,
            "zero": self.line.zero, "negative_zero": self.line.minus_zero, "raise": REFUSED,
        }  # fmt: skip
        return int(found[name])


def pattern_above(numerator: Fraction, root: int, *, strict: bool) -> int:
    """The first non-negative float32 pattern whose value is >= (strict: >) numerator^(1/root), root 1 or 2; at most infinity's.

    >>> hex(pattern_above(Fraction(1), 1, strict=False)), hex(pattern_above(Fraction(1), 1, strict=True))
    ('0x3f800000', '0x3f800001')
    >>> float(np.uint32(pattern_above(Fraction(2), 2, strict=False)).view(np.float32)) ** 2 >= 2
    True
    """
    scale = 160  # float32's grid is 2^-149: between two multiples of 2^-160 lies at most one float32, on a multiple
    scaled = numerator * (1 << (scale * root))
    whole = scaled.numerator // scaled.denominator
    exact = whole * scaled.denominator == scaled.numerator
    if root == 2:
        square, whole = whole, math.isqrt(whole)
        exact = exact and whole * whole == square
    length = whole.bit_length()
    exponent = max(length - 1 - scale, -126)  # floor(log2), float32's smallest normal exponent below
    shift = exponent - 23 + scale
    significand = whole >> shift
    exact = exact and significand << shift == whole
    found = significand if significand < 1 << 23 else ((exponent + 126) << 23) + significand
    return min(found + (strict or not exact), INFINITY)
