"""`lpref.ref.scaling.four_over_six` in Numba: both candidates of every block, their errors in the page's order, the choice.

A row of blocks is turned in the first-level cache: line c of the turned row holds column c of every block, so that the same place of all
blocks stands side by side. Scales then need no copy for each element, and the sums of all blocks, each a chain of additions whose order is
fixed, advance together. Magnitudes suffice, for every operation is symmetric in the sign of x.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lpref.accel.cpu import threads
from lpref.accel.cpu.bitcast import from_bits, to_bits
from lpref.accel.cpu.grid_kernels import four_over_six_grid
from lpref.accel.cpu.lanes import WIDTH, turn
from lpref.accel.cpu.quantize_kernels import EXPONENT, OPTIONS, TILE
from lpref.ref.reduce import LANES
from lpref.ref.scaling import BlockScales, Scale
from lpref.ref.scaling.nvfp4 import global_encode_scale

F32 = NDArray[np.float32]
WORK = 4096
"""Elements of a row that are worked on at a time: a turned row and the sums of both candidates fit the first-level cache."""


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
    rows = fitting_rows(x, block)
    cells = (-1, -(-rows.shape[1] // block[1]))
    grids = [grid.reshape(cells) for grid in (top, codes, values, factors)]
    grain = max(1, threads.GRAIN // max(block[0] * rows.shape[1], 1))
    joined = block[0] == 1 and rows.shape[1] % block[1] == 0  # blocks of all rows of a part then are those of one long row

    def work(i0: int, i1: int) -> None:
        part, cells = rows[i0 * block[0] : i1 * block[0]], [grid[i0:i1] for grid in grids]
        if joined:
            part, cells = part.reshape(1, -1), [grid.reshape(1, -1) for grid in cells]
        _choose(part, *block, k_axis, *fixed, *cells)

    threads.split(grids[0].shape[0], work, 1, grain)
    return BlockScales(codes, values, factors, "multiply", np.float32(np.float32(amax) / denominator))


def fitting_rows(x: NDArray, block: tuple[int, int]) -> NDArray:
    """A few long rows as many shorter ones, short rows joined to longer ones, where blocks are runs inside a row.

    Threads then have rows to share, and what every row costs beside its elements is small.
    """
    (rows, columns), (br, bc) = x.shape, block
    unit = math.lcm(bc, 8)  # packed rows end on whole bytes
    if br != 1 or columns % unit:
        return x
    width = unit * max(1, 1024 // unit)
    if rows < 64 and columns % width == 0:
        return x.reshape(rows * (columns // width), width)
    joined = next(m for m in (32, 16, 8, 4, 2, 1) if m == 1 or (rows % m == 0 and m * columns <= TILE // 2))
    return x.reshape(rows // joined, joined * columns)


@njit(**OPTIONS)
def _turn(row, bc, blocks, out):  # type: ignore[no-untyped-def]
    """out[c, b] <- |row[b bc + c]| for b < blocks, 0 beyond the row's end."""
    whole = min(row.size // bc, blocks)
    done = whole // WIDTH * WIDTH if bc == WIDTH else 0
    for b in range(0, done, WIDTH):
        turn(row, b * bc, out, b)
    for c in range(np.uint64(bc)):  # unsigned, so that Numba knows the sums for indices that are not negative
        for b in range(np.uint64(done), np.uint64(whole)):
            out[c, b] = abs(row[b * np.uint64(bc) + c])
    if whole < blocks:
        rest = row[whole * bc :]
        for c in range(bc):
            out[c, whole] = abs(rest[c]) if c < rest.size else np.float32(0)


@njit(**OPTIONS)
def _add_errors(a, n, scales, factors, amax, denominator, square, total):  # type: ignore[no-untyped-def]
    """total[b] += |v - a| or (v - a)^2, v = ((e2m1(a factor) scale) amax) / denominator, of n magnitudes a."""
    emin, shift = np.int32(127 << 23), np.int32(22 << 23)
    for b in range(n):
        u = min(a[b] * factors[b], np.float32(6))
        big = from_bits(max(to_bits(u) & EXPONENT, emin) + shift)
        diff = ((u + big) - big) * scales[b] * amax / denominator - a[b]
        total[b] += diff * diff if square else abs(diff)


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
def _choose(x, br, bc, k_axis, target, encode, inverse, amax, denominator, square, top, codes, values, factors):  # type: ignore[no-untyped-def]
    """Both candidates and the choice for every block of the grid. A block's lines are its rows where k runs along them, else its columns."""
    across = top.shape[1]
    most = min(max(1, WORK // bc), across)  # blocks that are worked on at a time
    count = br if k_axis == 1 else bc
    turned = np.empty((bc, most), np.float32)
    lines6, lines4 = np.empty((count, most), np.float32), np.empty((count, most), np.float32)
    code, value, factor = np.empty(most, np.uint8), np.empty(most, np.float32), np.empty(most, np.float32)
    for i in range(top.shape[0]):
        for j in range(0, across, most):
            n = min(most, across - j)
            code6, value6, factor6 = codes[i, j : j + n], values[i, j : j + n], factors[i, j : j + n]
            four_over_six_grid(top[i, j : j + n], target, encode, np.float32(1), inverse, code6, value6, factor6)
            four_over_six_grid(top[i, j : j + n], target, encode, np.float32(1.5), inverse, code[:n], value[:n], factor[:n])
            lines6[:], lines4[:] = np.float32(0), np.float32(0)
            for r in range(i * br, min(i * br + br, x.shape[0])):
                _turn(x[r, j * bc :], bc, n, turned)
                for c in range(bc):
                    line = r - i * br if k_axis == 1 else c
                    _add_errors(turned[c], n, value6, factor6, amax, denominator, square, lines6[line])
                    _add_errors(turned[c], n, value, factor, amax, denominator, square, lines4[line])
            _halved(lines6, count)
            _halved(lines4, count)
            error6, error4 = lines6[0], lines4[0]
            for b in range(n):
                four = error4[b] < error6[b]
                code6[b] = code[b] if four else code6[b]
                value6[b] = value[b] if four else value6[b]
                factor6[b] = factor[b] if four else factor6[b]
