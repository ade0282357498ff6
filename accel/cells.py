"""A deterministic cast of at most 16 bits as one table: cells of float32 bit patterns in which the code changes at most once.

Such a cast is a step function of the ordered float32 values. Its steps are found by bisection of the format's own `encode`, so nothing is
defined here: ties, code books, posits, logarithmic formats, overflows, zeros of both signs, infinities and NaN are steps like any other.
A cell is a run of neighbouring bit patterns (sign and magnitude, as they lie in memory) with the code of its first pattern, the code of
its last and the place where the one becomes the other:

    bucket  all patterns with the same upper 16 bits; where at most one step falls into each, buckets are the cells (codes of 8 bits)
    cell    else the 2^k equal parts of a bucket, k just so large that one step is left in each (codes of 16 bits)

and a cast is one look-up, or two, and one comparison, whatever the format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import LprefError
from lpref.ref.formats import Format
from lpref.ref.rounding import ROUNDINGS, Overflow, Rounding

INFINITY_BITS = 0x7F800000
HIGHEST = INFINITY_BITS - 1
LOWEST = -INFINITY_BITS
"""Ordered keys of the finite float32: k >= 0 has the bits k, k < 0 the magnitude -1 - k; -1 is -0."""

Keys = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cells:
    """first: uint32 [65536], of every bucket its first cell x 32 + the right shift of the lower 16 bits; empty where buckets are cells.

    entries: a cell each. uint32: place << 16 | code behind << 8 | code before; uint64: place << 32 | behind << 16 | before. The place is
    that of the lower 16 bits from which on the code behind holds; without a step both codes are the same.
    """

    first: NDArray[np.uint32]
    entries: NDArray[np.uint32] | NDArray[np.uint64]


def cells(f: Format, rule: Rounding, policy: Overflow, raises_above: int, wide: bool = False) -> Cells | None:
    """The cells of a cast; None where it is no step function of the ordered values.

    raises_above: magnitude bits above which the definition raises; what the cells say there is not read. wide: uint64 cells in any case.
    """
    drop = policy.unsigned == "absolute" and not f.signed
    kept = policy if raises_above >= HIGHEST else replace(policy, finite="max", infinity="max")
    found = _steps(lambda k: f.encode(from_key(k), rule, kept), thresholds(f, rule, drop), drop)
    if found is None:
        return None
    keys, codes = found
    zero = int(np.searchsorted(keys, 0))
    above = (keys[zero:], codes[zero:])
    below = above if drop else (-keys[zero:0:-1], codes[:zero][::-1])  # the negative ones by ascending magnitude
    infinity, minus_infinity, nan = (_special(f, x, rule, policy) for x in (np.inf, -np.inf, np.nan))
    tail = [INFINITY_BITS, INFINITY_BITS + 1]
    starts = np.concatenate([above[0], tail, (1 << 31) + np.concatenate([below[0], tail])])
    return _packed(starts, np.concatenate([above[1], [infinity, nan], below[1], [minus_infinity, nan]]), wide or f.bits > 8)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What stochastic rounding asks of a format that is a table.

    table: `Cells` (uint64) of the neighbour nearer to zero, and by its code (+ 2^bits for negative x) its magnitude, the distance to the
    other neighbour (NaN where there is none), float64, and the other neighbour's code. word_bits: with more random bits the products
    of `encode_words_table` would not be exact.
    """

    table: tuple[NDArray, ...]
    word_bits: int


def neighbours(f: Format, policy: Overflow, raises_above: int) -> Neighbours | None:
    """The table of a format whose nu is (|x| - lower) / (upper - lower); None for any other."""
    downward = replace(ROUNDINGS["toward_zero"], toward_zero_for="")  # overflows as stochastic rounding does
    inner = cells(f, downward, policy, raises_above, wide=True)
    values, codes = f.table()
    if inner is None or not f.exact or not _linear(f, values) or _overflows_by_chance(f, policy, raises_above):
        return None
    own = f.decode(np.arange(2**f.bits))
    finite = np.isfinite(own)
    rank = np.searchsorted(values, np.where(finite, own, 0))
    lower, width = np.zeros((2, 2**f.bits)), np.full((2, 2**f.bits), np.nan)
    above = np.zeros((2, 2**f.bits), np.uint16)
    for negative, step in ((0, 1), (1, -1)):
        there = rank + step
        on = finite & (own <= 0 if negative else own >= 0) & (there >= 0) & (there < len(values))
        lower[negative, on] = np.abs(own[on])
        width[negative, on] = np.abs(values[there[on]]) - np.abs(own[on])
        above[negative, on] = codes[there[on]]
    if policy.unsigned == "absolute" and not f.signed:
        lower[1], width[1], above[1] = lower[0], width[0], above[0]
    longest = max((_significant_bits(w) for w in np.unique(width[np.isfinite(width)])), default=1)
    return Neighbours((inner.first, inner.entries, lower.reshape(-1), width.reshape(-1), above.reshape(-1)), 51 - longest)


def from_key(key: Keys) -> NDArray[np.float32]:
    """Ordered keys -> float32 values."""
    bits = np.where(key >= 0, key, (-1 - key) | 0x80000000)
    return bits.astype(np.uint32).view(np.float32)


def to_key(x: NDArray[np.float32]) -> Keys:
    """float32 values -> ordered keys."""
    bits = x.view(np.uint32).astype(np.int64)
    return np.where(bits < 1 << 31, bits, -1 - (bits & 0x7FFFFFFF))


def first_where(low: Keys, high: Keys, holds: Callable[[Keys], NDArray]) -> Keys:
    """The smallest key in low .. high where the monotone predicate holds (high where nowhere below it)."""
    while (low < high).any():
        middle = (low + high) >> 1
        yes = holds(middle)
        low, high = np.where(yes | (low >= high), low, middle + 1), np.where(yes, middle, high)
    return low


def thresholds(f: Format, rule: Rounding, drop: bool = False) -> Keys:
    """The first key that a saturating cast sends to the second, third, ... value of the table, or beyond; drop: of |x|."""
    values = f.table()[0]
    with np.errstate(invalid="ignore"):
        rank = np.searchsorted(values, f.decode(np.arange(2**f.bits)))
    saturate = Overflow("max", "max", unsigned="absolute" if drop else "finite")
    low, high = _nearest_key(values[:-1]) - 2, _nearest_key(values[1:]) + 2  # it lies between the two values
    low, high = (np.clip(k, 0 if drop else LOWEST, HIGHEST + 1) for k in (low, high))
    want = np.arange(1, len(values))
    found = first_where(low, high, lambda k: rank[f.encode(from_key(np.minimum(k, HIGHEST)), rule, saturate)] >= want)
    return found[found <= HIGHEST]


def _nearest_key(values: NDArray[np.float64]) -> Keys:
    with np.errstate(over="ignore"):
        return to_key(values.astype(np.float32))


def _steps(encode: Callable[[Keys], NDArray], starts: Keys, drop: bool) -> tuple[Keys, NDArray] | None:
    """(first keys of the intervals of one code, their codes). Steps that a policy adds, one an interval, are looked for."""
    zeros = [0, 1] if drop else [LOWEST, -1, 0, 1]
    keys = np.unique(np.concatenate([starts, zeros]))
    for _ in range(3):
        last = np.append(keys[1:] - 1, HIGHEST)
        codes = encode(keys).astype(np.int64)
        torn = np.flatnonzero(encode(last) != codes)
        if torn.size == 0:
            return keys, codes
        before = codes[torn]
        more = first_where(keys[torn], last[torn], lambda k, before=before: encode(k) != before)  # type: ignore[misc]
        keys = np.unique(np.concatenate([keys, more]))
    return None


def _special(f: Format, x: float, rule: Rounding, policy: Overflow) -> int:
    try:
        return int(f.encode(np.float32(x), rule, policy))
    except LprefError:
        return 0  # not read


def _packed(starts: NDArray[np.int64], codes: NDArray[np.int64], wide: bool) -> Cells:
    """Bit patterns at which a new code begins, ascending from 0, as cells."""
    change = np.append(True, codes[1:] != codes[:-1])
    starts, codes = starts[change], codes[change]
    split = _split(starts)
    count = 1 << split
    base = np.cumsum(count) - count  # exact: integers
    bucket = np.repeat(np.arange(1 << 16), count)
    shift = 16 - split[bucket]
    begin = (bucket << 16) + (np.arange(bucket.size) - base[bucket] << shift)
    behind = np.searchsorted(starts, begin, "right")
    step = np.append(starts, 1 << 32)[behind]
    has = step < begin + (1 << shift)
    before = codes[behind - 1]
    after, place = np.where(has, np.append(codes, 0)[behind], before), np.where(has, step & 0xFFFF, 0)
    if not wide and not split.any():
        return Cells(np.empty(0, np.uint32), (place << 16 | after << 8 | before).astype(np.uint32))
    return Cells((base << 5 | 16 - split).astype(np.uint32), (place << 32 | after << 16 | before).astype(np.uint64))


def _split(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """k of every bucket: one step at most inside each of its 2^k parts. A step at a part's first pattern is not inside."""
    split = np.zeros(1 << 16, np.int64)
    for k in range(17):
        inside = starts[starts & ((1 << (16 - k)) - 1) != 0] >> (16 - k)
        crowded = inside[1:][inside[1:] == inside[:-1]] >> k
        if crowded.size == 0:
            break
        split[crowded] = k + 1
    return split


def _linear(f: Format, values: NDArray[np.float64]) -> bool:
    """Is the place that `f` gives to a number between two values its distance to the one over the distance of the two?"""
    here, there = np.minimum(np.abs(values[1:]), np.abs(values[:-1])), np.maximum(np.abs(values[1:]), np.abs(values[:-1]))
    same_sign = values[1:] * values[:-1] >= 0
    for part in (0.015625, 0.25, 0.5, 0.9375):
        x = np.copysign(here + (there - here) * part, values[1:] + values[:-1])[same_sign]
        _, _, at = f._locate(x)
        d, w = np.abs(x) - here[same_sign], (there - here)[same_sign]
        if not np.array_equal(np.asarray(at.d) * w, d * np.asarray(at.w)):
            return False
    return True


def _overflows_by_chance(f: Format, policy: Overflow, raises_above: int) -> bool:
    """Do words decide the code of a number beyond the largest values (in formats with a half step there)?"""
    if raises_above < HIGHEST:
        return False
    x = np.array([f.max, min(f.min, -f.min)]) * (1 + 2.0**-9)
    codes = [f.encode(x, "stochastic", policy, np.full(2, word, np.uint32), 32) for word in (0, 2**32 - 1)]
    return bool((codes[0] != codes[1]).any())


def _significant_bits(w: float) -> int:
    """Bits from the first to the last one of a float64."""
    return len(bin(int(np.ldexp(np.frexp(w)[0], 53))).rstrip("0")) - 2
