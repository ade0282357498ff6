"""The product of two operands over their contraction axes, under an accumulation model."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lpref.ref import formats
from lpref.ref.errors import FormatError, ShapeError, SpecError, UnknownNameError
from lpref.ref.linalg.accumulate import Accumulate, HighPrecision
from lpref.ref.linalg.accumulators import accumulator
from lpref.ref.linalg.exact_dot import Grid
from lpref.ref.linalg.inner import Inner, Piece, inner_dot, rounded_add
from lpref.ref.linalg.matmul import GRADES
from lpref.ref.linalg.tensor_core import NONE, TensorCore, exponents

F32 = NDArray[np.float32]

AUTO_BITS = 36
"""`auto` is exact where log2(max / min_subnormal) of both formats is at most this: FP8, FP6, FP4 and integers to 16 bits."""


@runtime_checkable
class Operand(Protocol):
    """What `gemm` asks of an operand; `QTensor` and `HighPrecision` are operands. `k_axis` is the contraction axis."""

    @property
    def k_axis(self) -> int: ...
    @property
    def logical_shape(self) -> tuple[int, ...]: ...
    def dequantize(self, dtype: Any = ...) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Factors:
    """An operand taken apart: value[o, k] = elements[o, k] * block[o, k div k_block] * row[o] * tensor."""

    elements: NDArray[Any]  # [other, K]
    block: F32 | None = None  # [other, ceil(K / k_block)]: scales that change along k
    k_block: int | None = None
    row: F32 | None = None  # [other]: scales constant along k
    tensor: np.float32 | None = None
    grid: Grid | None = None  # of every value that the element format has
    format: str = ""  # of the elements; "" for high precision
    scale_emin: int = -127  # the smallest normal exponent of the block scales' format
    exponents: NDArray[np.int32] | None = None  # of the elements, for matrix units

    def piece(self, start: int, stop: int) -> Piece:
        """k = start .. stop - 1."""
        return Piece(self.elements[:, start:stop], self.grid, None if self.exponents is None else self.exponents[:, start:stop])


def gemm(a: Any, b: Any, accumulate: Accumulate | str | None = None, *, numerics: str = "exact", inner: Inner = inner_dot) -> NDArray[Any]:
    """c[i, j] = sum_k a[i, k] b[j, k]: operands of other sizes M and N and one K -> [M, N].

    float32, or float64 where both operands are float64 `HighPrecision`. Grade "exact" follows `accumulate` (a model or the name of
    one) to the bit; grade "fast" multiplies the elements with their block and row scales folded in by BLAS, then the tensor scales, under
    `fast_bound`, and refuses models whose sums are coarser than float32's. `inner` computes the pieces, with the bits of `inner_dot`.
    Errors: ShapeError, SpecError, UnknownNameError, FormatError.

    >>> a = HighPrecision(np.float32([[1, 2]]), 1)
    >>> gemm(a, a).tolist()
    [[5.0]]
    """
    model = accumulator(accumulate or "auto")
    if numerics not in GRADES:
        raise UnknownNameError("numerics grade", numerics, GRADES, where="gemm")
    refuse_coarse(model, numerics)
    depth_a, depth_b = a.logical_shape[a.k_axis], b.logical_shape[b.k_axis]
    if depth_a != depth_b:
        raise ShapeError(f"the contraction axes have {depth_a} and {depth_b} elements", where="gemm")
    if numerics == "fast":
        return _fast(factors(a, np.float32), factors(b, np.float32))
    if model.inner == "auto":
        exact = exactly_summable(a) and exactly_summable(b)
        model = replace(model, inner="exact" if exact else "sequential")
        if not exact:
            a, b = plain(a), plain(b)
    fa, fb = (factors(x, np.float64 if model.inner == "exact" or model.core else np.float32) for x in (a, b))
    if model.core is not None:
        fa, fb = entered(fa, model), entered(fb, model)
    if model.scales == "epilogue" and (fa.block is not None or fb.block is not None):
        raise ShapeError(
            "scales that change along k cannot wait for the epilogue", where="gemm", remedy="scales: per_block"
        )
    return epilogue(_blocks(fa, fb, model, inner), fa, fb)


def refuse_coarse(model: Accumulate, numerics: str) -> None:
    """Grade fast does not follow a model that is coarser than float32.

    Raises: SpecError.
    """
    if numerics == "fast" and not model.float32_sums:
        raise SpecError(
            [f"accumulate.inner: grade fast adds in float32, in an order of its own, and cannot follow {model.inner!r} in {model.format}"],
            where="gemm",
            remedy="numerics: exact",
        )


def holds_codes(x: Any) -> bool:
    """True for operands that are one tensor of codes under scales, zero points subtracted: `QTensor.linear`."""
    return not isinstance(x, HighPrecision) and bool(getattr(x, "linear", True))


def exactly_summable(x: Any) -> bool:
    """True where `auto` takes the exact inner product: codes of a float or integer format of at most `AUTO_BITS` bits."""
    if not holds_codes(x):
        return False
    f = formats.format(x.quantizer.format)
    grid = element_grid(x, f)
    return f.precision is not None and grid is not None and grid[1] - grid[0] <= AUTO_BITS


def element_grid(x: Any, f: Any) -> Grid | None:
    """`format_grid`; the difference of a code and a zero point has one bit more."""
    grid = format_grid(f)
    return grid if grid is None or getattr(x, "zero", None) is None else (grid[0], grid[1] + 1)


@cache
def format_grid(f: Any) -> Grid | None:
    """(quantum, top) of every value of a float or integer format; None for codebooks."""
    if f.precision is None:
        return None
    quantum = int(np.frexp(f.min_subnormal)[1]) - 1
    top = max(int(np.frexp(abs(limit))[1]) for limit in (f.max, f.min))
    return quantum, top


def plain(x: Any) -> HighPrecision:
    """The operand's dequantized values, rounded once to float32; unchanged if it is high precision already."""
    return x if isinstance(x, HighPrecision) else HighPrecision(x.dequantize(np.float32), x.k_axis)


def factors(x: Any, dtype: Any = np.float64, elements: NDArray[Any] | None = None) -> Factors:
    """The operand as [other, K] elements and scales; codes become elements of `dtype`, high precision keeps its own.

    `elements`: those of the codes, in `dtype`, where the caller has them already.
    """
    if not holds_codes(x):
        high = plain(x)
        return Factors(high.values if high.k_axis % 2 else high.values.T)
    k_last = bool(x.k_axis % 2)
    elements = x.element_values().astype(dtype, copy=False) if elements is None else elements
    grid_of_scales = x.scale_values()
    if not k_last:
        elements, grid_of_scales = elements.T, grid_of_scales.T
    blocks = x.quantizer.blocks
    other = elements.shape[0]
    scales = np.repeat(grid_of_scales, other if blocks.other is None else blocks.other, axis=0)[:other]
    scales = scales.astype(np.float32, copy=False)
    tensor = None if x.tensor_scale is None else np.float32(x.tensor_scale)
    common: dict[str, Any] = {"tensor": tensor, "grid": element_grid(x, formats.format(x.quantizer.format)), "format": x.quantizer.format}
    rule = getattr(x.quantizer, "scale", None)
    if rule is not None:
        common["scale_emin"] = formats.format(rule.format).emin
    if blocks.k is None:
        row = scales[:, 0] if scales.shape[1] else np.ones(other, np.float32)
        return Factors(elements, row=row, **common)
    return Factors(elements, block=scales, k_block=blocks.k, **common)


def entered(x: Factors, model: Accumulate) -> Factors:
    """The operand as a matrix unit reads it: exponents, and the block scales where `scales` puts them.

    Raises: FormatError where a value is none of the formats that the unit reads.
    """
    core = model.core
    assert core is not None
    scale = None
    if x.block is not None and x.k_block is not None and model.scales in ("embedded", "aligned"):
        scale = np.repeat(x.block, x.k_block, axis=1)[:, : x.elements.shape[1]].astype(np.float64)
    values = x.elements.astype(np.float64, copy=False)
    if scale is None:
        return replace(x, elements=values, exponents=_exponents(values, x.format, core))
    whole = replace(x, elements=values * scale, block=None, k_block=None)
    if model.scales == "embedded":
        return replace(whole, exponents=_exponents(whole.elements, "", core))
    e, of_scale = _exponents(values, x.format, core), exponents(scale, x.scale_emin)
    return replace(whole, exponents=of_scale if core.group > 1 else np.where(e == NONE, e, e + of_scale))


def _exponents(values: NDArray[np.float64], name: str, core: TensorCore) -> NDArray[np.int32]:
    return exponents(values, read_as(values, name, core).emin)


def read_as(values: NDArray[np.float64], name: str, core: TensorCore) -> Any:
    """The format in which the unit reads these values: their own, or the first of its inputs that holds them all.

    Raises: FormatError.
    """
    if name in core.inputs:
        return formats.format(name)
    for known in core.inputs:
        if holds(formats.format(known), values).all():
            return formats.format(known)
    bad = ~holds(formats.format(core.inputs[-1]), values)
    raise FormatError(
        f"{float(values[bad].flat[0])!r} is no value of {' or '.join(core.inputs)}, which this matrix unit reads",
        where="gemm",
        remedy="quantize the operand, or accumulate: auto",
    )


def holds(f: Any, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values the float format has; NaN and infinities pass."""
    finite = np.where(np.isfinite(values), values, 0.0)
    scaled = np.ldexp(finite, f.precision - 1 - np.maximum(np.frexp(finite)[1] - 1, f.emin))
    return (scaled == np.trunc(scaled)) & (np.abs(finite) <= f.max)


def cuts(a: Factors, b: Factors, chunk: int | None = None) -> list[int]:
    """The bounds of the pieces of K: every block boundary of either operand and every multiple of `chunk`."""
    depth = a.elements.shape[1]
    bounds = {0, depth}
    for period in (a.k_block, b.k_block, chunk):
        if period is not None:
            bounds.update(range(0, depth, period))
    return sorted(bounds)


def _blocks(a: Factors, b: Factors, model: Accumulate, inner: Inner) -> NDArray[Any]:
    """The pieces of K in ascending order, each scaled, added in the outer format."""
    wide = model.inner == "sequential" and a.elements.dtype == b.elements.dtype == np.float64  # high precision only
    shape = (a.elements.shape[0], b.elements.shape[0])
    total: NDArray[Any] = np.zeros(shape, np.float64 if wide else np.float32)
    for start, stop in itertools.pairwise(cuts(a, b, model.chunk)):
        piece = inner(a.piece(start, stop), b.piece(start, stop), model)
        scale = _pair(_column(a, start), _column(b, start))
        with np.errstate(over="ignore", invalid="ignore"):
            piece = piece if scale is None else piece * scale
            if model.outer == "float32":
                total = total + piece
            else:
                total = rounded_add(total.astype(np.float64), piece.astype(np.float64), model.outer).astype(np.float32)
    return total


def _column(x: Factors, k: int) -> F32 | None:
    """The block scales of element k, [other]."""
    return None if x.block is None or x.k_block is None else x.block[:, k // x.k_block]


def _pair(a: F32 | None, b: F32 | None) -> F32 | None:
    """fl32(s_a s_b) as [M, N], [M, 1] or [1, N]."""
    if a is None or b is None:
        return a[:, None] if a is not None else (None if b is None else b[None, :])
    return a[:, None] * b[None, :]


def epilogue(c: NDArray[Any], a: Factors, b: Factors) -> NDArray[Any]:
    """The scales that are constant along k: rows first, then tensors."""
    with np.errstate(over="ignore", invalid="ignore"):
        rows = _pair(a.row, b.row)
        c = c if rows is None else c * rows
        if a.tensor is None and b.tensor is None:
            return c
        one = np.float32(1)
        return c * ((one if a.tensor is None else a.tensor) * (one if b.tensor is None else b.tensor))


def folded(x: Factors) -> NDArray[Any]:
    """elements * block * row, each product rounded to float32: what grade fast multiplies."""
    if x.block is None and x.row is None:
        return x.elements
    values = x.elements.astype(np.float32)
    if x.block is not None and x.k_block is not None:
        values = values * np.repeat(x.block, x.k_block, axis=1)[:, : values.shape[1]]
    return values if x.row is None else values * x.row[:, None]


def _fast(a: Factors, b: Factors) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        c = np.matmul(folded(a), folded(b).T)  # exact: grade fast, under fast_bound
    return epilogue(c, replace(a, row=None), replace(b, row=None))
