"""A quantized matrix block by block: in which class each block is, and in what way two answers differ there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lpref.conformance import check
from lpref.ref.quantize import QTensor

CLASSES: dict[str, str] = {
    "NaN": "a NaN in the block",
    "infinity": "an infinity in the block",
    "tensor out of range": "under a scale of the whole tensor: a NaN or an infinity elsewhere, or its amax is not 0 and below 8e-36",
    "zeros": "every element is zero",
    "scale at its end": "the smallest or largest scale of the scale format",
    "just below 2^k": "amax is one of the two numbers just below a power of two",
    "above max": "the significand of amax is larger than that of the largest element value",
    "others": "every other block",
}
RESULTS: dict[str, str] = {
    "tensor scale": "another tensor scale", "NaN": "the block decodes to NaN", "zeros": "the block decodes to zeros",
    "scale": "another block scale", "codes": "the same scales, other element codes", "values": "other values",
}  # fmt: skip


@dataclass(frozen=True)
class Blocks:
    """A quantized matrix by blocks: scale of each, tensor scale, codes and values of every element."""

    values: np.ndarray  # [R, C] float64, dequantized
    scales: np.ndarray | None = None  # grid, float64 values
    codes: np.ndarray | None = None  # [R, C]
    tensor_scale: float = 1.0


def of_qtensor(t: QTensor) -> Blocks:
    """A QTensor in the terms of the comparison."""
    return Blocks(t.dequantize().reshape(t.shape), t.scale_values().astype(np.float64) if t.scales else None, t.unpacked(), float(t.tensor_scale))


def spread(scales: np.ndarray, shape: tuple[int, int], block: tuple[int, int]) -> np.ndarray:
    """The scale of every element."""
    return np.repeat(np.repeat(scales, block[0], 0)[: shape[0]], block[1], 1)[:, : shape[1]]


def results_of(got: Blocks, want: Blocks, block: tuple[int, int]) -> np.ndarray:
    """For every block, an index into `RESULTS`, -1 where it is the same. A target without codes is compared by values."""
    names = list(RESULTS)
    if got.scales is None or want.scales is None:
        with np.errstate(over="ignore"):
            wanted = want.values.astype(np.float32).astype(np.float64)
            given = got.values.astype(np.float32).astype(np.float64)
        bad = check.differing_values(given, wanted, signed_zero=False)
        bad_codes = bad
    else:
        bad = np.zeros(got.values.shape, bool)
        bad_codes = bad if got.codes is None or want.codes is None else got.codes != want.codes
    grid = tuple(-(-s // b) for s, b in zip(got.values.shape, block, strict=True))
    out = np.full(grid, -1, np.int8)
    tensor = got.scales is not None and want.scales is not None and not same(got.tensor_scale, want.tensor_scale)
    for i, j in np.ndindex(*grid):
        part = slice(i * block[0], (i + 1) * block[0]), slice(j * block[1], (j + 1) * block[1])
        scale = got.scales is not None and want.scales is not None and not same(float(got.scales[i, j]), float(want.scales[i, j]))
        if not (scale or tensor or bad[part].any() or bad_codes[part].any()):
            continue
        v, w = got.values[part], want.values[part]
        name = "tensor scale" if tensor else "scale" if scale else "codes" if got.scales is not None else "values"
        if np.isnan(v).all() and not np.isnan(w).all():
            name = "NaN"
        elif (v == 0).all() and not (w == 0).all():
            name = "zeros"
        out[i, j] = names.index(name)
    return out


def same(a: float, b: float) -> bool:
    """Equal, NaN with NaN."""
    return bool(a == b or (np.isnan(a) and np.isnan(b)))
