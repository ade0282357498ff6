"""Matrix products of grade fast: cuBLASLt (`cublaslt`, `algorithms`), in the unit that holds what the codes stand for. No TF32.

    unit      operands                                                                         scales
    FP8       E4M3, E5M2 (not both E5M2) under float32 scales that `fp8.mode` names, Hopper    inside cuBLASLt
    INT8      int8 under scales that are constant along k: the bits of grade exact             afterwards
    binary16  casts to binary16                                                                none
    bfloat16  element x block scale of at most 8 bits: bfloat16, FP4, MX, NVFP4, integers      of blocks in the elements, of rows afterwards
    float32   everything else                                                                  likewise

Scales of whole tensors are alpha, multiplied on the device. The FP8 and INT8 units read codes with k side by side, in rows of a multiple of 16
bytes: codes that lie the other way are turned by a kernel, and shapes that do not fit go to the next unit that holds them.

The 16-bit units cut sums to 23 bits at every 16 products and terms to 25 bits: 10.5 units in the last place a step of 16, inside gamma_K
(`lpref.ref.linalg.tensor_core`, hopper_bf16; `lpref.ref.linalg.bounds`). The FP8 unit keeps 13 fraction bits; its sums are taken over to
float32 every 128 products (hopper_fp8_promote128), never kept in it to the end (hopper_fp8_fast): `lpref.ref.linalg.native_bound`. As everywhere
in this grade, no bound is promised where a product or a value leaves float32's range.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cuda import algorithms, arrays, device, epilogue, fp8, product
from lpref.accel.cuda.cublaslt import Product, Side
from lpref.accel.cuda.elementwise import add
from lpref.accel.cuda.integers import whole as whole_numbers
from lpref.accel.cuda.operand import rounded
from lpref.accel.cuda.qtensor import CudaQTensor
from lpref.ref.errors import BackendError, ShapeError
from lpref.ref.formats import format as format_named
from lpref.ref.linalg import Accumulate, accumulator
from lpref.ref.linalg.gemm import holds_codes, plain, refuse_coarse
from lpref.ref.quantize import Quantizer

PRECISION = 8
"""Bits of a bfloat16 significand."""
LONGEST = 2**17
"""Products of two int8 whose sum int32 holds."""


def matmul(a: Any, b: Any) -> Any:
    """[..., M, K] @ [..., K, N] of float32, in cuBLASLt's order; leading axes broadcast."""
    _, _, lead = product.pair(a, b)  # raises
    cp, M, N, count = device.cupy(), a.shape[-2], b.shape[-1], math.prod(lead)
    out = cp.empty((count, M, N), np.float32)
    left, right = (cp.broadcast_to(x, (*lead, *x.shape[-2:])).reshape(count, *x.shape[-2:]) for x in (a, b))
    multiply(out, left, right, "float32")
    return out.reshape(*lead, M, N)


def gemm(a: Any, b: Any, accumulate: Accumulate | str | None = None, output: str = "float32", bias: Any = None) -> Any:
    """c[i, j] = sum_k a[i, k] b[j, k] + bias[j] within `native_bound`, rounded to the format `output`; refuses models whose sums are coarser than
    float32's.

    A result in bfloat16 leaves the units that can in 16 bits (an array of bfloat16), rounded once from float32, its bias added; the others round and
    add in float32 arrays.
    """
    refuse_coarse(accumulator(accumulate or "auto"), "fast")
    depth_a, depth_b = a.logical_shape[a.k_axis], b.logical_shape[b.k_axis]
    if depth_a != depth_b:
        raise ShapeError(f"the contraction axes have {depth_a} and {depth_b} elements", where="gemm")
    unit = unit_of(a, b, depth_a)
    if unit == "fp8":
        inside, later = _bias(bias, output, fp8.adds(a, b))
        return _rounded(fp8.gemm(a, b, _type(output) if later is None else "float32", inside), output, later)
    left, right = (_values(x, unit) for x in (a, b))
    scales = [_constant_scales(x) for x in (a, b)]
    rows = unit == "int8" or any(rows is not None for _, rows, _ in scales)
    short = unit == "bfloat16" and not rows
    inside, later = _bias(bias, output, short and depth_a > 0 and depth_a % 8 == 0 and right.shape[0] % 8 == 0)
    kind = _type(output) if short and later is None else "float32"
    out = device.cupy().empty((left.shape[0], right.shape[0]), arrays.DTYPES[kind])
    factors = [] if rows else [f for whole, _, _ in scales for f in whole if not epilogue.is_one(f)]
    multiply(out[None], left[None], right.T[None], unit, epilogue.alpha(factors, a, b), inside)
    if rows and out.size:
        epilogue.finish(out, scales, unit == "int8")
    return _rounded(out, output, later)


def _bias(bias: Any, output: str, adds: bool) -> tuple[Any, Any]:
    """The bias that a unit adds while it writes bfloat16, if it can, and the one that is added to float32 afterwards; None: none.

    Units add it where rows are of whole 16 bytes and K is not cut. Without these two conditions tests/gpu/test_sixteen_bits.py failed for bfloat16
    and NVFP4 for a reason that was not seen; that a kernel rounds the product before it adds would explain it. With them it has yet to run.
    """
    if bias is None or not (adds and output == "bfloat16"):
        return None, bias
    return rounded(bias, output, store=output), None


def _type(output: str) -> str:
    """What a unit of 16 or 8 bits writes for an output format."""
    return output if output in arrays.DTYPES else "float32"


def _rounded(out: Any, output: str, bias: Any = None) -> Any:
    """The product, plus a bias that the unit did not add, in its output format: as it is where the unit wrote that."""
    if bias is not None:
        out = add(out, bias if output == "float32" else rounded(bias, output))
        if output in arrays.DTYPES:
            return out if output == "float32" else rounded(out, output, store=output)
    if output == "float32" or arrays.is_sixteen(out):
        return out
    return rounded(out, output)


def unit_of(a: Any, b: Any, depth: int) -> str:
    """The unit that multiplies these operands: fp8, int8, binary16, bfloat16 or float32."""
    if not (isinstance(a, CudaQTensor) and isinstance(b, CudaQTensor)):
        return "float32"
    if any(x.zero is not None or not x.linear for x in (a, b)):
        return "float32"
    both = (a.quantizer, b.quantizer)
    if fp8.serves(a, b, depth):
        return "fp8"
    if all(_int8(q) for q in both) and depth <= LONGEST and fp8.fits(a, depth) and fp8.fits(b, depth):
        return "int8"
    if all(q.format == "binary16" and q.scale.rule == "none" for q in both):
        return "binary16"
    return "bfloat16" if all(in_bfloat16(q) for q in both) else "float32"


@cache
def _int8(q: Quantizer) -> bool:
    """Whether the codes are int8 themselves and the scales constant along k."""
    if q.scale.rule != "none" and q.blocks.k is not None:
        return False
    found = whole_numbers(q.format)
    return found is not None and found[1] == 0 and bool(np.array_equal(found[0], np.arange(256, dtype=np.uint8).view(np.int8)))


@cache
def in_bfloat16(q: Quantizer) -> bool:
    """Whether element x block scale has a significand of at most 8 bits."""
    bits = format_named(q.format).precision
    if bits is None or q.scale.rule == "none" or q.blocks.k is None:
        return bits is not None and bits <= PRECISION
    scale = format_named(q.scale.format).precision
    return scale is not None and bits + scale <= PRECISION


def _values(x: Any, unit: str) -> Any:
    """The operand as [other, K] for a unit, without scales that are constant along k: float32, 16 bits as uint16, or int8 codes."""
    narrow = unit == "bfloat16"
    if not holds_codes(x):
        values = arrays.wide(plain(x).values)
        arrays.check("gemm", values)
    elif not isinstance(x, CudaQTensor):
        raise BackendError(f"gemm got a {type(x).__name__}", where="cuda", remedy="quantize CuPy arrays, or use the host for all operands")
    elif unit == "int8":
        return fp8.along_k(x)
    elif unit == "binary16" or (narrow and x.quantizer.scale.rule == "none" and x.quantizer.format == "bfloat16"):
        values = x.codes
    elif x.quantizer.blocks.k is None or not x.scales:
        values = x.in_bfloat16(False) if narrow else x.decoded()
    else:
        values = x.in_bfloat16(True) if narrow else x.folded()
    return values if x.k_axis % 2 else values.T


def _constant_scales(x: Any) -> tuple[list[Any], Any, int]:
    """(scales of the whole tensor, scales of rows or None, elements of the operand's own axis that share one)."""
    if not holds_codes(x) or x.quantizer.scale.rule == "none":
        return [], None, 1
    whole, blocks = [x.tensor_scale], x.quantizer.blocks
    if blocks.k is not None:
        return whole, None, 1
    scales = x.scale_values()
    return ([*whole, scales], None, 1) if blocks.other is None else (whole, scales, blocks.other)


def side(x: Any, kind: str) -> tuple[Any, Side]:
    """x [G, rows, columns] and how it lies, k being the columns; copied where neither its rows nor its columns are runs."""
    _, rows, columns = x.shape
    step, i, j = (s // x.itemsize if n > 1 else 0 for s, n in zip(x.strides, x.shape, strict=True))
    aligned = min(256, x.data.ptr & -x.data.ptr or 256)
    if (j == 1 or columns == 1) and (rows == 1 or i >= columns):
        return x, Side(kind, True, max(i, columns, 1), step, "", aligned)
    if (i == 1 or rows == 1) and (columns == 1 or j >= rows):
        return x, Side(kind, False, max(j, rows, 1), step, "", aligned)
    return side(device.cupy().ascontiguousarray(x), kind)


def multiply(out: Any, a: Any, b: Any, unit: str, alpha: Any = None, bias: Any = None) -> None:
    """out [G, M, N] <- alpha a [G, M, K] b [G, K, N] + bias [N] in a unit; alpha: {factor, 0} on the device, None: 1; bias: of out's type."""
    count, M, N = out.shape
    K = a.shape[2]
    if not out.size:
        return
    if K == 0:
        out.view(np.uint8)[...] = 0
        return
    a, left = side(a, unit)
    b, right = side(b.transpose(0, 2, 1), unit)
    kind = "bfloat16" if arrays.is_sixteen(out) else "float32"
    made = Product(M, N, K, left, right, "int32" if unit == "int8" else kind, count, alpha is not None, split=bias is None, bias=bias is not None)
    algorithms.run(made, a.data.ptr, b.data.ptr, out, *(0 if x is None else x.data.ptr for x in (alpha, None, None, bias)))
