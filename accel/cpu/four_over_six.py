"""`lpref.ref.scaling.four_over_six` in Numba: both candidates of every block, their errors in the page's order, the choice.

The line of errors of a row of blocks stays in the first-level cache. Along a row, sums of several blocks advance together: each is a chain
of additions whose order is fixed. Magnitudes suffice, for every operation is symmetric in the sign of x.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lpref.accel.cpu import threads
from lpref.accel.cpu.bitcast import from_bits, to_bits
from lpref.accel.cpu.grid_kernels import four_over_six_grid
from lpref.accel.cpu.quantize_kernels import EXPONENT, OPTIONS, TILE
from lpref.ref.reduce import LANES
from lpref.ref.scaling import BlockScales, Scale
from lpref.ref.scaling.nvfp4 import global_encode_scale

F32 = NDArray[np.float32]


def covered(block: tuple[int, int], k_axis: int, amax: np.float32, target: float, scale: Scale) -> bool:
    """Whether the kernel has the page's bits: scales that are finite numbers, and no more lines to a block than the defined sum has lanes."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        inverse = np.float32(1) / global_encode_scale(amax, target, scale.scale_max)
    return bool(np.isfinite(inverse) and np.isfinite(amax) and amax >= 0) and block[1 - k_axis] <= LANES and max(block) <= TILE


def four_over_six_scales(
    x: F32, block: tuple[int, int], k_axis: int, top: NDArray[np.int32], amax: np.float32, target: float, scale: Scale
) -> BlockScales:
    """The page's scales of x [R, C]; top: the magnitude bits of every block's amax."""
    encode, denominator = global_encode_scale(amax, target, scale.scale_max), np.float32(scale.scale_max) * np.float32(target)
    codes, values, factors = np.empty(top.shape, np.uint8), np.empty(top.shape, np.float32), np.empty(top.shape, np.float32)
    fixed = (np.float32(target), encode, np.float32(1) / encode, np.float32(amax), denominator, scale.select == "mse")
    rows = as_many_rows(x, block)
    cells = (-1, -(-rows.shape[1] // block[1]))
    grids = [grid.reshape(cells) for grid in (top, codes, values, factors)]
    grain = max(1, threads.GRAIN // max(block[0] * rows.shape[1], 1))
    threads.split(grids[0].shape[0], lambda i0, i1: _choose(rows, *block, k_axis, *fixed, *grids, i0, i1), 1, grain)
    return BlockScales(codes, values, factors, "multiply", np.float32(np.float32(amax) / denominator))


def as_many_rows(x: NDArray, block: tuple[int, int]) -> NDArray:
    """A few long rows as many shorter ones, where blocks are runs inside a row: threads and caches then have rows to work on."""
    (rows, columns), (br, bc) = x.shape, block
    unit = math.lcm(bc, 8)  # packed rows end on whole bytes
    width = unit * max(1, 1024 // unit)
    if br != 1 or rows >= 64 or columns % width or columns == width:
        return x
    return x.reshape(rows * (columns // width), width)


@njit(**OPTIONS)
def _spread(values, bc, out):  # type: ignore[no-untyped-def]
    """out[c] <- values[c div bc]."""
    parts = out[: values.size * bc].reshape(values.size, bc)
    for b in range(values.size):
        value = values[b]
        for c in range(bc):
            parts[b, c] = value


@njit(**OPTIONS)
def _errors(x, scales, factors, amax, denominator, square, out):  # type: ignore[no-untyped-def]
    """out[c] <- |v - x| or (v - x)^2, v = ((e2m1(x * factor) * scale) * amax) / denominator, of every element."""
    emin, shift = np.int32(127 << 23), np.int32(22 << 23)
    for c in range(x.size):
        a = abs(x[c])
        u = min(a * factors[c], np.float32(6))
        big = from_bits(max(to_bits(u) & EXPONENT, emin) + shift)
        diff = ((u + big) - big) * scales[c] * amax / denominator - a
        out[c] = diff * diff if square else abs(diff)


@njit(**OPTIONS)
def _sums_along(errors, bc, blocks, out):  # type: ignore[no-untyped-def]
    """out[b] <- the sum of errors[b bc : b bc + bc], ascending from 0 (which no error >= 0 notices)."""
    p = errors[: blocks * bc].reshape(blocks, bc)
    if bc == 16:  # written out: chains of several blocks then advance together
        for b in range(blocks):
            half = ((((((p[b, 0] + p[b, 1]) + p[b, 2]) + p[b, 3]) + p[b, 4]) + p[b, 5]) + p[b, 6]) + p[b, 7]
            out[b] = (((((((half + p[b, 8]) + p[b, 9]) + p[b, 10]) + p[b, 11]) + p[b, 12]) + p[b, 13]) + p[b, 14]) + p[b, 15]
        return
    for b in range(blocks):
        total = np.float32(0)
        for k in range(bc):
            total += p[b, k]
        out[b] = total


@njit(**OPTIONS)
def _halved(lines, count):  # type: ignore[no-untyped-def]
    """lines[0] <- the defined sum (`lpref.ref.reduce`) of `count` <= 1024 lines of one length."""
    half = 1
    while 2 * half < count:
        half *= 2
    live = count
    while live > 1:
        for i in range(live - half):
            target, more = lines[i], lines[half + i]
            for c in range(target.size):
                target[c] += more[c]
        live, half = half, half // 2


@njit(**OPTIONS)
def _sums_across(columns, bc, blocks, out):  # type: ignore[no-untyped-def]
    """out[b] <- the defined sum of columns[b bc : b bc + bc]; `columns` is spoilt."""
    if bc == 1:
        for b in range(blocks):
            out[b] = columns[b]
        return
    for b in range(blocks):
        part = columns[b * bc : b * bc + bc].reshape(bc, 1)
        _halved(part, bc)
        out[b] = part[0, 0]


@njit(**OPTIONS)
def _block_errors(x, r0, r1, c0, bc, k_axis, scales, factors, amax, denominator, square, wide, errors, lines, out):  # type: ignore[no-untyped-def]
    """out[b] <- the error of every block of a row of blocks: rows r0 .. r1 from column c0 on; elements outside x count 0."""
    blocks = out.size
    n = min(blocks * bc, x.shape[1] - c0)
    errors[n:] = np.float32(0)
    if bc > 1:
        _spread(scales, bc, wide[0])
        _spread(factors, bc, wide[1])
        scales, factors = wide[0], wide[1]
    if k_axis == 1 and lines.shape[0] == 1:
        _errors(x[r0, c0 : c0 + n], scales, factors, amax, denominator, square, errors)
        _sums_along(errors, bc, blocks, out)
        return
    lines[:] = np.float32(0)
    for r in range(r0, r1):
        _errors(x[r, c0 : c0 + n], scales, factors, amax, denominator, square, errors)
        if k_axis == 1:
            _sums_along(errors, bc, blocks, lines[r - r0])
        else:
            total = lines[0]
            for c in range(n):
                total[c] += errors[c]
    if k_axis == 1:
        _halved(lines, lines.shape[0])
        out[:] = lines[0, :blocks]
    else:
        _sums_across(lines[0], bc, blocks, out)


@njit(**OPTIONS)
def _choose(x, br, bc, k_axis, target, encode, inverse, amax, denominator, square, top, codes, values, factors, i0, i1):  # type: ignore[no-untyped-def]
    """Rows i0 .. i1 of the block grid."""
    across = top.shape[1]
    most = min(max(1, TILE // bc), across)  # blocks that are worked on at a time
    errors, wide = np.empty(most * bc, np.float32), np.empty((2, most * bc), np.float32)
    lines = np.empty((br, most) if k_axis == 1 else (1, most * bc), np.float32)
    code, value, factor = np.empty(most, np.uint8), np.empty(most, np.float32), np.empty(most, np.float32)
    error6, error4 = np.empty(most, np.float32), np.empty(most, np.float32)
    for i in range(i0, i1):
        for j in range(0, across, most):
            n = min(most, across - j)
            place = (x, i * br, min(i * br + br, x.shape[0]), j * bc, bc, k_axis)
            measured = (amax, denominator, square, wide, errors[: n * bc], lines)
            code6, value6, factor6 = codes[i, j : j + n], values[i, j : j + n], factors[i, j : j + n]
            four_over_six_grid(top[i, j : j + n], target, encode, np.float32(1), inverse, code6, value6, factor6)
            _block_errors(*place, value6, factor6, *measured, error6[:n])
            four_over_six_grid(top[i, j : j + n], target, encode, np.float32(1.5), inverse, code[:n], value[:n], factor[:n])
            _block_errors(*place, value, factor, *measured, error4[:n])
            for b in range(n):
                four = error4[b] < error6[b]
                code6[b] = code[b] if four else code6[b]
                value6[b] = value[b] if four else value6[b]
                factor6[b] = factor[b] if four else factor6[b]
