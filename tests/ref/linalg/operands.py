"""A minimal operand of codes, so that the tests of `gemm` choose every scale themselves."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.ref import formats
from lpref.ref.scaling import Blocks


@dataclass(frozen=True)
class Rule:
    format: str
    blocks: Blocks


@dataclass(frozen=True)
class Codes:
    """elements [R, C] of the format's values; scales on the block grid of the logical array."""

    elements: np.ndarray
    scales: np.ndarray
    tensor_scale: Any
    k_axis: int
    quantizer: Rule
    zero: Any = None
    residual: Any = None

    @property
    def logical_shape(self):
        return self.elements.shape

    def element_values(self):
        return self.elements

    def scale_values(self):
        return self.scales

    def dequantize(self, dtype=np.float64):
        k_last = self.k_axis % 2 == 1
        shape = (self.quantizer.blocks.other, self.quantizer.blocks.k)
        grid = self.scales.astype(np.float64)
        for axis, size in enumerate(shape if k_last else shape[::-1]):
            grid = np.repeat(grid, size or self.elements.shape[axis], axis=axis)
        tensor = 1.0 if self.tensor_scale is None else float(self.tensor_scale)
        return (self.elements * grid[: self.elements.shape[0], : self.elements.shape[1]] * tensor).astype(dtype)


def draw(rng, other, k, name="e4m3", block=(1, 16), k_axis=1, tensor=None):
    """Random values of a format under random scales, no two alike."""
    values, _ = formats.format(name).table()
    elements = rng.choice(values, (other, k))
    grid = (-(-other // (block[0] or max(other, 1))), -(-k // (block[1] or max(k, 1))))
    scales = (2.0 ** rng.integers(-8, 8, grid) * rng.uniform(1, 2, grid)).astype(np.float32)
    if k_axis == 0:
        elements, scales = elements.T, scales.T
    tensor = None if tensor is None else np.float32(tensor)
    return Codes(
        np.ascontiguousarray(elements), np.ascontiguousarray(scales), tensor, k_axis, Rule(name, Blocks(*block))
    )
