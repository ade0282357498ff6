"""Matrix products of grade fast: cuBLAS through CuPy's bindings, float32 sums, no TF32.

Operands are what their codes stand for. Elements with the block scales that change along k are bfloat16 where that holds them (FP8, FP4, MX, NVFP4
and integers of at most 8 bits: significands of element and scale have at most 8 bits together), else float32; scales that are constant along k
come after the product: those of whole tensors as alpha, multiplied on the device, those of rows in a pass of their own. bfloat16 plain casts are
read as they are. As everywhere in this grade, no bound is promised where a product or a value leaves float32's range.

The tensor cores cut sums to 23 bits at every 16 products and terms to 25 bits: 10.5 units in the last place a step of 16, inside gamma_K
(`lpref.ref.linalg.tensor_core`, hopper_bf16; `lpref.ref.linalg.bounds`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, product
from lpref.accel.cuda.qtensor import CudaQTensor
from lpref.ref.errors import BackendError, ShapeError
from lpref.ref.formats import format as format_named
from lpref.ref.linalg import Accumulate, accumulator
from lpref.ref.linalg.gemm import holds_codes, plain, refuse_coarse
from lpref.ref.quantize import Quantizer

PRECISION = 8
"""Bits of a bfloat16 significand."""


@dataclass(frozen=True, eq=False)
class Side:
    """[G, rows, columns] for cuBLAS: the array, whether the rows are its contiguous runs, numbers from run to run and from matrix to matrix."""

    array: Any
    rows_first: bool
    pitch: int
    matrix: int


def matmul(a: Any, b: Any) -> Any:
    """[..., M, K] @ [..., K, N] of float32, in cuBLAS's order; leading axes broadcast."""
    _, _, lead = product.pair(a, b)  # raises
    cp, (M, K), N, count = device.cupy(), a.shape[-2:], b.shape[-1], math.prod(lead)
    out = cp.empty((count, M, N), np.float32)
    left, right = (cp.broadcast_to(x, (*lead, *x.shape[-2:])).reshape(count, *x.shape[-2:]) for x in (a, b))
    _multiply(out, left, right, (M, N, K), _one())
    return out.reshape(*lead, M, N)


def gemm(a: Any, b: Any, accumulate: Accumulate | str | None = None) -> Any:
    """c[i, j] = sum_k a[i, k] b[j, k] within `fast_bound`; refuses models whose sums are coarser than float32's."""
    refuse_coarse(accumulator(accumulate or "auto"), "fast")
    depth_a, depth_b = a.logical_shape[a.k_axis], b.logical_shape[b.k_axis]
    if depth_a != depth_b:
        raise ShapeError(f"the contraction axes have {depth_a} and {depth_b} elements", where="gemm")
    narrow = all(isinstance(x, CudaQTensor) and in_bfloat16(x.quantizer) for x in (a, b))
    left, right = (_values(x, narrow) for x in (a, b))
    scales = [_constant_scales(x) for x in (a, b)]
    out = device.cupy().empty((left.shape[0], right.shape[0]), np.float32)
    factors = [f for whole, _, _ in scales for f in whole]
    _multiply(out[None], left[None], right.T[None], (*out.shape, depth_a), _alpha(factors) if factors else _one())
    if any(rows is not None for _, rows, _ in scales) and out.size:
        run = device.function("blas", "scale")
        sides = [v for _, rows, other in scales for v in (0 if rows is None else rows, np.uint32(other))]
        run(*device.plane(*out.shape), (out, out.shape[0], np.uint32(out.shape[1]), *sides))
    return out


def gemms(products: Sequence[tuple[Any, ...]]) -> list[Any]:
    """`gemm` of each."""
    return [gemm(*one) for one in products]


@cache
def in_bfloat16(q: Quantizer) -> bool:
    """Whether element x block scale has a significand of at most 8 bits."""
    bits = format_named(q.format).precision
    if bits is None or q.scale.rule == "none" or q.blocks.k is None:
        return bits is not None and bits <= PRECISION
    scale = format_named(q.scale.format).precision
    return scale is not None and bits + scale <= PRECISION


def _values(x: Any, narrow: bool) -> Any:
    """The operand as [other, K], float32 or bfloat16 as uint16, without scales that are constant along k."""
    if not holds_codes(x):
        values = plain(x).values
        arrays.check("gemm", values)
    elif not isinstance(x, CudaQTensor):
        raise BackendError(f"gemm got a {type(x).__name__}", where="cuda", remedy="quantize CuPy arrays, or use the host for all operands")
    elif narrow and x.quantizer.scale.rule == "none" and x.quantizer.format == "bfloat16":
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


@cache
def _one() -> Any:
    return device.cupy().asarray(np.array([1, 0], np.float32))


def _alpha(factors: Sequence[Any]) -> Any:
    out = device.cupy().empty(2, np.float32)
    device.function("blas", "alpha")((1,), (1,), (*factors, *[0] * (4 - len(factors)), out))
    return out


def _side(x: Any) -> Side:
    """x [G, rows, columns], copied where neither its rows nor its columns are runs."""
    _, rows, columns = x.shape
    step, i, j = (s // x.itemsize if n > 1 else 0 for s, n in zip(x.strides, x.shape, strict=True))
    if (j == 1 or columns == 1) and (rows == 1 or i >= columns):
        return Side(x, True, max(i, columns, 1), step)
    if (i == 1 or rows == 1) and (columns == 1 or j >= rows):
        return Side(x, False, max(j, rows, 1), step)
    return _side(device.cupy().ascontiguousarray(x))


def _multiply(out: Any, a: Any, b: Any, sizes: tuple[int, int, int], alpha: Any) -> None:
    """out [G, M, N] <- alpha a [G, M, K] b [G, K, N]; alpha: {factor, 0} on the device. uint16 is bfloat16."""
    (M, N, K), count = sizes, out.shape[0]
    if not out.size:
        return
    if K == 0:
        out[...] = 0
        return
    left, right = _side(a), _side(b)
    cublas = _cublas()
    runtime = device.cupy().cuda.runtime
    kind = {2: runtime.CUDA_R_16BF, 4: runtime.CUDA_R_32F}[a.itemsize]
    operations = [cublas.CUBLAS_OP_N if s.rows_first else cublas.CUBLAS_OP_T for s in (right, left)]
    # cuBLAS counts columns first: to it `out` is its transpose, b^T a^T
    sides = [v for s in (right, left) for v in (s.array.data.ptr, kind, s.pitch, s.matrix)]
    target = (alpha.data.ptr + 4, out.data.ptr, runtime.CUDA_R_32F, N, M * N, count, cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT)
    with _device_scalars(cublas) as handle:
        cublas.gemmStridedBatchedEx(handle, *operations, N, M, K, alpha.data.ptr, *sides, *target)


@cache
def _cublas() -> Any:
    """CuPy's bindings of cuBLAS. Raises: BackendError where the library cannot be loaded."""
    try:
        from cupy_backends.cuda.libs import cublas
    except ImportError as error:
        remedy = "pip install 'lpref[cuda13]' or 'lpref[cuda12]', or use numerics: exact"
        raise BackendError(f"cuBLAS cannot be loaded ({error})", where="cuda", remedy=remedy) from error
    return cublas


@contextmanager
def _device_scalars(cublas: Any) -> Iterator[int]:
    """The handle, reading alpha and beta from the device."""
    handle = device.cupy().cuda.device.get_cublas_handle()
    before = cublas.getPointerMode(handle)
    cublas.setPointerMode(handle, cublas.CUBLAS_POINTER_MODE_DEVICE)
    try:
        yield handle
    finally:
        cublas.setPointerMode(handle, before)
