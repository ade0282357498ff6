"""Hadamard transforms of row ranges, for passes that measure a block's amax right after: `hadamard`'s butterflies, the same bits.

Along axis 0 a butterfly adds two rows, whatever their length; along axis 1, 64 rows at a time are turned on their side in scratch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu.hadamard import butterflies

OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "fastmath": False, "error_model": "numpy"}
LANES = 64


@njit(**OPTIONS)
def down_columns(x, out, signs, size, norm, r0, r1):  # type: ignore[no-untyped-def]
    """Rows r0 .. r1 (multiples of size) of `hadamard(x, size, axis=0, signs)`; signs [R]."""
    for r in range(r0, r1, size):
        for i in range(r, r + size):
            source, target, s = x[i], out[i], signs[i]
            for c in range(source.size):
                target[c] = source[c] * s
        butterflies(out[r : r + size], size, x.shape[1], norm)


@njit(**OPTIONS)
def along_rows(x, out, signs, size, norm, r0, r1):  # type: ignore[no-untyped-def]
    """Rows r0 .. r1 of `hadamard(x, size, axis=1, signs)`; signs [C]."""
    tile = np.zeros((size, LANES), np.float32)
    for r in range(r0, r1, LANES):
        lanes = min(LANES, r1 - r)
        for c in range(0, x.shape[1], size):
            for lane in range(lanes):
                row = x[r + lane]
                for j in range(size):
                    tile[j, lane] = row[c + j] * signs[c + j]
            butterflies(tile, size, lanes, norm)
            for lane in range(lanes):
                row = out[r + lane]
                for j in range(size):
                    row[c + j] = tile[j, lane]
