"""`Codes`: a `QTensor` of the CPU backend, whose values in float32 are made by kernels."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lpref.accel.cpu import threads
from lpref.accel.cpu.gather import elements
from lpref.accel.cpu.quantize_kernels import OPTIONS, TILE, spread_rows
from lpref.ref.quantize import QTensor


@dataclass(frozen=True, eq=False)
class Codes(QTensor):
    """The codes and scales of a `QTensor`."""

    @staticmethod
    def of(t: QTensor) -> Codes:
        """The same tensor."""
        return Codes(**{f.name: getattr(t, f.name) for f in fields(t)})

    def dequantize(self, dtype: Any = np.float64) -> NDArray:
        """`QTensor.dequantize`: the float64 product of element, block scale and tensor scale, rounded once; the same bits."""
        values = elements(self) if dtype in (np.float32, np.dtype(np.float32)) and self.tensor_scale is not None else None
        if values is None:
            return super().dequantize(dtype)
        rows, columns = self.shape
        fixed = (*self.block, columns, np.ascontiguousarray(self.scale_values()), np.float64(self.tensor_scale))
        threads.split(rows, lambda r0, r1: scaled(values, *fixed, r0, r1), 1, max(1, threads.GRAIN // max(columns, 1)))
        return values.reshape(self.logical_shape)


@njit(**OPTIONS)
def scaled(values, br, bc, period, scales, tensor_scale, r0, r1):  # type: ignore[no-untyped-def]
    """Rows r0 .. r1 of values <- float32(values x block scale x tensor scale), the products in float64."""
    C = values.shape[1]
    scale = np.empty(min(C, TILE), np.float32)
    for c0 in range(0, C, TILE):
        n = min(TILE, C - c0)
        for r in range(r0, r1):
            if r == r0 or r % br == 0:
                spread_rows(scales, r // br, bc, period, c0, n, scale)
            part = values[r, c0 : c0 + n]
            for c in range(n):
                part[c] = np.float32(np.float64(part[c]) * np.float64(scale[c]) * tensor_scale)
