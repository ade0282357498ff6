"""How a matrix product adds up: `Accumulate`, and `HighPrecision`, the operand that was not quantized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import ShapeError, SpecError, UnknownNameError

INNERS = ("auto", "exact", "sequential", "pairwise")


@dataclass(frozen=True, slots=True)
class Accumulate:
    r"""The accumulation model of a matrix product.

    K is cut at every block boundary of either operand and at every multiple of `chunk`. Each piece has an inner dot product
    d (of codes, where the operands hold codes); then, in ascending order from +0,
    ``c <- outer(c + fl32(d * fl32(s_a * s_b)))``, with the block scales of that piece.
    Scales that are constant along k come last: ``fl32(c * fl32(row_a * row_b))``, then the tensor scales likewise.

    inner:    exact       the exact dot product, rounded once to float32
              sequential  from +0, c <- format(c + product), k ascending; never fused, unless product is "exact"
              pairwise    format(left half + right half), halves of floor(n/2) and the rest, down to single products
              auto        exact where both operands hold codes of small floats or integers, else sequential in float32
    format:   the inner accumulator's format
    product:  "float32" rounds each product to float32 first; "exact" does not
    chunk:    None, or the number of products after which the inner accumulator starts again
    scales:   per_block as above; epilogue refuses operands whose scales change along k
    outer:    the outer accumulator's format
    order:    fixed as above; unspecified where hardware leaves it open (then only a bound holds)
    """

    inner: str = "auto"
    format: str = "float32"
    product: str = "float32"
    chunk: int | None = None
    scales: str = "per_block"
    outer: str = "float32"
    order: str = "fixed"

    def __post_init__(self) -> None:
        if self.inner not in INNERS:
            raise UnknownNameError("inner accumulation", self.inner, INNERS, where="accumulate.inner")
        for field, known in (
            ("product", ("float32", "exact")),
            ("scales", ("per_block", "epilogue")),
            ("order", ("fixed", "unspecified")),
        ):
            if getattr(self, field) not in known:
                raise UnknownNameError(field, getattr(self, field), known, where=f"accumulate.{field}")
        if self.chunk is not None and self.chunk < 1:
            raise SpecError([f"accumulate.chunk: {self.chunk} is not positive"])


@dataclass(frozen=True, eq=False)
class HighPrecision:
    """An operand that was not quantized: `values` [R, C] in float32 (or float64), contracted along `k_axis`."""

    values: NDArray[Any]
    k_axis: int = 1

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.k_axis not in (-2, -1, 0, 1):
            raise ShapeError(f"values are {self.values.shape}, k_axis is {self.k_axis}", where="HighPrecision")

    @property
    def logical_shape(self) -> tuple[int, ...]:
        """The shape of `values`."""
        return self.values.shape

    def dequantize(self, dtype: Any = np.float64) -> NDArray[Any]:
        """The values, rounded once to `dtype`."""
        return self.values.astype(dtype, copy=False)
