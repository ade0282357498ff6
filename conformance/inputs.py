"""The inputs that tell casts apart: for a format, every value, every midpoint, and their neighbours in the input's dtype.

A cast of x depends only on where x lies between two neighbouring values v < w: on v, on w, below, at, or above the
midpoint (v + w)/2. One float just beside each of these decides all the others of a monotone cast. So, for formats of at
most 16 bits, the classes below are complete up to monotonicity (which `run_suite` checks on its own).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.ref.formats import Format
from lpref.ref.random import words

SAMPLES = 4096  # codes of formats too wide to list


def table(f: Format) -> np.ndarray:
    """The finite values of f, ascending; of formats above 16 bits a fixed sample with the neighbours of each."""
    if f.bits <= 16:
        return f.table()[0]
    last = np.uint64(2**f.bits - 1)
    codes = words(0, 0, 0, 0, 2 * SAMPLES).astype(np.uint64).reshape(2, SAMPLES)
    codes = (codes[0] | codes[1] << np.uint64(32)) & last
    around = [np.clip(codes, 1, last - np.uint64(1)) + np.uint64(d) - np.uint64(1) for d in (0, 1, 2)]
    values = f.decode(np.concatenate([*around, np.arange(64, dtype=np.uint64)]))
    return np.unique(values[np.isfinite(values)]) + 0.0


def beside(x: np.ndarray, dtype: Any) -> np.ndarray:
    """x (float64, any values) as elements of dtype: itself where exact, and the next two below and above."""
    with np.errstate(over="ignore"):  # beyond dtype's range: infinity, dropped below
        near = x.astype(dtype)
    ups = np.nextafter(near, dtype(np.inf))
    downs = np.nextafter(near, dtype(-np.inf))
    out = np.concatenate([near, ups, downs, np.nextafter(ups, dtype(np.inf)), np.nextafter(downs, dtype(-np.inf))])
    return distinct(out[np.isfinite(out)])


def distinct(x: np.ndarray) -> np.ndarray:
    """The distinct bit patterns of x, ordered by |x| (so that the first failure is the smallest)."""
    unsigned = np.dtype(f"uint{8 * x.dtype.itemsize}")
    patterns = np.unique(x.view(unsigned)).view(x.dtype)
    return patterns[np.argsort(np.abs(patterns), kind="stable")]


def codes(f: Format, dtype: Any = np.float32) -> np.ndarray:
    """Every value of f that dtype holds, −0 included."""
    values = table(f)
    with np.errstate(over="ignore"):
        held = values.astype(dtype)
    held = held[held == values]
    return distinct(np.concatenate([held, dtype([0.0]), -dtype([0.0])]) if 0 in held else held)


def neighbours(f: Format, dtype: Any = np.float32) -> np.ndarray:
    """The numbers just beside every value."""
    return beside(table(f), dtype)


def midpoints(f: Format, dtype: Any = np.float32) -> np.ndarray:
    """Every midpoint of two neighbouring values, and the numbers just beside it; also where the format's own rule changes over."""
    values = table(f)
    middle = beside(values[:-1] + (values[1:] - values[:-1]) / 2, dtype)
    if getattr(f, "midpoint", "arithmetic") == "arithmetic":
        return middle
    return distinct(np.concatenate([middle, beside(changes(f, dtype).astype(np.float64), dtype)]))


def ordered(x: np.ndarray) -> np.ndarray:
    """Floats as int64 of the same order; -0 is next to +0."""
    bits = 8 * x.dtype.itemsize
    i = x.view(np.dtype(f"int{bits}")).astype(np.int64)
    magnitude = i & np.int64(2 ** (bits - 1) - 1)
    return np.where(i < 0, -1 - magnitude, magnitude)


def from_ordered(i: np.ndarray, dtype: Any) -> np.ndarray:
    """The inverse of `ordered`."""
    unsigned = np.dtype(f"uint{8 * np.dtype(dtype).itemsize}")
    values = np.where(i < 0, -1 - i, i).astype(unsigned).view(dtype)
    return np.where(i < 0, -values, values)


def changes(f: Format, dtype: Any = np.float32) -> np.ndarray:
    """The largest number of dtype that rounds (nearest_even) to the lower of each two neighbouring values, by bisection.

    >>> from lpref.ref.formats import format
    >>> changes(format("e2m1")).tolist()[-3:]
    [2.5, 3.4999997615814453, 5.0]
    """
    with np.errstate(over="ignore"):
        values = np.unique(table(f).astype(dtype))
    values = values[np.isfinite(values)]
    low, high = ordered(values[:-1] + dtype(0)), ordered(values[1:] + dtype(0))
    home = f.encode(values[:-1])
    while (wide := high - low > 1).any():
        middle = low + (high - low) // 2
        same = f.encode(from_ordered(middle, dtype)) == home
        low, high = np.where(wide & same, middle, low), np.where(wide & ~same, middle, high)
    return from_ordered(low, dtype)


def word_steps(f: Format, r: int, dtype: Any = np.float32, count: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """(x, words of r bits) where the variants of stochastic rounding differ: x at multiples of 2^-(r+1) between two values, the word at the
    one with which x goes up, the one before and the one after.
    """
    values = table(f)
    place = words(0, 8, 0, 0, 2 * count).astype(np.int64).reshape(2, count)
    low = values[place[0] % (values.size - 1)]
    high = values[place[0] % (values.size - 1) + 1]
    step = place[1] % 2 ** min(r + 1, 31) << max(0, r + 1 - 31)
    share = np.ldexp(step.astype(np.float64), -(r + 1))
    toward = np.where(np.abs(low) <= np.abs(high), low + (high - low) * share, high + (low - high) * share)
    need = 2**r - (step >> 1) + np.arange(count) % 4 - 2
    with np.errstate(over="ignore"):
        x = toward.astype(dtype)
    good = (x == toward) & (low * high >= 0)
    return x[good], np.clip(need, 0, 2**r - 1).astype(np.uint32)[good]


def overflow_edges(f: Format, dtype: Any = np.float32) -> np.ndarray:
    """Around max, around the midpoint to the value that would follow max, around that value; the same below."""
    values = table(f)
    low, high = values[0] - values[1], values[-1] - values[-2]
    with np.errstate(over="ignore"):
        edges = [values[-1] + high * np.array([0, 0.5, 1, 2]), values[0] + low * np.array([0, 0.5, 1, 2])]
        big = dtype([np.finfo(dtype).max, -np.finfo(dtype).max])
        return distinct(np.concatenate([beside(np.concatenate(edges), dtype), big]))


def subnormal_edges(f: Format, dtype: Any = np.float32) -> np.ndarray:
    """Around ±min_normal, ±min_subnormal, half of it, dtype's own smallest numbers, and ±0."""
    tiny = np.array([f.min_normal, f.min_normal * (1 - 2.0**-12), f.min_subnormal, 1.5 * f.min_subnormal])
    tiny = np.concatenate([tiny, tiny / 2, [float(np.finfo(dtype).smallest_subnormal), float(np.finfo(dtype).tiny)]])
    return distinct(np.concatenate([beside(np.concatenate([tiny, -tiny]), dtype), dtype([0.0]), -dtype([0.0])]))


def specials(dtype: Any = np.float32) -> np.ndarray:
    """±0, ±infinity, NaNs of both signs: quiet ones, the smallest payload (a carry-free add makes it infinity), the largest (it wraps)."""
    bits = 8 * np.dtype(dtype).itemsize
    unsigned = np.dtype(f"uint{bits}").type
    inf = int(np.array(np.inf, dtype).view(unsigned))
    quiet = inf | (~inf & (1 << (bits - 1)) - 1) + 1 >> 1
    minus, ones = 1 << (bits - 1), (1 << (bits - 1)) - 1
    nans = [inf | quiet, inf | quiet | 1, minus | inf | quiet, inf | 1, minus | inf | 1, ones, minus | ones]
    return np.concatenate([dtype([0.0, -0.0, np.inf, -np.inf]), np.array(nans, unsigned).view(dtype)])


def spread(dtype: Any = np.float32, count: int = 1 << 15) -> np.ndarray:
    """Bit patterns drawn evenly (Philox, fixed), all powers of two with their neighbours; finite."""
    raw = words(0, 1, 0, 0, count * np.dtype(dtype).itemsize // 4)
    patterns = raw.view(dtype) if np.dtype(dtype).itemsize >= 4 else raw.astype(np.uint16).view(dtype)
    info = np.finfo(dtype)
    powers = np.ldexp(1.0, np.arange(info.minexp - info.nmant, info.maxexp))
    return distinct(np.concatenate([patterns[np.isfinite(patterns)], beside(np.concatenate([powers, -powers]), dtype)]))
