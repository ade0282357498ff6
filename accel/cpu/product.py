"""`lpref.ref.linalg.matmul` in grade exact: the same bits at memory and register speed."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from lpref.accel.cpu.rows import host
from lpref.accel.cpu.threads import split
from lpref.accel.cpu.tile import WIDTH, make_tile
from lpref.ref.errors import ShapeError

TILE_8x2 = make_tile(8, 2, WIDTH)
TILE_8x1 = make_tile(8, 1, WIDTH)
TILE_8 = make_tile(8, 1, 1)
TILE_1x1 = make_tile(1, 1, WIDTH)
TILE_1 = make_tile(1, 1, 1)


@njit(cache=True, nogil=True, error_model="numpy")
def product(C, c0, ldc, A, a0, row, col, B, b0, ldb, M, N, K):  # type: ignore[no-untyped-def]
    """C[m, n] = Σ_k A[m, k] B[k, n], k ascending from +0, for m < M, n < N; addresses as in `make_tile`. C overlaps neither A nor B."""
    n = 0
    while n < N:
        step = 2 * WIDTH if n + 2 * WIDTH <= N else (WIDTH if n + WIDTH <= N else 1)
        m = 0
        while m + 8 <= M:
            c, a = c0 + m * ldc + n, a0 + m * row
            if step == 2 * WIDTH:
                TILE_8x2(C, c, ldc, A, a, row, col, B, b0 + n, ldb, K)
            elif step == WIDTH:
                TILE_8x1(C, c, ldc, A, a, row, col, B, b0 + n, ldb, K)
            else:
                TILE_8(C, c, ldc, A, a, row, col, B, b0 + n, ldb, K)
            m += 8
        while m < M:
            c, a = c0 + m * ldc + n, a0 + m * row
            for part in range(n, n + step, min(step, WIDTH)):
                if step == 1:
                    TILE_1(C, c, ldc, A, a, row, col, B, b0 + n, ldb, K)
                else:
                    TILE_1x1(C, c + part - n, ldc, A, a, row, col, B, b0 + part, ldb, K)
            m += 1
        n += step


_STRIP = 2 * WIDTH
_GRAIN = 1 << 18
"""Multiplications below which a second thread costs more than it brings."""


@njit(cache=True, nogil=True, error_model="numpy")
def _strips(begin, end, C, A, B):  # type: ignore[no-untyped-def]
    """Strips begin .. end of C [G, M, N] = A [G, M, K] B [G, K, N], _STRIP columns each; B's strip is copied so that it lies together."""
    _, M, N = C.shape
    K = A.shape[2]
    strip = _STRIP
    strips = (N + strip - 1) // strip
    for job in range(begin, end):
        g, n0 = job // strips, (job % strips) * strip
        width = min(strip, N - n0)
        panel = np.empty((K, width), np.float32)
        for k in range(K):
            for n in range(width):
                panel[k, n] = B[g, k, n0 + n]
        product(C, g * M * N + n0, N, A, g * M * K, K, 1, panel, 0, width, M, width, K)


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[..., M, K] @ [..., K, N]: `lpref.ref.linalg.matmul` in grade exact, for float32; leading axes broadcast."""
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ShapeError(f"{a.shape} @ {b.shape}: needed [..., M, K] and [..., K, N]", where="matmul")
    a, b = host("matmul", a, b)
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    G, (M, K), N = math.prod(lead), a.shape[-2:], b.shape[-1]
    left = np.ascontiguousarray(np.broadcast_to(a, (*lead, M, K))).reshape(G, M, K)
    right = np.ascontiguousarray(np.broadcast_to(b, (*lead, K, N))).reshape(G, K, N)
    out = np.empty((G, M, N), np.float32)
    grain = max(1, _GRAIN // max(M * K * _STRIP, 1))
    split(G * -(-N // _STRIP), lambda begin, end: _strips(begin, end, out, left, right), align=1, grain=grain)
    return out.reshape(*lead, M, N)
