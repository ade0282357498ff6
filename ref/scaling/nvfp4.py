r"""NVFP4: an E4M3 scale per 16 elements (or 16 x 16) under one float32 tensor scale.

TransformerEngine's formula, float32, in this order (t = 6, the largest E2M1 value; amax of the whole tensor, amax_b of the block)::

    S    = min(448 t / amax, FLT_MAX);  S = 1 where amax = 0 or S = 0      448 t = 2688, exact
    mult = S * fl32(1 / t)
    d_b  = e4m3(clamp(amax_b * mult, -448, 448))                           the stored block scale
    e_b  = min(1 / (float(d_b) * (1 / S)), FLT_MAX)                        two reciprocals
    u    = x * e_b;  q = e2m1(clamp(u, -6, 6))
    x^   = q * float(d_b) * tensor_scale,   tensor_scale = fl32(amax / 2688)

``apply: torchao`` is torchao's two-level mode: s_t = fl32(amax / 2688), d_b = e4m3(clamp((amax_b / 6) / s_t, 2^-6, 448)),
u = x * min((1 / s_t) / d_b, FLT_MAX); the same bytes except on blocks below 2^-6 of the largest, whose scale stays at E4M3's least normal
number (never 0). torchao has no minimum: NaN for amax below 8e-36, and for a zero tensor. Its one-level mode is the rule `amax` in e4m3.
``select: mae | mse`` is the page four_over_six.

Zero tensor: S = 1, tensor_scale = 0. Zero block: d_b = 0, e_b = FLT_MAX, zero codes. A block so small that d_b rounds to 0 decodes to 0
whatever its codes are. amax infinite: S = 1, tensor_scale infinite. amax NaN: every d_b is the NaN code 0x7F, codes zero, all decodes to NaN.
d_b may round down, so |u| may exceed 6 and is clamped; where S was cut to FLT_MAX (amax < 8e-36) values come back too small.
Gradient: straight through; 16 x 16 scales of weights let fprop and dgrad see the same W. A column copy has its own amax, after a Hadamard
transform of size 16 on x^T with the fixed signs + + + - + - - - - - - + - + - - in TransformerEngine's recipe; gradients round stochastically.

Source: NVIDIA/TransformerEngine transformer_engine/pytorch/custom_recipes/reference_nvfp4.py, common/cast/nvfp4/core_nvfp4.cuh;
arXiv 2509.25149; pytorch/ao torchao/prototype/mx_formats/nvfp4_tensor.py (nvfp4_quantize, 0.18.0).
Source level: read.
Pitfalls: S * (1/6) is not S / 6; without the FLT_MAX minimum a zero block gives 0 * inf = NaN; the cast of d_b must saturate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref.formats import format as format_named
from lpref.ref.scaling.scales import FLT_MAX, BlockScales

E4M3_MAX = np.float32(448)
E4M3_LEAST_NORMAL = np.float32(2.0**-6)


def global_encode_scale(amax: np.float32, target: float, scale_max: float = 448.0) -> np.float32:
    """S, from the tensor's amax.

    >>> float(global_encode_scale(np.float32(2688), 6.0)), float(global_encode_scale(np.float32(0), 6.0))
    (1.0, 1.0)
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scale = np.minimum(np.float32(scale_max) * np.float32(target) / np.float32(amax), FLT_MAX)
    return np.float32(1) if amax == 0 or scale == 0 else np.float32(scale)


def nvfp4_scales(block_amax: NDArray[np.float32], amax: np.float32, target: float) -> BlockScales:
    """Block scales under the tensor's `amax` (which may come from elsewhere: another rank, the whole layer)."""
    e4m3 = format_named("e4m3")
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        encode = global_encode_scale(amax, target)
        mult = encode * (np.float32(1) / np.float32(target))
        codes = e4m3.encode(np.clip(block_amax * mult, -E4M3_MAX, E4M3_MAX))
        values = e4m3.decode(codes).astype(np.float32)
        factor = np.minimum(np.float32(1) / (values * (np.float32(1) / encode)), FLT_MAX)
        return BlockScales(codes, values, factor.astype(np.float32), "multiply", np.float32(amax) / (E4M3_MAX * np.float32(target)))


def torchao_scales(block_amax: NDArray[np.float32], amax: np.float32, target: float) -> BlockScales:
    """Two-level scales in torchao's order of operations."""
    e4m3 = format_named("e4m3")
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        outer = np.float32(amax) / (E4M3_MAX * np.float32(target))
        safe = np.float32(1) if outer == 0 else outer
        codes = e4m3.encode(np.clip(block_amax / np.float32(target) / safe, E4M3_LEAST_NORMAL, E4M3_MAX))
        values = e4m3.decode(codes).astype(np.float32)
        return BlockScales(codes, values, np.minimum(np.float32(1) / safe / values, FLT_MAX).astype(np.float32), "multiply", np.float32(outer))
