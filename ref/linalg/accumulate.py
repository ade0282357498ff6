"""How a matrix product adds up: `Accumulate`, and `HighPrecision`, the operand that was not quantized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import FormatError, ShapeError, SpecError, UnknownNameError
from lpref.ref.linalg.tensor_core import TensorCore

INNERS = ("auto", "exact", "sequential", "pairwise", "kahan", "integer", "tensor_core")


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
              kahan       from s = r = +0: y = format(product - r), t = format(s + y), r = format(format(t - s) - y), s = t
              integer     two's complement sums of integer products in `bits` bits, each addition under `overflow`
              tensor_core the fused steps of a matrix unit, with the parameters `core`
              auto        exact where both operands hold codes of small floats or integers, else sequential in float32
    format:   the inner accumulator's format
    product:  "float32" rounds each product to float32 first; "exact" does not
    chunk:    None, or the number of products after which the inner accumulator starts again
    scales:   per_block as above; epilogue refuses operands whose scales change along k; embedded multiplies the block scales into
              the elements, which must be exact, so that K is one piece; aligned adds their exponents to the products' (block-scaled units)
    outer:    the outer accumulator's format
    order:    fixed as above; unspecified where hardware leaves it open (then only a bound holds)
    bits:     of the integer accumulator
    overflow: of the integer accumulator: wrap (modulo 2^bits, in any order) or saturate (at every addition, k ascending)
    core:     the matrix unit
    """

    inner: str = "auto"
    format: str = "float32"
    product: str = "float32"
    chunk: int | None = None
    scales: str = "per_block"
    outer: str = "float32"
    order: str = "fixed"
    bits: int = 32
    overflow: str = "wrap"
    core: TensorCore | None = None

    def __post_init__(self) -> None:
        if self.inner not in INNERS:
            raise UnknownNameError("inner accumulation", self.inner, INNERS, where="accumulate.inner")
        for field, known in (
            ("product", ("float32", "exact")),
            ("scales", ("per_block", "epilogue", "embedded", "aligned")),
            ("order", ("fixed", "unspecified")),
            ("overflow", ("wrap", "saturate")),
        ):
            if getattr(self, field) not in known:
                raise UnknownNameError(field, getattr(self, field), known, where=f"accumulate.{field}")
        problems = []
        if self.chunk is not None and self.chunk < 1:
            problems.append(f"accumulate.chunk: {self.chunk} is not positive")
        if not 2 <= self.bits <= 63:
            problems.append(f"accumulate.bits: {self.bits} is not in 2 .. 63")
        if (self.inner == "tensor_core") != (self.core is not None):
            problems.append("accumulate.core: inner tensor_core has the parameters of its unit, and nothing else has")
        if self.scales in ("embedded", "aligned") and self.core is None:
            problems.append(f"accumulate.scales: {self.scales} is a matter of inner tensor_core")
        if problems:
            raise SpecError(problems)

    @property
    def float32_sums(self) -> bool:
        """Whether every sum has at least float32's precision, so that grade fast stays within its bound."""
        return self.inner not in ("integer", "tensor_core") and self.format == self.outer == "float32"


@dataclass(frozen=True, eq=False)
class HighPrecision:
    """An operand that was not quantized: `values` [R, C] in float32 (or float64), contracted along `k_axis`."""

    values: NDArray[Any]
    k_axis: int = 1

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.k_axis not in (-2, -1, 0, 1):
            raise ShapeError(f"values are {self.values.shape}, k_axis is {self.k_axis}", where="HighPrecision")
        if self.values.dtype.kind == "c":
            raise FormatError(
                f"values are {self.values.dtype}, a matrix product is of reals", where="HighPrecision",
                remedy="a complex product is four of reals: multiply the real and the imaginary parts",
            )  # fmt: skip

    @property
    def logical_shape(self) -> tuple[int, ...]:
        """The shape of `values`."""
        return self.values.shape

    def dequantize(self, dtype: Any = np.float64) -> NDArray[Any]:
        """The values, rounded once to `dtype`."""
        return self.values.astype(dtype, copy=False)
