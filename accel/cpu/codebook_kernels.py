"""Code-book quantizers (NF4, dynamic 8-bit maps) as Numba kernels: a table by the upper half of the float's bits, then a few comparisons.

A threshold is the largest float32 that `encode` still sends to the lower of two neighbouring values, so ties fall as the format says. All
floats with the same upper 16 bits lie between thresholds `first` and `first + steps`; the others are compared with. (v1, a binary search
among the thresholds, was three to six times slower: its branches cannot be foreseen.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lpref.accel.cpu.bitcast import to_bits
from lpref.accel.cpu.quantize_kernels import OPTIONS, TILE, nibbles_row, scale_row, spread_row, values_row
from lpref.ref.formats import format as format_named


@dataclass(frozen=True, eq=False)
class Book:
    """thresholds: ascending float32 [n - 1] and `steps` infinities; first: thresholds below each class of floats with equal upper bits;
    codes and values of the n values in ascending order."""

    thresholds: NDArray[np.float32]
    first: NDArray[np.uint8]
    steps: int
    codes: NDArray[np.uint8]
    values: NDArray[np.float32]


@cache
def book_of(format_name: str) -> Book:
    """The search table of a code book, found by bisection with the format's own `encode`."""
    fmt = format_named(format_name)
    values, codes = fmt.table()
    lower = values[:-1]
    low, high = values[:-1].astype(np.float32), values[1:].astype(np.float32)
    while True:
        middle = ((low.astype(np.float64) + high) / 2).astype(np.float32)
        open_ = (middle > low) & (middle < high)
        if not open_.any():
            break
        below = fmt.decode(fmt.encode(middle)) <= lower
        low, high = np.where(open_ & below, middle, low), np.where(open_ & ~below, middle, high)
    upper = np.arange(2**16, dtype=np.uint32) << np.uint32(16)
    ends = np.stack([upper.view(np.float32), (upper | np.uint32(0xFFFF)).view(np.float32)])
    ends[:, ~np.isfinite(ends).all(axis=0)] = 0  # the kernels see no infinity and no NaN
    first, last = np.searchsorted(low, np.min(ends, axis=0)), np.searchsorted(low, np.max(ends, axis=0))
    steps = int(np.max(last - first))
    spare = np.full(steps, np.inf, np.float32)
    return Book(np.concatenate([low, spare]), first.astype(np.uint8), steps, codes.astype(np.uint8), values.astype(np.float32))


@njit(**OPTIONS)
def run(x, br, bc, factors, scales, divide, limits, thresholds, start, steps, book_codes, book_values, values, codes, bits, r0, r1):  # type: ignore[no-untyped-def]
    """Rows r0 .. r1 of a code-book quantizer; arguments as in `quantize_kernels.run`."""
    C = x.shape[1]
    width = min(C, TILE)
    factor, scale = np.empty(width, np.float32), np.empty(width, np.float32)
    u, v, wide = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, codes.dtype)
    over, under = 0, 0
    for c0 in range(0, C, TILE):
        n = min(TILE, C - c0)
        for r in range(r0, r1):
            if r == r0 or r % br == 0:
                spread_row(factors, r // br, bc, c0, n, factor)
                spread_row(scales, r // br, bc, c0, n, scale)
            row = x[r, c0 : c0 + n]
            scale_row(row, factor, divide, np.float32(1), u)
            for c in range(n):
                first = np.uint32(start[np.uint32(to_bits(u[c])) >> np.uint32(16)])
                for _ in range(steps):
                    first += np.uint32(u[c] > thresholds[first])
                v[c] = book_values[first]
                wide[c] = book_codes[first]
                over += (u[c] > limits[3]) | (u[c] < limits[2])
                under += (row[c] != 0) & ((v[c] == 0) | (scale[c] == 0))
            if codes.size and bits == 4:
                nibbles_row(wide, n, codes[r, c0 // 2 : c0 // 2 + (n + 1) // 2])
            elif codes.size:
                codes[r, c0 : c0 + n] = wide[:n]
            if values.size:
                values_row(v, n, scale, np.float32(-0.0), values[r], c0)
    return over, under
