"""What codes stand for, by tables of all codes of a format of at most 16 bits: the elements of a `QTensor` in float32, and their exponents.

A table is the definition's own answer for every code (`lpref.ref.quantize.qtensor.code_values`); here it is only read. An element that float32 or a
zero point would change is left to the definition.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu.table import look, put
from lpref.accel.cpu.threads import split
from lpref.ref import formats
from lpref.ref.linalg.gemm import format_grid
from lpref.ref.linalg.tensor_core import exponents
from lpref.ref.quantize import QTensor
from lpref.ref.quantize.packing import codes_of_bytes
from lpref.ref.quantize.qtensor import code_bits, code_values
from lpref.ref.quantize.qtensor import decoded as definition

NOTHING = -64
"""The exponent of zero here: with that of any FP8 number it lies below that of any product, and the sum of two is inside 8 bits."""


@cache
def values_table(name: str) -> np.ndarray | None:
    """float32 values by code, or None where float32 has not all of them."""
    f = formats.format(name)
    if f.bits > 16:
        return None
    values = code_values(name)
    with np.errstate(over="ignore"):
        short = values.astype(np.float32)
    return short if np.array_equal(short.astype(np.float64), values, equal_nan=True) else None


@cache
def integers_table(name: str) -> tuple[np.ndarray, int] | None:
    """(int32 values by code in units of the format's quantum, that quantum), or None where some value is no such integer."""
    grid, values = format_grid(formats.format(name)), values_table(name)
    if grid is None or values is None:
        return None
    scaled = np.ldexp(values.astype(np.float64), -grid[0])
    return (scaled.astype(np.int32), grid[0]) if (np.abs(scaled) < 2.0**31).all() else None


@cache
def exponents_table(name: str) -> np.ndarray:
    """`lpref.ref.linalg.tensor_core.exponents` of every code of an FP8 format, int8, with `NOTHING` for zero."""
    e = exponents(code_values(name), formats.format(name).emin)
    return np.maximum(e, NOTHING).astype(np.int8)


@njit(cache=True, nogil=True, error_model="numpy")
def _gather(first, last, table, codes, out):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        put(out, i, look(table, codes[i]))


def looked_up(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """table[codes], in the table's type; codes are unsigned and inside the table."""
    flat, out = np.ascontiguousarray(codes).reshape(-1), np.empty(codes.shape, table.dtype)
    split(flat.size, lambda i, j: _gather(i, j, table, flat, out.reshape(-1)))
    return out


def decoded(name: str, codes: np.ndarray) -> np.ndarray:
    """`lpref.ref.quantize.qtensor.decoded`: in float32 where that has all the values, else in float64."""
    table = values_table(name)
    return definition(name, codes) if table is None else looked_up(table, codes)


def gathered(x: QTensor, table: np.ndarray) -> np.ndarray:
    """table[code] for every element [R, C]. Packed codes are read by the byte, from a table of what the codes in a byte stand for."""
    bits = code_bits(x.quantizer.format)
    wide = 8 // bits * table.itemsize if bits in (1, 2, 4) else 0
    if not 0 < wide <= 8:
        return looked_up(table, x.unpacked())
    by_byte = np.ascontiguousarray(table[codes_of_bytes(bits)]).view(f"u{wide}").reshape(-1)
    return looked_up(by_byte, x.codes).view(table.dtype)[:, : x.shape[1]]


def elements(x: Any) -> np.ndarray | None:
    """`x.element_values()` in float32, or None where the table does not have them."""
    if not isinstance(x, QTensor) or x.zero is not None or not x.linear:
        return None
    table = values_table(x.quantizer.format)
    return None if table is None else gathered(x, table)


def integers(x: Any) -> tuple[np.ndarray, int] | None:
    """`integers_table` of the elements of a `QTensor` without zero points and scales that change along k; None for anything else."""
    if not isinstance(x, QTensor) or x.zero is not None or not x.linear or x.quantizer.blocks.k is not None:
        return None
    return integers_table(x.quantizer.format)
