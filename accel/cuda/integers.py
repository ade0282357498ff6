"""Exact products of operands whose elements are small whole numbers (FP4, E2M3, integers) by the integer units: kernels/gemm_int8.cu."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cuda import device, feed
from lpref.accel.cuda.qtensor import PACKED, CudaQTensor
from lpref.ref.formats import format as format_named
from lpref.ref.linalg.gemm import format_grid

PIECES = (16, 32, 64, 128)
STEP = 64
TILE = (128, 64)


@cache
def whole(name: str) -> tuple[np.ndarray, int] | None:
    """(int8 by code, exponent of the unit) of a format whose values are whole numbers of int8 in units of its quantum, else None."""
    f = format_named(name)
    grid = format_grid(f) if f.bits <= 8 else None
    if grid is None or grid[1] - grid[0] > 8:
        return None
    values = np.ldexp(f.decode(np.arange(2**f.bits)), -grid[0])
    if not np.isfinite(values).all() or np.any(np.abs(values + 0.5) > 127.5):
        return None
    table = np.zeros(256, np.int8)
    table[: values.size] = values
    return table, grid[0]


@feed.lasting
def _table(name: str) -> Any:
    found = whole(name)
    assert found is not None
    return device.cupy().asarray(found[0])


def piece(a: Any, b: Any) -> int | None:
    """LP_PIECE for the product of these operands: the length of their blocks along k, 0 for all of K; None where the kernel does not serve."""
    if not (isinstance(a, CudaQTensor) and isinstance(b, CudaQTensor)):
        return None
    if a.zero is not None or b.zero is not None or not (a.linear and b.linear):
        return None
    found = [whole(x.quantizer.format) for x in (a, b)]
    steps = {x.quantizer.blocks.k or 0 for x in (a, b) if x.scales} - {0}
    depth = a.logical_shape[a.k_axis]
    if None in found or depth == 0 or len(steps) > 1 or not steps <= set(PIECES):
        return None
    largest = [int(np.max(np.abs(f[0].astype(np.int32)))) for f in found if f is not None]
    fits = largest[0] * largest[1] * (depth if not steps else max(steps)) < (2**22 if steps else 2**31)
    return (max(steps) if steps else 0) if fits else None


def gemm(a: CudaQTensor, b: CudaQTensor, length: int) -> Any:
    """c[i, j] = sum_k a[i, k] b[j, k] in pieces of `length` (what `piece` said) -> float32 [M, N]."""
    (M, left), (N, right) = (_prepared(x, length) for x in (a, b))
    out = device.cupy().empty((M, N), np.float32)
    if not out.size:
        return out
    depth, units = a.logical_shape[a.k_axis], [found[1] for x in (a, b) if (found := whole(x.quantizer.format))]
    shape = [np.int32(n) for n in (M, N, _padded(depth, length), -(-depth // max(length, 1)))]
    run = device.function("gemm_int8", "gemm", (("LP_PIECE", length),))
    unit = np.float32(2.0 ** (units[0] + units[1]))
    run((-(-M // TILE[0]) * -(-N // TILE[1]),), (256,), (*left, *right, out, *shape, unit))
    return out


def _padded(depth: int, length: int) -> int:
    step = max(STEP, length)
    return -(-depth // step) * step


def _prepared(x: CudaQTensor, length: int) -> tuple[int, tuple[Any, ...]]:
    """(elements of the operand's own axis, the kernel's arguments: int8 elements, spread block scales, constant scales, tensor scale)."""
    cp, (rows, columns), bits = device.cupy(), x.shape, format_named(x.quantizer.format).bits
    k_last, blocks = bool(x.k_axis % 2), x.quantizer.blocks
    other, depth = (rows, columns) if k_last else (columns, rows)
    padded, pieces = _padded(depth, length), -(-depth // max(length, 1))
    elements, codes = cp.empty((other, padded), np.int8), cp.ascontiguousarray(x.codes)
    spread = cp.empty((pieces, other), np.float32) if x.scales and blocks.k is not None else None
    wide = int(x.scales[0].shape[1]) if x.scales else 1
    outer, inner = (wide, 1) if k_last else (1, wide)
    each = np.int32(blocks.other or max(other, 1))
    if elements.size:
        run = device.function("gemm_int8", "prepare", (("LP_PIECE", 0),))
        source = (codes, codes.shape[1], np.int32(bits if bits in PACKED else 8), _table(x.quantizer.format), np.int32(not k_last))
        grid = (0, 0, 0, 0, each, np.int32(0), 0) if spread is None else (*x.stored_scales(), outer, inner, each, np.int32(pieces), spread)
        shape = (np.int32(other), np.int32(depth), np.int32(padded))
        run((device.blocks_for(elements.size // 4),), (device.THREADS,), (*source, *shape, elements, *grid))
    constant = x.scale_values() if x.scales and spread is None else 0
    return other, (elements, 0 if spread is None else spread, constant, outer, each, x.tensor_scale)
