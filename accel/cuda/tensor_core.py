"""Products under the accumulation models of matrix units (`hopper_bf16`, `hopper_fp8_fast`, ...), bit for bit: kernels/tensor_core.cu.

The unit's arithmetic is made in whole numbers on the CUDA cores, so that a model of any unit runs on any GPU. Served: units whose terms fit
27 bits (fraction at most 25) with a float32 accumulator, with block scales between pieces or multiplied into the elements; not scales that enter
as exponents (`aligned`) and accumulators of binary16. Codes of a format that the unit reads, or of one whose every value it has, need no look at
their values; others are looked at on the device, which waits for it, and refused as the definition refuses them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cuda import device, product
from lpref.accel.cuda.product import Strided
from lpref.accel.cuda.qtensor import CudaQTensor
from lpref.ref.errors import BackendError, FormatError
from lpref.ref.formats import FloatFormat
from lpref.ref.formats import format as format_named
from lpref.ref.linalg import Accumulate, TensorCore
from lpref.ref.linalg.gemm import holds
from lpref.ref.quantize import Quantizer

FRACTION = 25
"""Fraction bits at most: a term has two bits more, and 16 of them fit 32 bits with a sign."""
DEPTH = 32
"""k of a tile, or one step if that is more."""
EXACT = 24
"""Bits of element and block scale together whose product float32 holds."""


def check(model: Accumulate) -> None:
    """Raise BackendError for a unit that has no kernel."""
    core = model.core
    assert core is not None
    reasons = {
        "scales that enter as exponents": model.scales == "aligned" or core.group > 1, "an accumulator of binary16": core.accumulator != "float32",
        f"{core.fraction} fraction bits": core.fraction > FRACTION, f"an outer sum in {model.outer}": model.outer != "float32",
    }  # fmt: skip
    found = [what for what, wrong in reasons.items() if wrong]
    if found:
        raise BackendError(f"no kernel makes a matrix unit with {found[0]}", where="gemm", remedy="accumulate: auto, or use the host")


def embedded(x: Any, model: Accumulate) -> bool:
    """Whether this operand's block scales are multiplied into its elements. Raises: BackendError where float32 may not hold that."""
    if model.scales != "embedded" or not isinstance(x, CudaQTensor) or x.quantizer.blocks.k is None or not x.scales:
        return False
    bits = [format_named(name).precision for name in (x.quantizer.format, x.quantizer.scale.format)]
    if None in bits or sum(b or 0 for b in bits) > EXACT:
        raise BackendError(f"no kernel multiplies {x.quantizer.scale.format} scales into {x.quantizer.format}", where="gemm", remedy="use the host")
    return True


def read_as(x: Any, elements: Strided, whole: bool, core: TensorCore) -> FloatFormat:
    """The format in which the unit reads the operand's elements (times their block scales where `whole`): `lpref.ref.linalg.gemm.read_as`.

    Raises: FormatError where it has none of these values.
    """
    known = _known(x.quantizer, whole, core.inputs) if isinstance(x, CudaQTensor) else None
    if known is not None:
        return known
    first = None
    for name in core.inputs:
        f = format_named(name)
        assert isinstance(f, FloatFormat)
        first = _unheld(elements.array, f)
        if first is None:
            return f
    raise FormatError(
        f"{first!r} is no value of {' or '.join(core.inputs)}, which this matrix unit reads", where="gemm",
        remedy="quantize the operand, or accumulate: auto",
    )  # fmt: skip


@cache
def _known(q: Quantizer, whole: bool, inputs: tuple[str, ...]) -> FloatFormat | None:
    """What every value of the quantizer's format (times its block scales) is, if that can be told without looking."""
    if whole:
        f, parts = format_named(inputs[0]), [format_named(name) for name in (q.format, q.scale.format)]
        bits = sum(p.precision or EXACT for p in parts)
        least, most = (float(parts[0].min_subnormal * parts[1].min_subnormal), float(parts[0].max * parts[1].max))
        fits = isinstance(f, FloatFormat) and bits <= (f.precision or 0) and least >= 2.0**f.emin and most <= f.max
        return f if fits and isinstance(f, FloatFormat) else None
    for name in (q.format, *inputs):
        f, own = format_named(name), format_named(q.format)
        held = name == q.format or (own.bits <= 8 and holds(f, own.decode(np.arange(2**own.bits))).all())
        if name in inputs and isinstance(f, FloatFormat) and held:
            return f
    return None


def _unheld(values: Any, f: FloatFormat) -> float | None:
    """The first of these float32 values that the format does not have; None where it has all. Waits for the device."""
    cp = device.cupy()
    flat = cp.ascontiguousarray(values).reshape(-1)
    first = cp.asarray(np.array([flat.size], np.uint64))
    if flat.size:
        run = device.function("tensor_core", "unheld", (("LP_CHECK", 1),))
        args = (flat, flat.size, np.int32(f.precision), np.int32(f.emin), np.float32(f.max), first)
        run((device.blocks_for(flat.size),), (device.THREADS,), args)
    at = int(cp.asnumpy(first)[0])
    return None if at == flat.size else float(cp.asnumpy(flat[at : at + 1])[0])


def gemm(sides: tuple[Any, Any], factors: tuple[Any, Any], model: Accumulate) -> Any:
    """c[i, j] = sum_k a[i, k] b[j, k] -> float32 [M, N]: operands, and what `lpref.accel.cuda.gemm.factors` made of them."""
    core, (a, b) = model.core, factors
    assert core is not None
    formats = [read_as(x, f.elements, embedded(x, model), core) for x, f in zip(sides, factors, strict=True)]
    (M, K), N = a.shape, b.shape[0]
    out = device.cupy().empty((M, N), np.float32)
    if not M * N:
        return out
    size, found = product.tile(M, N, largest=64)
    bits = [(f.precision or 0) - 1 for f in formats]
    macros = dict(found) | {"LP_BK": max(DEPTH, core.products), "LP_PRODUCTS": core.products, "LP_LATE": int(core.late)}
    macros |= {"LP_WIDE": int(wide(core, bits)), "LP_A_K": a.elements.along_k, "LP_B_K": b.elements.along_k}
    del macros["LP_RESIDENT"]
    numbers = (M, N, K, model.chunk or 0, core.fraction, core.kept, core.clamp, formats[0].emin, bits[0], formats[1].emin, bits[1])
    run = device.function("tensor_core", "gemm", tuple(sorted(macros.items())))
    threads = ((size // product.TILES[size][0]) ** 2,)
    run((product.tiles(M, N, size),), threads, (*a.arguments, *b.arguments, out, *(np.int32(n) for n in numbers)))
    return out


def wide(core: TensorCore, bits: list[int]) -> bool:
    """Whether a step's sum needs more than 32 bits."""
    largest = (2 ** (bits[0] + 1) - 1) * (2 ** (bits[1] + 1) - 1) * 2 ** max(core.fraction - sum(bits), 0)
    return bool(core.products * largest >= 2**31)

