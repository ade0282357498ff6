"""Products of codes under the model of a matrix unit that reads FP8, by the tiles of `unit_tile`: the definition's bits.

Covered are units like those of sm_89 and sm_90: FP8 codes, sums cut in float32, c aligned with the products, block scales outside the unit. There
every product is a multiple of 2^-32 below 2^32 of at most 8 bits, every sum that is not zero is at least 2^-32, and clamps below that mean nothing.
Anything else, and NaN and infinities, is for `lpref.accel.cpu.tensor_core`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu.gather import exponents_table, values_table
from lpref.accel.cpu.table import look, put
from lpref.accel.cpu.threads import split
from lpref.accel.cpu.turned import turned
from lpref.accel.cpu.unit_tile import COLUMNS, LEAST, ROWS, unit_step
from lpref.ref.linalg import Accumulate
from lpref.ref.linalg.gemm import Factors, cuts, factors
from lpref.ref.quantize import QTensor

FP8 = {"e4m3", "e5m2"}
_GRAIN = 1 << 16
"""Products below which a second thread costs more than it brings."""


def covered(a: Any, b: Any, model: Accumulate) -> bool:
    """Whether `unit` has the bits of these operands (but for NaN and infinities)."""
    core = model.core
    if core is None or core.late or core.group > 1 or core.accumulator != "float32" or model.scales != "per_block" or model.outer != "float32":
        return False
    small = core.products << (core.fraction + 2) < 1 << 24 and core.clamp <= LEAST
    return small and FP8 >= {x.quantizer.format if isinstance(x, QTensor) and x.linear and x.zero is None else "" for x in (a, b)}


@njit(cache=True, nogil=True, error_model="numpy")
def _part(first, last, codes, a, ea, b, eb, scale_a, scale_b, bounds, steps, out, products, fraction, drop):  # type: ignore[no-untyped-def]
    """Rows first … last - 1 (multiples of ROWS) of out [M, N]; codes [M, K], a, ea by code, b, eb [K, N], N a multiple of COLUMNS."""
    depth, n = b.shape
    c = np.empty((ROWS, COLUMNS), np.float32)
    for j in range(0, n, COLUMNS):
        for i in range(first, last, ROWS):
            for piece in range(bounds.size - 1):
                start, stop = bounds[piece], bounds[piece + 1]
                c[:] = 0.0
                for k in range(start, stop, products):
                    unit_step(c, codes, a, ea, i * depth + k, depth, b, eb, k * n + j, n, min(products, stop - k), fraction, drop)
                s_b = scale_b[start // steps[1], j : j + COLUMNS]
                for r in range(ROWS):
                    s_a, row, d = scale_a[i + r, start // steps[0]], out[i + r, j : j + COLUMNS], c[r]
                    for v in range(COLUMNS):
                        row[v] = (row[v] if piece else np.float32(0)) + d[v] * (s_a * s_b[v])


@njit(cache=True, nogil=True, error_model="numpy")
def _read(first, last, codes, values, exponents, out, powers):  # type: ignore[no-untyped-def]
    """Elements first … last - 1: what codes stand for, and their exponents."""
    for i in range(first, last):
        code = codes[i]
        put(out, i, look(values, code))
        put(powers, i, look(exponents, code))


@njit(cache=True, nogil=True, error_model="numpy")
def _largest(codes):  # type: ignore[no-untyped-def]
    """The largest code of a magnitude."""
    largest = np.uint8(0)
    for i in range(codes.size):
        largest = max(largest, codes[i] & np.uint8(127))
    return largest


def unit(a: QTensor, b: QTensor, model: Accumulate) -> tuple[np.ndarray, Factors, Factors] | None:
    """[M, N] before the epilogue and the operands' factors; None where a value is NaN or infinite. The operands are `covered`."""
    core = model.core
    assert core is not None
    if any(_largest(x.codes.reshape(-1)) >= _tables(x.quantizer.format)[2] for x in (a, b)):
        return None
    fa, fb = (factors(x, np.float32, x.codes) for x in (a, b))  # of its elements only their number is asked for
    (m, depth), n = fa.elements.shape, fb.elements.shape[0]
    rows, columns = -m % ROWS, -n % COLUMNS
    left, (b_values, b_exponents) = _codes(a, 1, (rows, 0)), _numbers(b, (0, columns))
    (scale_a, step_a), (scale_b, step_b) = _scales(fa, rows), _scales(fb, columns)
    out = (np.empty if depth else np.zeros)((m + rows, n + columns), np.float32)
    bounds, steps = np.array(cuts(fa, fb, model.chunk)), np.array([step_a, step_b])
    name = a.quantizer.format
    sides = (left, _tables(name)[0], fours_table(name), b_values, b_exponents, scale_a, np.ascontiguousarray(scale_b.T))
    args = (*sides, bounds, steps, out, core.products, core.fraction, 23 - core.kept)
    split(out.shape[0], lambda i, j: _part(i, j, *args), align=ROWS, grain=max(ROWS, _GRAIN // max(1, b_values.size)))
    return out[:m, :n], fa, fb


def _codes(x: QTensor, k_last: int, more: tuple[int, int]) -> np.ndarray:
    """Codes with k along their last axis or their first, and so many rows and columns of zeros: a code of zero is +0."""
    return _padded(x.codes if x.k_axis % 2 == k_last else turned(x.codes), *more)


def _numbers(x: QTensor, more: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Elements with k along their first axis, and their exponents. Bytes are turned and padded, not numbers."""
    codes, (values, exponents, _) = _codes(x, 0, more), _tables(x.quantizer.format)
    found = np.empty(codes.shape, values.dtype), np.empty(codes.shape, exponents.dtype)
    flat = [array.reshape(-1) for array in (codes, *found)]
    split(codes.size, lambda i, j: _read(i, j, flat[0], values, exponents, *flat[1:]))
    return found


@cache
def _tables(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Values and exponents by code, and the first code that is not finite."""
    values = values_table(name)
    assert values is not None
    return values, exponents_table(name), int(np.argmin(np.append(np.isfinite(values[:128]), False)))


@cache
def fours_table(name: str) -> np.ndarray:
    """`exponents_table`, each exponent four times in one int32."""
    return np.repeat(exponents_table(name), 4).view(np.int32)


def _scales(x: Factors, rows: int) -> tuple[np.ndarray, int]:
    """Block scales [other + rows, blocks] and k's per block; ones where the scales wait for the epilogue."""
    if x.block is None or x.k_block is None:
        return np.ones((x.elements.shape[0] + rows, 1), np.float32), max(1, x.elements.shape[1])
    return _padded(x.block, rows, 0), x.k_block


def _padded(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """x, contiguous, with so many more rows and columns: sums of their own, which nobody reads."""
    return np.ascontiguousarray(np.pad(x, ((0, rows), (0, columns))) if rows or columns else x)
