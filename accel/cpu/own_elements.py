"""Rules that say themselves which elements are cast (minmax, s2fp8): what is cast, as Numba kernels, and what became zero.

minmax: one pass finds a block's smallest and largest element, a second one writes u. s2fp8: the definition on the kernels of log2 and exp2.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lpref.accel.cpu import elementwise, threads
from lpref.accel.cpu.quantize_kernels import OPTIONS
from lpref.ref import reduce
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.qtensor import code_bits, code_values
from lpref.ref.scaling import Scale, s2fp8_scales

FLT_MAX = np.float32(np.finfo(np.float32).max)


@cache
def bare(q: Quantizer) -> Quantizer:
    """The quantizer of u: the same elements under the scale 1."""
    return Quantizer(q.format, scale=Scale("constant"), rounding=q.rounding, word_bits=q.word_bits, overflow=q.overflow, narrow=q.narrow)


Found = tuple[NDArray[np.float32], tuple[NDArray[np.float32], ...], np.float32, Any]
"""Elements u, levels of scales, amax, aux."""


def squeezed(x: NDArray[np.float32], q: Quantizer) -> Found | None:
    """The elements of s2fp8, its alpha and beta; None where x holds NaN or infinity."""
    top = reduce.amax(x)
    if not top <= FLT_MAX:
        return None
    made = s2fp8_scales(x, 2.0**15 if q.scale.target is None else q.scale.target, elementwise)
    assert made.elements is not None
    return made.elements, (), np.float32(top), made.aux


def elements(x: NDArray[np.float32], size: int, n: float, eps: float) -> Found | None:
    """(u, (S, m), amax, None) of x [R, C] in blocks of `size` along a row, as `lpref.ref.scaling.minmax`; None where x holds NaN or infinity."""
    rows, columns = x.shape
    grid = (rows, -(-columns // size))
    u, s, low = np.empty(x.shape, np.float32), np.empty(grid, np.float32), np.empty(grid, np.float32)
    fixed = (x, size, np.float32(n), np.float32(eps), u, s, low)
    tops = threads.split(rows, lambda r0, r1: _elements(*fixed, r0, r1), 1, max(1, threads.GRAIN // max(columns, 1)))
    top = np.float32(max(tops))
    return (u, (s, low), top, None) if top <= FLT_MAX else None


@njit(**OPTIONS)
def _elements(x, size, n, eps, u, s, low, r0, r1):  # type: ignore[no-untyped-def]
    """Rows r0 .. r1; returns the largest magnitude, infinity where an element is not finite."""
    top = np.float32(0)
    columns = x.shape[1]
    for r in range(r0, r1):
        for b in range(s.shape[1]):
            c0, c1 = b * size, min(b * size + size, columns)
            lo, hi, bad = x[r, c0], x[r, c0], np.float32(0)
            for c in range(c0, c1):
                v = x[r, c]
                lo = v if v < lo else lo
                hi = v if v > hi else hi
                bad += v - v
            if not bad == np.float32(0):
                return np.float32(np.inf)
            top = max(top, abs(lo), abs(hi))
            scale = n / ((hi - lo) + eps)
            scale = scale if scale < FLT_MAX else FLT_MAX
            s[r, b], low[r, b] = scale, lo
            for c in range(c0, c1):
                u[r, c] = (x[r, c] - lo) * scale
    return top


def lost(codes: NDArray, q: Quantizer, x: NDArray[np.float32]) -> int:
    """Elements whose code stands for 0 and that are not 0 themselves; codes packed as `lpref.ref.quantize.packing` packs them."""
    rows, columns = x.shape
    zero, bits = code_values(q.format) == 0, code_bits(q.format)
    return int(sum(threads.split(rows, lambda r0, r1: _lost(codes, bits, zero, x, r0, r1), 1, max(1, threads.GRAIN // max(columns, 1)))))


@njit(**OPTIONS)
def _lost(codes, bits, zero, x, r0, r1):  # type: ignore[no-untyped-def]
    """Of rows r0 .. r1."""
    count = 0
    each = 8 // bits if bits in (1, 2, 4) else 1
    mask = (1 << bits) - 1
    for r in range(r0, r1):
        for c in range(x.shape[1]):
            code = (codes[r, c // each] >> (bits * (c % each))) & mask if each > 1 else codes[r, c]
            if zero[code] and x[r, c] != 0:
                count += 1
    return count
