"""`lpref.ref.linalg.matmul` by register tiles: in grade exact its bits, in grade fast within its bound.

C is made in blocks of `DEPTH` terms: a strip of 32 columns of B is copied together (so that it stays in the first cache), then every
tile of 8 rows adds its products to C. k ascends through the blocks and C holds float32, so the blocks change no bit. Rows of A are
read where they are; columns (a transposed A) are copied together first. Each thread makes its own rows of C, or its own columns.

Grade fast differs in one thing: multiply-adds are fused. Measured on two cores of an Emerald Rapids, products of the default model
(1024 × 128 × 384): 260 to 305 GFLOP/s, where OpenBLAS, one thread for each half, makes 190 and grade exact 150.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from lpref.accel.cpu import blas
from lpref.accel.cpu.rows import KERNEL, host
from lpref.accel.cpu.threads import split
from lpref.accel.cpu.tile import WIDTH, make_copy, make_tile
from lpref.ref.errors import ShapeError

TILE_8x2 = make_tile(8, 2, WIDTH)
TILE_8x1 = make_tile(8, 1, WIDTH)
TILE_8 = make_tile(8, 1, 1)
TILE_1x1 = make_tile(1, 1, WIDTH)
TILE_1 = make_tile(1, 1, 1)
COPY = make_copy(2, WIDTH)

STRIP = 2 * WIDTH
DEPTH = 256
GRAIN = 1 << 18
"""Multiplications below which a second thread costs more than it brings."""


@njit(**KERNEL)
def product(C, c0, ldc, A, a0, row, col, B, b0, ldb, M, N, K, more, fused):  # type: ignore[no-untyped-def]
    """C[m, n] = Σ_k A[m, k] B[k, n], m < M, n < N; addresses, `more` and `fused` as in `make_tile`. C overlaps neither A nor B."""
    n = 0
    while n < N:
        step = 2 * WIDTH if n + 2 * WIDTH <= N else (WIDTH if n + WIDTH <= N else 1)
        m = 0
        while m + 8 <= M:
            c, a = c0 + m * ldc + n, a0 + m * row
            if step == 2 * WIDTH:
                TILE_8x2(C, c, ldc, A, a, row, col, B, b0 + n, ldb, K, more, fused)
            elif step == WIDTH:
                TILE_8x1(C, c, ldc, A, a, row, col, B, b0 + n, ldb, K, more, fused)
            else:
                TILE_8(C, c, ldc, A, a, row, col, B, b0 + n, ldb, K, more, fused)
            m += 8
        while m < M:
            c, a = c0 + m * ldc + n, a0 + m * row
            for part in range(n, n + step, min(step, WIDTH)):
                if step == 1:
                    TILE_1(C, c, ldc, A, a, row, col, B, b0 + n, ldb, K, more, fused)
                else:
                    TILE_1x1(C, c + part - n, ldc, A, a, row, col, B, b0 + part, ldb, K, more, fused)
            m += 1
        n += step


@njit(**KERNEL)
def _together(out, o0, x, x0, down, across, rows, width):  # type: ignore[no-untyped-def]
    """out[o0 + r·width + j] = x[x0 + r·down + j·across], r < rows, j < width."""
    if across == 1 and width == STRIP:
        for r in range(rows):
            COPY(out, o0 + r * width, x, x0 + r * down)
        return
    o, first, d, a, w = np.uint64(o0), np.uint64(x0), np.uint64(down), np.uint64(across), np.uint64(width)
    for r in range(np.uint64(rows)):
        for j in range(w):  # unsigned: a vector loop, since no index can mean the array's end
            out[o + r * w + j] = x[first + r * d + j * a]


@njit(**KERNEL)
def _block(C, c0, ldc, A, a0, row, col, B, b0, down, across, M, N, K, fused):  # type: ignore[no-untyped-def]
    """C[m, n] = Σ_k A[m, k] B[k, n]; A[m, k] at a0 + m·row + k·col, B[k, n] at b0 + k·down + n·across."""
    depth = min(DEPTH, K)
    panel = np.empty(depth * STRIP, np.float32)
    columns = np.empty(depth * M if row == 1 and col != 1 else 0, np.float32)
    for k0 in range(0, max(K, 1), DEPTH):
        k = min(DEPTH, K - k0)
        if columns.size:
            for m in range(0, M, STRIP):
                _together(columns, m * k, A, a0 + m + k0 * col, col, 1, k, min(STRIP, M - m))
        for n in range(0, N, STRIP):
            width = min(STRIP, N - n)
            _together(panel, 0, B, b0 + k0 * down + n * across, down, across, k, width)
            if not columns.size:
                product(C, c0 + n, ldc, A, a0 + k0 * col, row, col, panel, 0, width, M, width, k, k0 > 0, fused)
                continue
            for m in range(0, M, STRIP):
                rows = min(STRIP, M - m)
                product(C, c0 + m * ldc + n, ldc, columns, m * k, 1, rows, panel, 0, width, rows, width, k, k0 > 0, fused)


@njit(**KERNEL)
def _part(start, stop, axis, C, A, row, col, B, down, across, fused):  # type: ignore[no-untyped-def]
    """Matrices (axis 0), rows (axis 1) or columns (axis 2) start … stop of C [G, M, N] = A [G, ·] B [G, ·]."""
    G, M, N = C.shape
    K = A.size // (G * M)
    g0, g1, m0, m1, n0, n1 = 0, G, 0, M, 0, N
    if axis == 0:
        g0, g1 = start, stop
    elif axis == 1:
        m0, m1 = start, stop
    else:
        n0, n1 = start, stop
    for g in range(g0, g1):
        c0, a0, b0 = (g * M + m0) * N + n0, g * M * K + m0 * row, g * K * N + n0 * across
        _block(C, c0, N, A, a0, row, col, B, b0, down, across, m1 - m0, n1 - n0, K, fused)


def matmul(a: np.ndarray, b: np.ndarray, fused: bool = False) -> np.ndarray:
    """[..., M, K] @ [..., K, N] for float32; leading axes broadcast. Grade exact, or with fused multiply-adds."""
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ShapeError(f"{a.shape} @ {b.shape}: needed [..., M, K] and [..., K, N]", where="matmul")
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    G, (M, K), N = math.prod(lead), a.shape[-2:], b.shape[-1]
    out = np.zeros((G, M, N), np.float32) if K == 0 else np.empty((G, M, N), np.float32)
    A, row, col = _addressed(a, lead)
    B, down, across = _addressed(b, lead)
    if out.size and K:
        axis = 0 if G > 1 else (1 if M >= N else 2)
        work = (M * N * K, N * K, M * K)[axis]
        grain = max((1, 8, STRIP)[axis], GRAIN // work)
        split(out.shape[axis], lambda i, j: _part(i, j, axis, out, A, row, col, B, down, across, fused), align=(1, 8, STRIP)[axis], grain=grain)
    return out.reshape(*lead, M, N)


def matmul_fast(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[..., M, K] @ [..., K, N] of grade fast: fused tiles for float32 where a vector holds 16 numbers, else BLAS."""
    if WIDTH == 16 and a.dtype == b.dtype == np.float32:
        return matmul(a, b, fused=True)
    return blas.matmul(a, b)


def _addressed(x: np.ndarray, lead: tuple[int, ...]) -> tuple[np.ndarray, int, int]:
    """x [..., R, C] as flat memory, with the steps from row to row and from column to column; a transposed matrix stays where it is."""
    x = x if x.shape[:-2] == lead else np.broadcast_to(x, (*lead, *x.shape[-2:]))
    if x.swapaxes(-1, -2).flags.c_contiguous and not x.flags.c_contiguous:
        (flat,) = host("matmul", x.swapaxes(-1, -2))
        return flat.reshape(-1), 1, x.shape[-2]
    (flat,) = host("matmul", x)
    return flat.reshape(-1), x.shape[-1], 1
