"""`lpref.ref.linalg.gemm` of operands on the device in grade exact, bit for bit.

High precision, and codes of formats that are too wide for exact sums, are multiplied k ascending in float32 (`product`); block-scaled codes piece by
piece, each piece exact and rounded once: small whole numbers by the integer units (`integers`), others in float64
(kernels/gemm_float64.cu), their elements decoded to float32 before. Models: the default, exact or sequential
float32 sums with any chunk, matrix units (`tensor_core`), sequential sums in small floats and sums in integer registers (`chain`);
other accumulators have no kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, chain, device, integers, product, tensor_core
from lpref.accel.cuda.qtensor import CudaQTensor
from lpref.ref.errors import BackendError, ShapeError
from lpref.ref.formats import IntFormat
from lpref.ref.formats import format as format_named
from lpref.ref.linalg import Accumulate, HighPrecision, accumulator
from lpref.ref.linalg.gemm import AUTO_BITS, exactly_summable, format_grid, holds_codes, plain
from lpref.ref.quantize import Quantizer

LIMIT = 53
"""Bits of an integer that float64 holds."""


@dataclass(frozen=True, eq=False)
class Factors:
    """An operand taken apart, on the device: elements as [other, K], the grid of its scales likewise, the tensor scale.

    other, step: elements of the operand's own axis and of k that share a scale; step 0: one scale for all of K, or none (scales None).
    Elements are multiples of 2^quantum, below 2^(quantum + bits); whole: all of them, since the format is of integers.
    """

    elements: product.Strided
    shape: tuple[int, int]
    scales: Any = None
    grid: tuple[int, int] = (0, 0)
    other: int = 1
    step: int = 0
    tensor: Any = None
    quantum: int = 0
    bits: int = 99
    whole: bool = False

    def cut(self, slices: int) -> np.float32:
        """Where the elements are cut in two."""
        return np.float32(2.0 ** (self.quantum + -(-self.bits // 2)) if slices == 2 else 1)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Of the kernel, up to the cut."""
        e, scales = self.elements, 0 if self.scales is None else self.scales
        return (e.array, e.outer, e.inner, scales, *self.grid, np.int32(self.other), np.int32(self.step), 0 if self.tensor is None else self.tensor)


def gemm(a: Any, b: Any, accumulate: Accumulate | str | None = None) -> Any:
    """c[i, j] = sum_k a[i, k] b[j, k] -> float32 [M, N], as `lpref.ref.linalg.gemm`.

    Raises: what the definition raises; BackendError for models without kernels and for sums wider than two slices of float64.
    """
    model = accumulator(accumulate or "auto")
    depth_a, depth_b = a.logical_shape[a.k_axis], b.logical_shape[b.k_axis]
    if depth_a != depth_b:
        raise ShapeError(f"the contraction axes have {depth_a} and {depth_b} elements", where="gemm")
    if model.core is not None:
        return _unit(a, b, model)
    exact = _summable(a) and _summable(b)
    if model.inner == "auto" and not exact:
        a, b = _plain(a), _plain(b)
    sequential = model.inner == "sequential" or (model.inner == "auto" and not exact)
    if chain.covers(model):
        fa, fb = factors(a), factors(b)
        _refuse_changing(model, fa, fb)
        return chain.gemm(fa, fb, model)
    _covered(model, exact, sequential)
    length = integers.piece(a, b) if model == Accumulate() and exact else None
    if length is not None:
        return integers.gemm(a, b, length)
    fa, fb = factors(a), factors(b)
    _refuse_changing(model, fa, fb)
    bare = all(f.scales is None and f.tensor is None for f in (fa, fb))
    if sequential and bare and model.chunk is None and model.product == "float32":
        out = device.cupy().empty((fa.shape[0], fb.shape[0]), np.float32)
        product.product(out, (0, 0, fb.shape[0]), fa.elements, fb.elements, (fa.shape[0], fb.shape[0], depth_a))
        return out
    inner = (2 if model.product == "exact" else 1) if sequential else 0
    return _pieces(fa, fb, inner, model.chunk or 0)


def _unit(a: Any, b: Any, model: Accumulate) -> Any:
    """A product by a matrix unit's model."""
    tensor_core.check(model)
    fa, fb = (factors(x, tensor_core.embedded(x, model)) for x in (a, b))
    _refuse_changing(model, fa, fb)
    return tensor_core.gemm((a, b), (fa, fb), model)


def _refuse_changing(model: Accumulate, *sides: Factors) -> None:
    if model.scales == "epilogue" and any(f.step for f in sides):
        raise ShapeError("scales that change along k cannot wait for the epilogue", where="gemm", remedy="scales: per_block")


def _covered(model: Accumulate, exact: bool, sequential: bool) -> None:
    plain_sums = model.format == model.outer == "float32" and model.core is None
    if not plain_sums or not (sequential or (model.inner in ("auto", "exact") and exact)):
        what = f"{model.inner} sums in {model.format}" if model.inner != "exact" or exact else "exact sums of high precision"
        raise BackendError(f"no kernel makes {what}", where="gemm",
                           remedy="on the device: auto, exact sums of codes, sequential sums, matrix units; else use the host")  # fmt: skip


def factors(x: Any, whole: bool = False) -> Factors:
    """The operand taken apart; codes decoded to float32, times their block scales where `whole`."""
    rows, columns = (int(n) for n in x.logical_shape[-2:]) if isinstance(x, HighPrecision) else x.shape
    k_last = bool(x.k_axis % 2)
    shape = (rows, columns) if k_last else (columns, rows)
    if not holds_codes(x):
        values = arrays.wide(plain(x).values)
        arrays.check("gemm", values)
        steps = [s // 4 if n > 1 else 1 for s, n in zip(values.strides, values.shape, strict=True)]
        return Factors(product.Strided(values, *(steps if k_last else steps[::-1])), shape)
    if not isinstance(x, CudaQTensor):
        raise BackendError(f"gemm got a {type(x).__name__}", where="cuda", remedy="quantize CuPy arrays, or use the host for all operands")
    elements = product.Strided(x.folded() if whole else x.decoded(), *((columns, 1) if k_last else (1, columns)))
    quantum, bits, _ = _facts(x.quantizer)
    bits += x.zero is not None  # the difference of a code and a zero point has one bit more
    whole_numbers = isinstance(format_named(x.quantizer.format), IntFormat)
    common: dict[str, Any] = {"tensor": x.tensor_scale, "quantum": quantum, "bits": bits, "whole": whole_numbers}
    if not x.scales or whole or not x.scales[0].size:
        return Factors(elements, shape, **common)
    scales, blocks = x.scale_values(), x.quantizer.blocks
    wide = int(scales.shape[1])
    return Factors(elements, shape, scales, (wide, 1) if k_last else (1, wide), blocks.other or max(shape[0], 1), blocks.k or 0, **common)


@cache
def _facts(q: Quantizer) -> tuple[int, int, bool]:
    """(exponent of the elements' quantum, bits of the elements in units of it, whether `auto` takes exact sums)."""
    grid = format_grid(format_named(q.format))
    return (0, 99, False) if grid is None else (grid[0], grid[1] - grid[0], grid[1] - grid[0] <= AUTO_BITS)


def _summable(x: Any) -> bool:
    """`lpref.ref.linalg.gemm.exactly_summable`."""
    if not isinstance(x, CudaQTensor) or x.zero is not None:
        return exactly_summable(x)
    return x.linear and _facts(x.quantizer)[2]


def _plain(x: Any) -> HighPrecision:
    """`lpref.ref.linalg.gemm.plain`; a cast without scales is its elements."""
    bare = isinstance(x, CudaQTensor) and x.quantizer.scale.rule == "none" and format_named(x.quantizer.format).bits <= 16
    return HighPrecision(x.decoded(), x.k_axis) if bare else plain(x)


def _slices(a: Factors, b: Factors, longest: int) -> tuple[int, int]:
    """Into how many parts the elements are cut, so that sums of `longest` products of parts are exact.

    Raises: BackendError where two do not do.
    """
    terms = max(longest - 1, 0).bit_length()
    for cut_a, cut_b in ((1, 1), (2, 1), (1, 2), (2, 2)) if a.bits >= b.bits else ((1, 1), (1, 2), (2, 1), (2, 2)):
        width = -(-a.bits // cut_a) + -(-b.bits // cut_b) + terms + (cut_a == cut_b == 2)
        if width <= LIMIT:
            return cut_a, cut_b
    raise BackendError(f"exact sums of {longest} products of {a.bits} and {b.bits} bits need more than two slices of float64", where="gemm",
                       remedy="shorter blocks along k, or use the host")  # fmt: skip


WARPS = {(128, 64): (4, 4), (64, 64): (2, 4), (32, 32): (1, 2)}
"""Outputs of a block along either axis -> instructions of a warp along either axis (kernels/gemm_float64.cu)."""


def _pieces(a: Factors, b: Factors, inner: int, chunk: int) -> Any:
    """kernels/gemm.cu (inner 1 or 2), or kernels/gemm_float64.cu (0)."""
    (M, K), N = a.shape, b.shape[0]
    out = device.cupy().empty((M, N), np.float32)
    if not M * N:
        return out
    layout, shape = {"LP_A_K": a.elements.along_k, "LP_B_K": b.elements.along_k}, [np.int32(n) for n in (M, N, K, chunk)]
    if inner:
        size, found = product.tile(M, N, largest=64)
        run = device.function("gemm", "gemm", (*found, *layout.items(), ("LP_INNER", inner)))
        run((product.tiles(M, N, size),), ((size // product.TILES[size][0]) ** 2,), (*a.arguments, *b.arguments, out, *shape))
        return out
    slices = _slices(a, b, min(K, *(step for step in (a.step, b.step, chunk) if step), K))
    sizes = [s for s in WARPS if slices == (1, 1) or s[0] <= 64]
    high, wide = next((s for s in sizes if -(-M // s[0]) * -(-N // s[1]) >= device.processors()), (32, 32))
    each = WARPS[high, wide]
    macros = {"LP_BM": high, "LP_BN": wide, "LP_MT": each[0], "LP_NT": each[1], "LP_SLICES_A": slices[0], "LP_SLICES_B": slices[1], "LP_BK": 8}
    run = device.function("gemm_float64", "gemm", tuple((macros | layout).items()))
    sides = (*a.arguments, a.cut(slices[0]), *b.arguments, b.cut(slices[1]))
    run((-(-M // high) * -(-N // wide),), (256,), (*sides, out, *shape))
    return out
