"""Block quantizers of formats and roundings without a formula, as Numba kernels: scale a row, look its codes up in `cells`, then their values.

Code books, posits, logarithmic and fixed-point elements, directed roundings, other overflow policies: whatever a cast has a table for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lpref.accel.cast_plan import NEVER, VARIANTS, outcomes
from lpref.accel.cells import INFINITY_BITS, cells, neighbours
from lpref.accel.cpu.cast_kernels import encode_cells
from lpref.accel.cpu.cast_stochastic import encode_words_table
from lpref.accel.cpu.quantize_kernels import (
    OPTIONS,
    TILE,
    over_row,
    packed_row,
    scale_row,
    spread_rows,
    under_row,
    values_row,
    words_row,
)
from lpref.accel.cpu.table import look, put
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer
from lpref.ref.rounding import overflow, rounding

NO_TABLE = tuple(np.empty(0, dtype) for dtype in ("u4", "u8", "f8", "f8", "u2"))


@dataclass(frozen=True, eq=False)
class Table:
    """table: first cells and entries of the cast (stochastic: those of `cells.Neighbours`); values: float32 by code; variant: of the
    stochastic rounding, -1 for a deterministic one; clip: whether elements are clamped to the limits first."""

    table: tuple[NDArray, ...]
    values: NDArray[np.float32]
    variant: int
    clip: bool
    exact: bool = True
    """float32 holds the values; where it does not (roots of two), only codes are made by table."""


def table_of(q: Quantizer, word_bits: int) -> Table | None:
    """The table of a quantizer's elements, None where the definition has to make them."""
    fmt, rule, policy = format_named(q.format), rounding(q.rounding), overflow(q.overflow)
    if fmt.bits > 16 or (rule.stochastic and rule.name not in VARIANTS):
        return None
    raises_above = outcomes(fmt, rule, policy)[1]
    values = fmt.decode(np.arange(2**fmt.bits))
    with np.errstate(over="ignore", invalid="ignore"):
        known = values.astype(np.float32)
    exact = np.array_equal(known, values, equal_nan=True)
    if raises_above not in (INFINITY_BITS, NEVER) or not (exact or not rule.stochastic):
        return None
    clip = q.narrow and fmt.min < -fmt.max
    if rule.stochastic:
        near = neighbours(fmt, policy, raises_above)
        return None if near is None or word_bits > near.word_bits else Table(near.table, known, VARIANTS[rule.name], clip)
    found = cells(fmt, rule, policy, raises_above, wide=True)
    return None if found is None else Table((found.first, found.entries, *NO_TABLE[2:]), known, -1, clip, exact)


@njit(**OPTIONS)
def _widened(words, n, out):  # type: ignore[no-untyped-def]
    """out <- n words in int32, so that the look-up is compiled once for all widths."""
    for c in range(n):
        out[c] = words[c]


@njit(**OPTIONS)
def run(  # type: ignore[no-untyped-def]
    x, br, bc, period, factors, scales, divide, multiplier, limits, clip, table, code_values, variant, words, bits, address, values, codes,
    code_bits, r0, r1,
):  # fmt: skip
    """Rows r0 .. r1 of a quantizer; arguments as in `quantize_kernels.run` and `Table`, code_bits the width of a code."""
    C = x.shape[1]
    width = min(C, TILE)
    factor, scale, ones = np.empty(width, np.float32), np.empty(width, np.float32), np.ones(width, np.float32)
    u, v, wide = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.uint16)
    random, buffer = np.empty(width, np.int32), np.empty(4 * (width * max(bits, 1) // 128 + 2), np.uint32)
    over, under = 0, 0
    for c0 in range(0, C, TILE):
        n = min(TILE, C - c0)
        for r in range(r0, r1):
            if r == r0 or r % br == 0:
                spread_rows(factors, r // br, bc, period, c0, n, factor)
                spread_rows(scales, r // br, bc, period, c0, n, scale)
            row = x[r, c0 : c0 + n]
            scale_row(row, factor, divide, multiplier, u)
            over += over_row(u, n, ones, limits[2], limits[3])
            if clip:
                for c in range(n):
                    u[c] = min(max(u[c], limits[0]), limits[1])
            if variant < 0:
                encode_cells(u[:n].view(np.uint32), wide, table[0], table[1])
            else:
                if words.size:
                    _widened(words[r, c0 : c0 + n], n, random)
                else:
                    skip = words_row(r * C + c0, n, bits, address[0], address[1], address[2], address[3], buffer)
                    if bits == 8:
                        _widened(buffer.view(np.uint8)[skip : skip + n], n, random)
                    else:
                        _widened(buffer.view(np.uint16)[skip : skip + n], n, random)
                encode_words_table(u[:n].view(np.uint32), wide, table, random, np.uint32(bits), variant)
            decode_row(wide, n, code_values, v)
            under += under_row(row, v, scale)
            if codes is not None:
                packed_row(wide, n, code_bits, codes[r], c0)
            if values.size:
                values_row(v, n, scale, np.float32(-0.0), values[r], c0)
    return over, under


@njit(**OPTIONS)
def decode_row(codes, n, code_values, out):  # type: ignore[no-untyped-def]
    """out <- the values of n codes."""
    for c in range(n):
        put(out, c, look(code_values, codes[c]))
