"""Physical layouts of a `QTensor`.

    linear         codes and scales row-major in the logical array
    column         both transposed: row-major in the transposed logical array, so k is contiguous where k_axis is 0
    cublas_128x4   codes with k contiguous; one-byte scale factors [other, k / block] in tiles of 128 x 4, tiles row-major, each 512 bytes,
                   element (r, c) of a tile at (r mod 32) * 16 + (r div 32) * 4 + c; rows padded to 128, columns to 4, with code 0.
                   Square blocks repeat their scale for every row.

    compressed_tensors   the tensors of a checkpoint of that library, see `compressed_tensors`

What a rule holds besides (zero points, second-level scales, the second trit plane: `extras`) is part of linear and column, as it is.
With ``tail: pad_zero`` codes are padded with code 0 to whole blocks before packing; with ``partial`` they stay ragged.
Source: cuBLAS documentation, "1D block scaling factors layout" (read through TransformerEngine and torchao's to_blocked).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import ShapeError, UnknownNameError
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import compressed_tensors
from lpref.ref.quantize.extras import EXTRAS, extras, with_extras
from lpref.ref.quantize.packing import pack, row_bytes, unpack
from lpref.ref.quantize.qtensor import QTensor, matrix_shape
from lpref.ref.quantize.quantizer import Quantizer

LAYOUTS = ("linear", "column", "cublas_128x4", "compressed_tensors")


def swizzle_128x4(scales: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``[rows, columns]`` one-byte scale factors -> the flat tiled array of cuBLAS.

    >>> flat = swizzle_128x4(np.arange(128 * 4, dtype=np.uint16).reshape(128, 4).astype(np.uint8))
    >>> flat[:8].tolist()          # row 0, then row 32
    [0, 1, 2, 3, 128, 129, 130, 131]
    """
    rows, columns = -(-scales.shape[0] // 128), -(-scales.shape[1] // 4)
    padded = np.zeros((rows * 128, columns * 4), np.uint8)
    padded[: scales.shape[0], : scales.shape[1]] = scales
    tiles = padded.reshape(rows, 4, 32, columns, 4)  # row = 128 * tile + 32 * quarter + lane
    return np.ascontiguousarray(tiles.transpose(0, 3, 2, 1, 4)).reshape(-1)


def unswizzle_128x4(flat: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Inverse of `swizzle_128x4` for a scale array of `shape`."""
    rows, columns = -(-shape[0] // 128), -(-shape[1] // 4)
    if flat.size != rows * columns * 512:
        raise ShapeError(f"{flat.size} scale bytes, not {rows * columns * 512}, for {shape[0]} x {shape[1]} scales", where="cublas_128x4")
    tiles = flat.reshape(rows, columns, 32, 4, 4).transpose(0, 3, 2, 1, 4)
    return np.ascontiguousarray(tiles.reshape(rows * 128, columns * 4)[: shape[0], : shape[1]])


def _flipped(name: str, k_axis: int) -> bool:
    if name not in LAYOUTS:
        raise UnknownNameError("layout", name, LAYOUTS)
    return name == "column" or (name == "cublas_128x4" and k_axis == 0)


def _padded_shape(quantizer: Quantizer, shape: tuple[int, int], k_axis: int) -> tuple[int, int]:
    if quantizer.tail != "pad_zero":
        return shape
    (down, across), (br, bc) = quantizer.blocks.grid(shape, k_axis), quantizer.blocks.on(shape, k_axis)
    return down * br, across * bc


def _one_byte(quantizer: Quantizer) -> None:
    if quantizer.scale.format not in ("e8m0", "e4m3", "ue4m3"):
        raise ShapeError(f"scales are {quantizer.scale.format}", where="cublas_128x4", remedy="the layout holds one-byte scales (e8m0, e4m3)")
    if quantizer.blocks.k is None:
        raise ShapeError("one scale for the whole contraction axis", where="cublas_128x4", remedy="the layout needs blocks along k")


def to_layout(t: QTensor, name: str) -> dict[str, NDArray]:
    """Physical arrays ``{codes, scales, tensor_scale}`` of `t` and those of `extras`; `scales` is absent for plain casts."""
    if name == "compressed_tensors":
        return compressed_tensors.to_arrays(t)
    flip, bits = _flipped(name, t.k_axis), format_named(t.quantizer.format).bits
    rows, columns = _padded_shape(t.quantizer, t.shape, t.k_axis)
    codes = np.pad(t.unpacked(), ((0, rows - t.shape[0]), (0, columns - t.shape[1])))
    out = {"codes": pack(np.ascontiguousarray(codes.T) if flip else codes, bits), "tensor_scale": np.asarray(t.tensor_scale)}
    if name == "cublas_128x4":
        _one_byte(t.quantizer)
        scales, other = (t.scales[0].T, t.block[1]) if flip else (t.scales[0], t.block[0])
        size = t.shape[1] if flip else t.shape[0]
        out["scales"] = swizzle_128x4(np.repeat(scales, other, axis=0)[:size])
    elif t.scales:
        out["scales"] = np.ascontiguousarray(t.scales[0].T) if flip else t.scales[0]
    _no_extras(name, t.quantizer)
    return out | extras(t)


def _no_extras(name: str, quantizer: Quantizer) -> None:
    if name == "cublas_128x4" and quantizer.scale.rule in EXTRAS:
        raise ShapeError(f"rule {quantizer.scale.rule!r} has more than codes and scales", where=name, remedy="use linear or column")


def from_layout(name: str, arrays: Mapping[str, NDArray], quantizer: Quantizer, logical_shape: tuple[int, ...], k_axis: int = 1) -> QTensor:
    """The `QTensor` whose `to_layout(name)` gives `arrays`."""
    if name == "compressed_tensors":
        return compressed_tensors.from_arrays(arrays, quantizer, logical_shape, k_axis)
    flip, bits, shape = _flipped(name, k_axis), format_named(quantizer.format).bits, matrix_shape(logical_shape)
    rows, columns = _padded_shape(quantizer, shape, k_axis)
    stored = (columns, rows) if flip else (rows, columns)
    packed = np.asarray(arrays["codes"])
    if packed.shape != (stored[0], row_bytes(stored[1], bits)):
        raise ShapeError(f"codes of shape {packed.shape}", where=f"from_layout {name}", remedy=f"expected {(stored[0], row_bytes(stored[1], bits))}")
    codes = unpack(packed, bits, stored[1])
    codes = pack(np.ascontiguousarray((codes.T if flip else codes)[: shape[0], : shape[1]]), bits)
    scales: tuple[NDArray, ...] = ()
    if "scales" in arrays:
        grid = quantizer.blocks.grid(shape, k_axis)
        scales = (_load_scales(name, np.asarray(arrays["scales"]), quantizer, shape, grid, k_axis, flip),)
    made = QTensor(codes, scales, np.float32(arrays["tensor_scale"]), k_axis, tuple(logical_shape), quantizer)
    return with_extras(made, arrays)


def _load_scales(name: str, scales: NDArray, quantizer: Quantizer, shape: tuple[int, int], grid: tuple[int, int], k_axis: int, flip: bool) -> NDArray:
    if name == "cublas_128x4":
        _one_byte(quantizer)
        (br, bc), rows = quantizer.blocks.on(shape, k_axis), shape[1] if flip else shape[0]
        scales = unswizzle_128x4(scales.reshape(-1), (rows, grid[0] if flip else grid[1]))[:: bc if flip else br]
    scales = np.ascontiguousarray(scales.T) if flip else scales
    if scales.shape != grid:
        raise ShapeError(f"scales of shape {scales.shape} for a grid of {grid}", where=f"from_layout {name}")
    return scales
