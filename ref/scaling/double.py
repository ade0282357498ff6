r"""Double quantization: amax scales that are themselves stored in 8 bits, under an offset and second-level scales.

The elements are cast under the true scale; only what is stored of it is coarse. float32, in this order, on the row-major list of blocks::

    s  = max(amax, eps) / t                     t: the element format's largest value (NF4: 1)
    u  = x / s, or x * min(1 / s, FLT_MAX)      u = 0 where s = 0
    o  = (sum of s) / (number of blocks)        the defined sum
    d  = s - o
    S2 = max |d| of each group of `group` (256) blocks;  S2 = 1 where that is 0
    c  = dynamic8(d * (1 / S2))                 the stored 8-bit code
    s^ = dynamic8(c) * S2 + o                   what decoding multiplies with, each operation rounded

`QTensor.scales` holds (c, S2), `QTensor.aux` the offset. Overhead per element for blocks of 64: 8/64 + 32/(64 256) = 0.127 bits instead of 0.5.

Zero block: s = 0, u = 0, zero codes; what is decoded is 0 whatever s^ is. NaN or infinity anywhere: o = NaN, codes of zero, the whole tensor
decodes to NaN. s^ may be negative for tiny blocks among large ones (dynamic8 is not exact): the sign of such a block flips, as in the original.
Gradient: none; the base is frozen.

Source: QLoRA, arXiv 2305.14314 sec. 3; bitsandbytes 0.50.2 functional.py quantize_4bit (compress_statistics) and quantize_blockwise; vectors in
tests/ref/scaling/data made with it.
Source level: read.
Pitfalls: the nested state must be decoded and the offset added before anything is multiplied; elements are not divided by s^; the mean
is a sum, whose order is fixed here and not there; bitsandbytes' CPU kernel of the 8-bit code (0.50.2) takes the other neighbour of a few
values within 2 % of a step around a midpoint.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref import reduce
from lpref.ref.formats import format as format_named
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import FLT_MAX, BlockScales


def double_scales(amax: NDArray[np.float32], target: float, scale: Scale) -> BlockScales:
    """Scales of the block grid with these `amax`."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        s = (np.maximum(amax, np.float32(scale.eps)) / np.float32(target)).astype(np.float32)
        s = np.where(np.isfinite(s), s, np.float32(np.nan))
        offset = reduce.tree_mean(s.reshape(-1)) if s.size else np.float32(0)
        groups = _groups(s - offset, scale.group)
        second = np.max(np.abs(groups), axis=1)
        second = np.where(second == 0, np.float32(1), second).astype(np.float32)
        ratio = (groups * (np.float32(1) / second)[:, None]).reshape(-1)[: s.size].reshape(s.shape)
        codes = format_named("dynamic8").encode(np.where(np.isnan(ratio), np.float32(0), ratio))
        bits = second.view(np.uint32)
        aux = {"offset": np.float32(offset)}
        values = decoded_scales(codes, bits, aux, scale)
        live = np.where(s == 0, np.float32(1), s)
        if scale.apply == "divide":
            return BlockScales(codes, values, live, "divide", more=(bits,), aux=aux)
        return BlockScales(codes, values, np.minimum(np.float32(1) / live, FLT_MAX), "multiply", more=(bits,), aux=aux)


def decoded_scales(codes: NDArray, second: NDArray, aux: object, scale: Scale) -> NDArray[np.float32]:
    """s^ of the grid from its two stored levels and the offset."""
    offset = np.float32(aux["offset"])  # type: ignore[index]
    values = format_named("dynamic8").decode(codes).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.repeat(np.ascontiguousarray(second, np.uint32).view(np.float32), scale.group)[: codes.size].reshape(codes.shape)
        return (values * spread + offset).astype(np.float32)


def _groups(d: NDArray[np.float32], group: int) -> NDArray[np.float32]:
    """The row-major list of d in groups, the last one filled with zeros."""
    flat = d.reshape(-1)
    return np.pad(flat, (0, -flat.size % group)).reshape(-1, group)
