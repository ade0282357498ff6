"""Rule s2fp8 in Numba: logarithms and their statistics in one pass, the squeezed elements in another, and what became zero."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lpref.accel.cpu import elementary, threads
from lpref.accel.cpu.cast_kernels import decode_table
from lpref.accel.cpu.quantize_kernels import OPTIONS, TILE
from lpref.accel.cpu.reduce import tree_sum
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.qtensor import QTensor, code_values
from lpref.ref.scaling import Scale
from lpref.ref.scaling.s2fp8 import coefficients

LARGEST = np.float32(np.finfo(np.float32).max)
GRAIN = 8192


@cache
def bare(q: Quantizer) -> Quantizer:
    """The quantizer of the squeezed elements: the same elements under the scale 1."""
    return Quantizer(q.format, scale=Scale("constant"), rounding=q.rounding, word_bits=q.word_bits, overflow=q.overflow, narrow=q.narrow)


def squeezed(x: NDArray[np.float32], q: Quantizer) -> tuple[NDArray[np.float32], np.float32, NDArray[np.float32], Any] | None:
    """(elements, amax, the scale 1, aux) of x [R, C]; None where x holds NaN or infinity."""
    flat = x.reshape(-1)
    logs, y = np.empty(x.size, np.float32), np.empty(x.size, np.float32)
    parts = threads.split(x.size, lambda a, b: _logarithms(flat[a:b], logs[a:b]), grain=GRAIN)
    live, top, highest = sum(p[0] for p in parts), max(p[1] for p in parts), max(p[2] for p in parts)
    if not np.isfinite(top):
        return None
    alpha, beta = coefficients(tree_sum(logs), live, np.float32(highest), 2.0**15 if q.scale.target is None else q.scale.target)
    threads.split(x.size, lambda a, b: _squeezed(flat[a:b], logs[a:b], alpha, beta, y[a:b]), grain=GRAIN)
    return y.reshape(x.shape), np.float32(top), np.ones((1, 1), np.float32), {"alpha": alpha, "beta": beta}


@njit(**OPTIONS)
def _logarithms(x, out):  # type: ignore[no-untyped-def]
    """out <- log2|x|, 0 for 0; (nonzero elements, largest magnitude or infinity, largest logarithm of a nonzero one)."""
    live, top, highest = 0, np.float32(0), np.float32(-np.inf)
    for start in range(0, x.size, TILE):  # two loops a tile: the first is vectorised
        part, logs = x[start : start + TILE], out[start : start + TILE]
        for i in range(part.size):
            a = abs(part[i])
            logs[i] = elementary.log2_64(np.float64(a if 0 < a <= LARGEST else np.float32(1)))
        for i in range(part.size):
            a = abs(part[i])
            top = a if a > top else top
            if not a <= LARGEST:
                return 0, np.float32(np.inf), highest
            if a > 0:
                live += 1
                highest = logs[i] if logs[i] > highest else highest
    return live, top, highest


@njit(**OPTIONS)
def _squeezed(x, logs, alpha, beta, out):  # type: ignore[no-untyped-def]
    """out <- sgn(x) exp2(alpha log2|x| + beta), x where that is 0; the product and the sum rounded to float32."""
    for i in range(x.size):
        if x[i] == 0:
            out[i] = x[i]
        else:
            z = np.float32(alpha * logs[i])
            y = np.float32(elementary.exp2_64(np.float64(np.float32(z + beta))))
            out[i] = -y if x[i] < 0 else y


def values(t: QTensor) -> NDArray[np.float32]:
    """`QTensor.dequantize` in float32: the values of all codes, each rounded once, looked up."""
    table, out = np.empty(code_values(t.quantizer.format).size, np.float32), np.empty(t.shape, np.float32)
    _expanded(code_values(t.quantizer.format), np.float64(t.aux["alpha"]), np.float64(t.aux["beta"]), table)
    codes, flat = t.unpacked().reshape(-1), out.reshape(-1)
    threads.split(flat.size, lambda a, b: decode_table(codes[a:b], table, flat[a:b]))
    return out.reshape(t.logical_shape)


@njit(**OPTIONS)
def _expanded(y, alpha, beta, out):  # type: ignore[no-untyped-def]
    """out <- sgn(y) exp2((log2|y| - beta) / alpha), y where that is 0; NaN where alpha is."""
    for i in range(y.size):
        if np.isnan(alpha):
            out[i] = np.nan
        elif y[i] == 0:
            out[i] = y[i]
        else:
            out[i] = np.float32(np.copysign(elementary.exp2_64((elementary.log2_64(abs(y[i])) - beta) / alpha), y[i]))


def lost(codes: NDArray, q: Quantizer, x: NDArray[np.float32]) -> int:
    """Elements whose code stands for 0 and that are not 0 themselves; codes of 8 or 16 bits, one an element."""
    zero = code_values(q.format) == 0
    rows, columns = x.shape
    return int(sum(threads.split(rows, lambda r0, r1: _lost(codes, zero, x, r0, r1), 1, max(1, threads.GRAIN // max(columns, 1)))))


@njit(**OPTIONS)
def _lost(codes, zero, x, r0, r1):  # type: ignore[no-untyped-def]
    """Of rows r0 .. r1."""
    count = 0
    for r in range(r0, r1):
        for c in range(x.shape[1]):
            if zero[codes[r, c]] and x[r, c] != 0:
                count += 1
    return count
