"""`Embedded`: a quantized operand by its values in float32, for the products of grade fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.accel.cpu import s2fp8
from lpref.ref.errors import ShapeError
from lpref.ref.quantize import QTensor, Quantizer

ONE = np.ones((1, 1), np.float32)


@dataclass(frozen=True, eq=False)
class Embedded:
    """A quantized operand by its values: x^ = values x tensor_scale.

    values        float32 [R, C]: element x block scale, one rounding where the product has more than 24 bits (float32 scales)
    tensor_scale  float32; with one scale for the whole tensor the values are the bare elements and this is the scale
    grid          float32 block scales that are part of the values; [[1]] where the tensor scale has the only one
    exact         whether every value is the exact product
    """

    values: NDArray[np.float32]
    tensor_scale: np.float32
    k_axis: int
    quantizer: Quantizer
    grid: NDArray[np.float32]
    observed: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = True

    @property
    def logical_shape(self) -> tuple[int, int]:
        rows, columns = self.values.shape
        return rows, columns

    @property
    def block(self) -> tuple[int, int]:
        """As `QTensor.block`."""
        return self.quantizer.blocks.on(self.logical_shape, self.k_axis)

    def scale_values(self) -> NDArray[np.float32]:
        """The block scales of `grid`; times `tensor_scale` they are what elements are multiplied with."""
        return self.grid

    def dequantize(self, dtype: Any = np.float32) -> NDArray:
        """The values, tensor scale included: the product in float64, rounded once to `dtype`.

        In float32 that is the float32 product: two significands of 24 bits have an exact product in float64.
        """
        if dtype is np.float32 and self.values.dtype == np.float32 and isinstance(self.tensor_scale, np.float32):
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                return self.values * self.tensor_scale
        return (self.values.astype(np.float64) * np.float64(self.tensor_scale)).astype(dtype)

    def transpose(self) -> Embedded:
        """As `QTensor.transpose`; the values are not copied."""
        if self.quantizer.scale.rule != "none" and not self.quantizer.blocks.transpose_closed:
            raise ShapeError("the blocks are not transpose-closed", where="Embedded.transpose", remedy="quantize the transposed tensor")
        return replace(self, values=self.values.T, grid=self.grid.T)


def embedded(t: QTensor) -> Embedded:
    """The embedding of a `QTensor`."""
    if not t.linear:
        return Embedded(matrix_of(t), np.float32(1), t.k_axis, t.quantizer, ONE, t.observed, exact=False)
    scale = t.scale_values()
    if scale.size == 1:
        return Embedded(t.element_values().astype(np.float32), np.float32(t.tensor_scale * scale[0, 0]), t.k_axis, t.quantizer, ONE, t.observed)
    br, bc = t.block
    spread = np.repeat(np.repeat(scale, br, axis=0)[: t.shape[0]], bc, axis=1)[:, : t.shape[1]]
    with np.errstate(over="ignore", invalid="ignore"):
        values = (t.element_values() * spread).astype(np.float32)
    return Embedded(values, t.tensor_scale, t.k_axis, t.quantizer, scale, t.observed, exact=t.quantizer.scale.format != "float32")


def matrix_of(t: QTensor) -> NDArray[np.float32]:
    """The values [R, C], rounded once to float32."""
    if t.quantizer.scale.rule == "s2fp8":
        return s2fp8.values(t).reshape(t.shape)
    return np.asarray(t.dequantize(np.float32)).reshape(t.shape)
