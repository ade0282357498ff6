"""`lpref.ref.linalg.gemm` of grade exact in Numba, bit for bit.

Order is per output element, so the loops are free around it. High precision goes to the register tiles of `product`, k
ascending, and so do codes whose sums are to be in float32. Else, of block-scaled codes the inner products are sums of integers times one
power of two.

* at most 24 bits (FP4, and FP6 in short blocks): exact in float32 in any order, so the same register tiles make them;
* up to 53 bits (FP8 E4M3, INT8) in blocks shorter than 64: float64, eight k in one pass over a row, so each accumulator is
  read and written once for eight products, and the eight rows of b stay in the first-level cache while the rows of a pass by;
* longer blocks, whole axes and wider sums (E5M2 twice): the reference, which has BLAS add integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu.gather import elements
from lpref.accel.cpu.narrow import narrow, saturating
from lpref.accel.cpu.product import matmul, product
from lpref.accel.cpu.scaled import epilogue
from lpref.accel.cpu.sums import inner_dot, placed
from lpref.accel.cpu.threads import divide
from lpref.accel.cpu.tile import WIDTH
from lpref.accel.cpu.unit import covered, unit
from lpref.ref.linalg import Accumulate, HighPrecision, accumulator
from lpref.ref.linalg import gemm as ref_gemm
from lpref.ref.linalg.gemm import Factors, cuts, exactly_summable, factors, holds_codes, plain

_STRIP = 2 * WIDTH
_ROWS = 64
_PART = 32
"""Rows that one thread takes at a time."""
_LONG = 64
"""Blocks from this length on are worth a BLAS call each."""


@njit(forceinline=True, error_model="numpy")
def _add_products(c: Any, a: Any, b: Any, start: Any, stop: Any) -> None:
    """c[j] <- c[j] + a[k] b[k, j], k = start .. stop - 1 in ascending order, each operation rounded."""
    n = c.size
    k = start
    while k + 8 <= stop:
        a0, a1, a2, a3, a4, a5, a6, a7 = a[k], a[k + 1], a[k + 2], a[k + 3], a[k + 4], a[k + 5], a[k + 6], a[k + 7]
        b0, b1, b2, b3, b4, b5, b6, b7 = b[k], b[k + 1], b[k + 2], b[k + 3], b[k + 4], b[k + 5], b[k + 6], b[k + 7]
        for j in range(n):
            t = c[j] + a0 * b0[j]
            t = t + a1 * b1[j]
            t = t + a2 * b2[j]
            t = t + a3 * b3[j]
            t = t + a4 * b4[j]
            t = t + a5 * b5[j]
            t = t + a6 * b6[j]
            c[j] = t + a7 * b7[j]
        k += 8
    while k < stop:
        ak, bk = a[k], b[k]
        for j in range(n):
            c[j] = c[j] + ak * bk[j]
        k += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _scaled_blocks(begin: Any, end: Any, a: Any, b: Any, scale_a: Any, scale_b: Any, bounds: Any, step_a: Any, step_b: Any, c: Any) -> None:
    """c[i, j] <- c[i, j] + fl32(dot of block) * fl32(s_a s_b), blocks in ascending order; a [M, K], b [K, N], exact in their type.

    scale_a [M, blocks of a], scale_b [blocks of b, N]; element k is in block k div step.
    """
    m, n = c.shape
    for part in range(begin, end):
        dot = np.empty(n, a.dtype)
        for piece in range(bounds.size - 1):
            start, stop = bounds[piece], bounds[piece + 1]
            s_b = scale_b[start // step_b]
            for row in range(part * _PART, min(m, part * _PART + _PART)):
                for j in range(n):
                    dot[j] = 0
                _add_products(dot, a[row], b, start, stop)
                s_a, out = scale_a[row, start // step_a], c[row]
                for j in range(n):
                    out[j] = out[j] + np.float32(dot[j]) * (s_a * s_b[j])


@njit(cache=True, nogil=True, error_model="numpy")
def _scaled_tiles(begin: Any, end: Any, a: Any, b: Any, scale_a: Any, scale_b: Any, bounds: Any, step_a: Any, step_b: Any, c: Any) -> None:
    """`_scaled_blocks` for float32: strips of columns, 64 rows at a time, each block's inner products by register tiles."""
    m, n = c.shape
    depth = a.shape[1]
    for strip in range(begin, end):
        first = strip * _STRIP
        width = min(_STRIP, n - first)
        panel = np.empty((depth, width), np.float32)
        for k in range(depth):
            for j in range(width):
                panel[k, j] = b[k, first + j]
        dot = np.empty((_ROWS, width), np.float32)
        for top in range(0, m, _ROWS):
            rows = min(_ROWS, m - top)
            for piece in range(bounds.size - 1):
                start, stop = bounds[piece], bounds[piece + 1]
                at_a, at_b = top * depth + start, start * width
                product(dot, 0, width, a, at_a, depth, 1, panel, at_b, width, rows, width, stop - start, False, False)
                s_b = scale_b[start // step_b, first : first + width]
                for i in range(rows):
                    s_a, out, d = scale_a[top + i, start // step_a], c[top + i, first : first + width], dot[i]
                    for j in range(width):
                        out[j] = out[j] + d[j] * (s_a * s_b[j])


def gemm(a: Any, b: Any, accumulate: Accumulate | str | None = None, *, numerics: str = "exact") -> np.ndarray:
    """`lpref.ref.linalg.gemm`: the default accumulation here, the inner products of every other model in `sums`."""
    model = accumulator(accumulate or "auto")
    if numerics != "exact" or a.logical_shape[a.k_axis] != b.logical_shape[b.k_axis]:
        return ref_gemm(a, b, model, numerics=numerics, inner=inner_dot)
    if model != Accumulate():
        return _modelled(a, b, model)
    if not (exactly_summable(a) and exactly_summable(b)):
        left, right = _rows(plain(a)), _rows(plain(b))
        if left.dtype != np.float32 or right.dtype != np.float32:
            return ref_gemm(a, b, accumulate)
        return matmul(left, right.T)
    fa, fb = _factors(a), _factors(b)
    bounds = np.array(cuts(fa, fb))
    longest = int(np.max(np.diff(bounds), initial=1))
    width = _bits(fa) + _bits(fb) + (longest - 1).bit_length()
    if (fa.block is None and fb.block is None) or width > 53 or (width > 24 and longest >= _LONG):
        return ref_gemm(a, b, accumulate)
    return _by_blocks(fa, fb, bounds, width > 24)


def _by_blocks(fa: Factors, fb: Factors, bounds: np.ndarray, wide: bool) -> np.ndarray:
    """The pieces of K between the bounds, each scaled and added in float32; inner products k ascending in float32, in float64 if `wide`."""
    dtype, kernel = (np.float64, _scaled_blocks) if wide else (np.float32, _scaled_tiles)
    left, right = (np.ascontiguousarray(v, dtype) for v in (fa.elements, fb.elements.T))
    c = np.zeros((left.shape[0], right.shape[1]), np.float32)
    (scale_a, step_a), (scale_b, step_b) = _scales(fa), _scales(fb)
    parts = -(-c.shape[0] // _PART) if wide else -(-c.shape[1] // _STRIP)
    divide(kernel, parts, left, right, scale_a, np.ascontiguousarray(scale_b.T), bounds, step_a, step_b, c)
    return epilogue(c, fa, fb)


def _modelled(a: Any, b: Any, model: Accumulate) -> np.ndarray:
    """Any other model: the whole product by tiles where one has its bits, else the definition over the kernels of `sums`."""
    blocked = model.inner == "sequential" and model.float32_sums and model.product == "float32" and model.scales == "per_block"
    if blocked and holds_codes(a) and holds_codes(b):
        fa, fb = _factors(a), _factors(b)
        return _by_blocks(fa, fb, np.array(cuts(fa, fb, model.chunk)), False)
    if model.inner == "sequential" and model.format == model.outer != "float32":
        fa, fb = _factors(a), _factors(b)
        c = narrow(fa, fb, model, placed(model.format))
        if c is not None:
            return epilogue(c, fa, fb)
    made = saturating(a, b, model)
    if made is None and covered(a, b, model):
        made = unit(a, b, model)
    if made is not None:
        return epilogue(*made)
    return ref_gemm(a, b, model, inner=inner_dot)


def _factors(x: Any) -> Factors:
    """`factors` in float32."""
    return factors(x, np.float32, elements(x))


def _rows(x: HighPrecision) -> np.ndarray:
    """The values as [other, K]."""
    return x.values if x.k_axis % 2 else x.values.T


def _bits(x: Factors) -> int:
    """Bits of the integers that the elements are, in units of the format's quantum."""
    return 54 if x.grid is None else x.grid[1] - x.grid[0]


def _scales(x: Factors) -> tuple[np.ndarray, int]:
    """Block scales [other, blocks] and k's per block; one block of ones where the scales wait for the epilogue."""
    if x.block is None or x.k_block is None:
        return np.ones((x.elements.shape[0], 1), np.float32), max(1, x.elements.shape[1])
    return np.ascontiguousarray(x.block), x.k_block
