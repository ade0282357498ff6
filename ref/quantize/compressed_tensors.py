"""The layout ``compressed_tensors``: a linear layer's weight [R, C] as the tensors of a checkpoint of that library (names without prefix).

    integers of 4 or 8 bits    weight_packed      int32 [R, ceil(C b / 32)]: codes + 2^(b-1), a dense little-endian bit stream per row
    under float32 scales       weight_scale       float32 [R / other, C / k]
                               weight_shape       int64 [2]: R, C
                               weight_zero_point  int32 [ceil(R b / 32), groups]: zero points + 2^(b-1), packed along the rows (affine only)
    e2m1, NVFP4 or MXFP4       weight_packed      uint8 [R, C / 2]: the lower index in the low nibble
                               weight_scale       uint8 codes of E4M3 or E8M0 [R, C / k]
                               weight_global_scale  float32 [1]: fl32(1 / tensor scale), by which their scales are divided (NVFP4 only)
    FP8 under float32 scales   weight             uint8 codes [R, C];  weight_scale float32

k is the last axis. Codes are two's complement here and in their integers, so unsigned formats of ours (uint4) are stored as code - 2^(b-1), and
their zero points too: the difference is the same. The tensor scale of NVFP4 comes back as fl32(1 / weight_global_scale), at most one unit in the
last place from what it was.

Source: vllm-project/compressed-tensors src/compressed_tensors/compressors/pack_quantized/{base,helpers}.py, nvfp4/base.py, mxfp4/base.py.
Source level: read.
Pitfalls: the zero points are packed along the other axis than the weights; E * b bits per row are dense, so 8-bit codes take four to a word;
weight_global_scale multiplies where ours divides.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import ShapeError
from lpref.ref.formats import format as format_named
from lpref.ref.formats.integers import IntFormat
from lpref.ref.quantize.packing import pack, unpack
from lpref.ref.quantize.qtensor import QTensor, matrix_shape
from lpref.ref.quantize.quantizer import Quantizer

WHERE = "compressed_tensors"


def pack_int32(values: NDArray, bits: int) -> NDArray[np.int32]:
    """Unsigned values [R, C] below 2^bits -> int32 [R, ceil(C bits / 32)].

    >>> [hex(w) for w in pack_int32(np.array([[1, 2, 3, 4, 5, 6, 7, 8, 9]]), 4)[0]]
    ['-0x789abcdf', '0x9']
    """
    stream = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1, bitorder="little")[..., :bits].reshape(values.shape[0], -1)
    stream = np.pad(stream, ((0, 0), (0, -stream.shape[1] % 32)))
    return np.ascontiguousarray(np.packbits(stream, axis=-1, bitorder="little")).view("<i4").astype(np.int32)


def unpack_int32(words: NDArray, bits: int, columns: int) -> NDArray[np.uint8]:
    """Inverse of `pack_int32` for rows of `columns` values."""
    stream = np.unpackbits(np.ascontiguousarray(words, "<i4").view(np.uint8), axis=-1, bitorder="little")[:, : columns * bits]
    return np.packbits(stream.reshape(words.shape[0], columns, bits), axis=-1, bitorder="little")[..., 0]


def _kind(q: Quantizer) -> str:
    fmt, rule = format_named(q.format), q.scale.rule
    if isinstance(fmt, IntFormat) and fmt.bits in (4, 8) and rule in ("amax", "affine") and q.scale.format == "float32" and q.scale.multiplier == 1:
        return "integers"
    if q.format == "e2m1" and q.scale.rule in ("nvfp4", "mx") and q.scale.multiplier == 1 and q.blocks.other == 1 and q.blocks.k is not None:
        return "fp4"
    if fmt.bits == 8 and rule in ("amax", "te") and q.scale.format == "float32" and q.scale.multiplier == 1 and q.format.startswith("e"):
        return "fp8"
    raise ShapeError(f"{q.format} under rule {rule!r} in {q.scale.format}", where=WHERE,
                     remedy="the library keeps int4, int8, fp8 under float32 scales, NVFP4 and MXFP4 along the last axis")  # fmt: skip


def _offset(q: Quantizer) -> int:
    """What makes our codes theirs plus 2^(b-1): they count from the most negative integer."""
    fmt = format_named(q.format)
    return 2 ** (fmt.bits - 1) if fmt.signed else 0


def to_arrays(t: QTensor) -> dict[str, NDArray]:
    """The tensors of `t`."""
    kind, q = _kind(t.quantizer), t.quantizer
    if t.k_axis != 1:
        raise ShapeError("the contraction axis is 0", where=WHERE, remedy="quantize the weight [out, in] over its last axis")
    bits, offset = format_named(q.format).bits, _offset(q)
    if kind == "fp4":
        tensors = {"weight_packed": t.codes, "weight_scale": t.scales[0]}
        with np.errstate(divide="ignore"):
            whole = {"weight_global_scale": np.full(1, np.float32(1) / t.tensor_scale, np.float32)}
        return tensors | (whole if q.scale.rule == "nvfp4" else {})
    if kind == "fp8":
        return {"weight": t.unpacked(), "weight_scale": t.scale_values()}
    shifted = (t.unpacked().astype(np.int64) + offset) & (2**bits - 1)
    arrays: dict[str, NDArray] = {
        "weight_packed": pack_int32(shifted, bits), "weight_scale": t.scale_values(), "weight_shape": np.array(t.shape, np.int64),
    }  # fmt: skip
    if t.zero is not None:
        arrays["weight_zero_point"] = np.ascontiguousarray(pack_int32((t.zero + offset).T, bits).T)
    return arrays


def from_arrays(arrays: Mapping[str, NDArray], quantizer: Quantizer, logical_shape: tuple[int, ...], k_axis: int) -> QTensor:
    """The `QTensor` of these tensors."""
    kind, shape = _kind(quantizer), matrix_shape(logical_shape)
    if k_axis not in (1, -1):
        raise ShapeError(f"k_axis {k_axis}", where=WHERE, remedy="use the last axis")
    fmt, grid, offset = format_named(quantizer.format), quantizer.blocks.grid(shape, 1), _offset(quantizer)
    scales = np.asarray(arrays["weight_scale"]).reshape(grid)
    stored = scales if kind == "fp4" else np.ascontiguousarray(scales, np.float32).view(np.uint32)
    codes, tensor_scale, zero = np.asarray(arrays.get("weight", arrays.get("weight_packed"))), np.float32(1), None
    if kind == "fp4" and quantizer.scale.rule == "nvfp4":
        with np.errstate(divide="ignore"):
            tensor_scale = np.float32(1) / np.float32(np.asarray(arrays["weight_global_scale"]).reshape(-1)[0])
    if kind == "integers":
        codes = pack((unpack_int32(codes, fmt.bits, shape[1]).astype(np.int64) - offset) & (2**fmt.bits - 1), fmt.bits)
        if "weight_zero_point" in arrays:
            packed = np.asarray(arrays["weight_zero_point"])
            zero = unpack_int32(np.ascontiguousarray(packed.T), fmt.bits, grid[0]).T.astype(np.int32) - np.int32(offset)
    if unpack(codes, fmt.bits, shape[1]).shape != shape:
        raise ShapeError(f"codes of shape {codes.shape} for a weight {shape}", where=WHERE)
    return QTensor(codes, (stored,), np.float32(tensor_scale), 1, tuple(logical_shape), quantizer, zero=zero)
