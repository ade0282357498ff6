"""What some packages compute instead, as formulas: each reproduces a known difference of a block quantizer bit by bit.

A model takes (x [R, C] float32, quantizer) and returns what `blocks.Blocks` holds: values, scales (grid), codes, tensor_scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lpref.ref.formats import format as format_of
from lpref.ref.quantize import Quantizer, quantize

Model = Callable[[np.ndarray, Quantizer], dict[str, Any]]
MIN_NORMAL = np.float32(2.0**-126)


def spread(grid: np.ndarray, shape: tuple[int, ...], block: tuple[int, int]) -> np.ndarray:
    """A number of every block at each of its elements."""
    return np.repeat(np.repeat(grid, block[0], 0)[: shape[0]], block[1], 1)[:, : shape[1]]


def block_amax(x: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """max |x| of every block (whole blocks; NaN wins)."""
    r, c = x.shape[0] // block[0], x.shape[1] // block[1]
    return np.max(np.abs(x.reshape(r, block[0], c, block[1])), axis=(1, 3))


def made(q: Quantizer, x: np.ndarray, u: np.ndarray, scales: np.ndarray, tensor: float = 1.0) -> dict[str, Any]:
    """Codes of the scaled elements u, and values."""
    f = format_of(q.format)
    codes = f.encode(u, q.rounding, "cuda_satfinite")
    with np.errstate(invalid="ignore", over="ignore"):
        values = f.decode(codes) * spread(scales, x.shape, q.blocks.on(x.shape, 1)) * tensor
    return {"values": values, "scales": scales.astype(np.float64), "codes": codes, "tensor_scale": tensor}


def divide_by_normal(x: np.ndarray, q: Quantizer) -> dict[str, Any]:
    """MX: elements divided by max(scale, 2^-126), where the stored scale may be 2^-127 (torchao's floor, ceil, even)."""
    scales = quantize(x, q).scale_values()
    with np.errstate(invalid="ignore"):
        u = x / spread(np.maximum(scales, MIN_NORMAL), x.shape, q.blocks.on(x.shape, 1))
    return made(q, x, np.where(np.isnan(u), np.float32(0), u), scales)


def torchao_rceil(x: np.ndarray, q: Quantizer) -> dict[str, Any]:
    """MX: scale ceil(log2(amax / max)), a float32 division and logarithm; times 2^-e, and times 1 under the smallest scale."""
    block = q.blocks.on(x.shape, 1)
    top = np.float32(q.scale.target or format_of(q.format).max)
    with np.errstate(all="ignore"):
        descale = block_amax(x, block) / top
        e = np.clip(np.ceil(np.log2(descale)), -127, 127)
    code = np.where(np.isnan(descale), 255, np.where(np.isinf(descale), 254, e + 127)).astype(np.int64)
    factor = np.where(code == 254, np.float32(2.0**-127), np.where(code == 0, np.float32(1), np.ldexp(np.float32(1), 127 - code)))
    with np.errstate(all="ignore"):
        u = np.clip(x * spread(factor.astype(np.float32), x.shape, block), -top, top)
    scales = np.where(code == 255, np.nan, np.ldexp(1.0, np.minimum(code, 254) - 127))
    return made(q, x, np.where(np.isnan(u), np.float32(0), u), scales)


def torchao_nvfp4(x: np.ndarray, q: Quantizer) -> dict[str, Any]:
    """NVFP4 in two levels: divisions where the definition multiplies by reciprocals, block scales not below E4M3's smallest normal."""
    block, six = q.blocks.on(x.shape, 1), np.float32(6)
    with np.errstate(all="ignore"):
        tensor = np.max(np.abs(x)) / np.float32(2688)
        wanted = np.clip(block_amax(x, block) / six / tensor, np.float32(2.0**-6), np.float32(448))
        e4m3 = format_of("e4m3")
        codes = e4m3.encode(wanted)
        stored = e4m3.decode(codes).astype(np.float32)
        u = np.clip(x * spread(np.float32(1) / tensor / stored, x.shape, block), -six, six)
    f = format_of("e2m1")
    lost = np.isnan(u)
    elements = np.where(lost, TORCHAO_FP4_NAN[np.signbit(u).astype(int)], f.encode(np.where(lost, np.float32(0), u)))
    with np.errstate(invalid="ignore", over="ignore"):
        values = f.decode(elements) * spread(stored, x.shape, block) * float(tensor)
    return {"values": values, "scales": stored.astype(np.float64), "codes": elements, "tensor_scale": float(tensor)}


def twice_the_scale(x: np.ndarray, q: Quantizer) -> dict[str, Any]:
    """MX: every scale one step larger than the definition's: floor(log2 amax) evaluated in floating point just below a power of two."""
    scales = quantize(x, q).scale_values().astype(np.float64) * 2
    with np.errstate(all="ignore"):
        u = x / spread(scales.astype(np.float32), x.shape, q.blocks.on(x.shape, 1)) * np.float32(q.scale.multiplier)
        f = format_of(q.format)
        values = f.decode(f.encode(np.where(np.isfinite(u), u, 0))) * spread(scales, x.shape, q.blocks.on(x.shape, 1)) / q.scale.multiplier
    return {"values": values}


def bitsandbytes_4bit(x: np.ndarray, q: Quantizer) -> dict[str, Any]:
    """Code books: x * (1 / max(amax, 1e-38)), clamped, against the midpoints in float32; the scale is amax, 0 for zeros."""
    block = q.blocks.on(x.shape, 1)
    f = format_of(q.format)
    book = f.decode(np.arange(2**f.bits)).astype(np.float32)
    order = np.argsort(book, kind="stable")
    bounds = (book[order[:-1]] + book[order[1:]]) / np.float32(2)
    amax = block_amax(x, block)
    with np.errstate(all="ignore"):
        u = np.clip(x * spread(np.float32(1) / np.maximum(amax, np.float32(1e-38)), x.shape, block), np.float32(-1), np.float32(1))
        codes = order[np.searchsorted(bounds, u, "left")].astype(np.uint8)
        values = book[codes].astype(np.float64) * spread(amax.astype(np.float64), x.shape, block)
    return {"values": values, "scales": amax.astype(np.float64), "codes": codes}


TORCHAO_FP4_NAN = np.array([3, 12], np.uint8)
"""What f32_to_f4_unpacked makes of NaN, 1.5, and of one with the sign bit (which x86 gives for 0 * inf), -2."""

MODELS: dict[str, Model] = {
    "divide_by_normal": divide_by_normal,
    "torchao_rceil": torchao_rceil,
    "torchao_nvfp4": torchao_nvfp4,
    "twice_the_scale": twice_the_scale,
    "bitsandbytes_4bit": bitsandbytes_4bit,
}
