r"""Four over six: NVFP4 blocks whose amax is mapped to 4 instead of 6 where that has the smaller error.

E2M1 has nothing between 4 and 6, so a block whose large elements lie near 5/6 of its amax loses most there; mapping amax to 4 puts them on
the grid 2, 3, 4. Every block is quantized twice and the better one is kept. TransformerEngine's order, float32 (M = `scale_max`, 448 or 256)::

    S     = min(6 M / amax, FLT_MAX);  S = 1 where amax = 0 or S = 0
    base  = (amax_b / 6) * S                        a division: plain NVFP4 multiplies with S * fl32(1/6)
    d6    = e4m3(clamp(base, +-448))                d4 = e4m3(clamp(base * 1.5, +-448))
    e     = min(1 / (float(d) * (1 / S)), FLT_MAX)  for both
    q     = e2m1(clamp(x * e, +-6))                 to nearest even, whatever the quantizer's own rounding is
    v     = ((q * float(d)) * amax) / (6 M)         diff = v - x
    err   = sum of |diff| (mae) or diff * diff (mse), along k in ascending order from 0; the lines of a 16 x 16 block by halving (8, 4, 2, 1)
    map to 4 where err4 < err6; a tie maps to 6
    x^    = q * float(d) * tensor_scale,  tensor_scale = fl32(amax / (6 M))

With M = 448 a block whose scale is above 298 cannot be raised by 1.5 and saturates, so it keeps 6; M = 256 leaves the room (256 x 1.5 = 384).

Zero, NaN, infinity and tails: as the page of nvfp4.
Gradient: straight through, none through the choice.

Source: Cook et al., arXiv 2512.02010; NVIDIA/TransformerEngine transformer_engine/pytorch/custom_recipes/reference_nvfp4.py
(_quantize_blockwise_4over6_reference: MAE by default, errors in the input's domain, ties choose 6); mit-han-lab/fouroversix
src/fouroversix/quantize/reference.py (MSE by default, always 256, another order of operations, torch sums).
Source level: read.
Pitfalls: TransformerEngine's fast-math option compares FP16 products instead, and selects differently near ties; the block scale of the 4-mapping
is cast from base * 1.5, not d6 * 1.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref import reduce
from lpref.ref.formats import format as format_named
from lpref.ref.scaling.nvfp4 import E4M3_MAX, global_encode_scale
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import FLT_MAX, BlockScales
from lpref.ref.scaling.statistics import blocked

F32 = NDArray[np.float32]


def four_over_six_scales(x: F32, block: tuple[int, int], k_axis: int, block_amax: F32, amax: np.float32, target: float, scale: Scale) -> BlockScales:
    """Block scales of `x` [R, C] under the tensor's `amax`, each block at 6 or at 4."""
    most, six = np.float32(scale.scale_max), np.float32(target)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        encode = global_encode_scale(amax, target, scale.scale_max)
        base = block_amax / six * encode
        tries = [_candidate(x, block, k_axis, base * np.float32(factor), encode, np.float32(amax), most * six, scale) for factor in (1.0, 1.5)]
        (codes6, factor6, error6), (codes4, factor4, error4) = tries
        four = error4 < error6
        codes = np.where(four, codes4, codes6).astype(np.uint8)
        values = format_named("e4m3").decode(codes).astype(np.float32)
        return BlockScales(codes, values, np.where(four, factor4, factor6), "multiply", np.float32(np.float32(amax) / (most * six)))


def _candidate(x: F32, block: tuple[int, int], k_axis: int, raw: F32, encode: np.float32, amax: np.float32, denominator: Any, scale: Scale) -> Any:
    """(codes, factors, errors) of the grid for block scales `raw`."""
    e4m3, e2m1 = format_named("e4m3"), format_named("e2m1")
    codes = e4m3.encode(np.clip(raw, -E4M3_MAX, E4M3_MAX))
    values = e4m3.decode(codes).astype(np.float32)
    factor = np.minimum(np.float32(1) / (values * (np.float32(1) / encode)), FLT_MAX).astype(np.float32)
    x4 = blocked(x, block)
    u = x4 * factor[:, None, :, None]
    q = e2m1.decode(e2m1.encode(np.where(np.isnan(u), np.float32(0), u))).astype(np.float32)
    diff = q * values[:, None, :, None] * amax / denominator - x4
    error = np.abs(diff) if scale.select == "mae" else diff * diff
    lines = error.transpose(0, 2, 1, 3) if k_axis == 1 else error.transpose(0, 2, 3, 1)  # [down, across, lines, k]
    total = np.zeros(lines.shape[:-1], np.float32)
    for k in range(lines.shape[-1]):
        total = total + lines[..., k]
    return codes, factor, reduce.tree_sum(total)
