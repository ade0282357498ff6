"""Products of FP8 codes by Hopper's FP8 unit through cuBLASLt: scales of tensors, of rows, and of 128 and 128 x 128 elements in float32.

The unit's sums are taken over to float32 every 128 products (no "fast accumulation"), where block scales are multiplied in. cuBLASLt wants of
scales: one float32; a vector along the side; of 128 along k [K / 128, other]; of 128 x 128 [other / 128, K / 128] in rows of a multiple of four.
Two sides of 128 x 128 have no kernel: one of them is spread to rows. Values and order: hopper_fp8_promote128, docs/accumulation.md.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cuda import algorithms, arrays, device, epilogue, feed
from lpref.accel.cuda.cublaslt import Product, Side
from lpref.accel.cuda.qtensor import CudaQTensor
from lpref.ref.quantize import Quantizer

FORMATS = ("e4m3", "e5m2")
ALIGNED = 16
"""Bytes that rows of codes are a multiple of."""
BLOCK = 128
HOPPER = "90"


@cache
def mode(q: Quantizer) -> str | None:
    """What the unit calls the quantizer's scales, None where it has no such mode."""
    if q.format not in FORMATS or (q.scale.rule != "none" and q.scale.format != "float32"):
        return None
    if q.scale.rule == "none":
        return ""
    found = {(None, None): "scalar", (1, None): "vector", (1, BLOCK): "vector128", (BLOCK, BLOCK): "block128"}
    return found.get((q.blocks.other, q.blocks.k))


def serves(a: CudaQTensor, b: CudaQTensor, depth: int) -> bool:
    """Whether the unit multiplies these operands of `depth`: formats, scales that go together, and rows that are aligned."""
    modes = [mode(x.quantizer) for x in (a, b)]
    if None in modes or a.quantizer.format == b.quantizer.format == "e5m2" or _capability() != HOPPER:
        return False
    blocks = [m in ("vector128", "block128") for m in modes]
    if any(blocks):
        together = all(blocks) and _other(a) % ALIGNED == 0
    else:
        together = "vector" not in modes or modes[0] == modes[1]
    return bool(together and fits(a, depth) and fits(b, depth) and _other(b) % ALIGNED == 0)


@cache
def _capability() -> str:
    return str(device.cupy().cuda.Device().compute_capability)


def _other(x: CudaQTensor) -> int:
    return int(x.shape[1 - x.k_axis % 2])


def fits(x: CudaQTensor, depth: int) -> bool:
    """Whether rows of codes along k are aligned, and along the other axis too where they have to be turned."""
    return bool(depth and depth % ALIGNED == 0 and (x.k_axis % 2 or _other(x) % 4 == 0) and _other(x))


def along_k(x: CudaQTensor) -> Any:
    """Codes of 8 bits as [other, K], contiguous: as they lie, or turned."""
    cp = device.cupy()
    if not x.k_axis % 2 and x.codes.T.flags.c_contiguous:
        return x.codes.T
    codes = cp.ascontiguousarray(x.codes)
    if x.k_axis % 2:
        return codes
    rows, columns = codes.shape
    out = cp.empty((columns, rows), np.uint8)
    tiles = (-(-columns // BLOCK), -(-rows // BLOCK))
    device.function("blas", "turn")(tiles, (32, 8), (codes, np.int32(rows), np.int32(columns), out))
    return out


def adds(a: CudaQTensor, b: CudaQTensor) -> bool:
    """Whether the unit adds a bias: where scales are of whole tensors."""
    return all(mode(x.quantizer) in ("", "scalar") for x in (a, b))


def gemm(a: CudaQTensor, b: CudaQTensor, kind: str = "float32", bias: Any = None) -> Any:
    """c[i, j] = sum_k a[i, k] b[j, k] + bias[j], for what `serves` says; kind: float32 or bfloat16, as it leaves the unit; bias: of that kind."""
    M, N, depth = _other(a), _other(b), a.shape[a.k_axis % 2]
    modes = [mode(x.quantizer) or "" for x in (a, b)]
    if modes == ["block128", "block128"]:
        modes[0] = "vector128"
    out = device.cupy().empty((M, N), arrays.DTYPES[kind])
    codes = [along_k(x) for x in (a, b)]
    scales = [_scales(x, m, depth) for x, m in zip((a, b), modes, strict=True)]
    if "" in modes and modes != ["", ""]:
        modes, scales = ["scalar", "scalar"], [_one() if s is None else s for s in scales]
    factors = [x.tensor_scale for x in (a, b) if x.quantizer.scale.rule != "none" and not epilogue.is_one(x.tensor_scale)]
    alpha = epilogue.alpha(factors) if factors else None
    held = zip((a, b), modes, codes, strict=True)
    left, right = (Side(x.quantizer.format, True, depth, 0, m, min(256, c.data.ptr & -c.data.ptr)) for x, m, c in held)
    made = Product(M, N, depth, left, right, kind, device_alpha=alpha is not None, split=bias is None, bias=bias is not None)
    places = [0 if s is None else s.data.ptr for s in (alpha, *scales, bias)]
    algorithms.run(made, codes[0].data.ptr, codes[1].data.ptr, out, *places)
    return out


def _scales(x: CudaQTensor, wanted: str, depth: int) -> Any:
    """The scales as the unit reads them in a mode; a copy only where they lie otherwise."""
    if wanted == "":
        return None
    stored = x.scales[0]
    if wanted in ("scalar", "vector"):
        return device.cupy().ascontiguousarray(stored)
    k_last, other, pieces = bool(x.k_axis % 2), _other(x), -(-depth // BLOCK)
    each = x.quantizer.blocks.other or 1
    strides = (int(stored.shape[1]), 1) if k_last else (1, int(stored.shape[1]))  # of the operand's own axis, of k
    if wanted == "vector128":
        if not k_last and each == 1:
            return device.cupy().ascontiguousarray(stored)
        return _spread(stored, pieces, other, other, strides[::-1], (1, each))
    high, pitch = -(-other // BLOCK), -(-pieces // 4) * 4
    if k_last and pitch == pieces:
        return device.cupy().ascontiguousarray(stored)
    return _spread(stored, high, pieces, pitch, strides, (1, 1))


def _spread(stored: Any, rows: int, columns: int, pitch: int, strides: tuple[int, int], each: tuple[int, int]) -> Any:
    """out [rows, pitch]: out[i, j] = stored at (i div each[0]) strides[0] + (j div each[1]) strides[1], 0 beyond `columns`."""
    out = device.cupy().empty((rows, pitch), np.uint32)
    run = device.function("blas", "spread")
    numbers = [np.int32(v) for v in (rows, columns, pitch, *strides, *each)]
    run((device.blocks_for(out.size),), (device.THREADS,), (stored, *numbers, out))
    return out


@feed.lasting
def _one() -> Any:
    return device.cupy().asarray(np.ones(1, np.float32))

