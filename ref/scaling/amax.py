r"""Scale from the largest magnitude of the block: $s = \mathrm{amax} / t$, $q = \mathrm{cast}(x / s)$.

`t` (`target`) is the element value that amax is mapped to: by default the largest of the element format (448 for E4M3, 127 for narrow
int8, 1 for NF4). One page for tensors, rows, columns, 1 x k groups and r x c tiles: DeepSeek-V3's 1 x 128 and 128 x 128, symmetric
integers, code books.

Every intermediate, float32, in this order::

    a = max(amax, eps)              amax over the block without padding
    s = a / t
    pow2 up: s = 2^ceil(log2 s)     down: s = 2^floor(log2 s)     nearest: s = 2^round(log2 s)     from bits
    s = 1 where a = 0               s = 2^-149 where the division underflowed to 0
    s = cast(s) in a stored format of 8 bits (e4m3, ue4m3, ue5m3): nearest even, saturated, at least its smallest positive value
    binary16: u takes the s before this rounding, and only decoding the rounded one (Jetfire's kernels): 0 below 2^-25, infinite from 65520 on
    divide:      u = x / s
    mul_inverse: r = min(1 / s, FLT_MAX);  u = x * r
    u = u * multiplier              where it is not 1: `target` 1 and `multiplier` 127 is fl32(127 * fl32(x / amax)), SwitchBack's int8;
                                    the tensor scale is then fl32(1 / multiplier)

Zero block: s = 1, all codes zero. NaN or infinity in the block: s = NaN, codes of zero, the block decodes to NaN.
Saturation: x / s may exceed t by one rounding, and with ``pow2: down`` by up to 2; the overflow preset decides (saturate by default).

Integers, one idea and four roundings of it. int8_row: s = amax / 127, u = x / s. SwitchBack (bitsandbytes triton/quantize_rowwise.py, read:
llrint(127 * (x / max_val)), decoded by amax * code * (1/127)): int8_switchback. Its tensor-wise kernel: 127 * (x * (1 / amax)). Others write
x * (127 / amax). They differ in the last code near ties only; int8_row keeps the quotient by the scale that is stored.
One-level NVFP4 of torchao: format e4m3, eps = 6 * 2^-6, mul_inverse (nvfp4_one_level). torchao's tensor-wise FP8 is the rule te with eps 1e-12.
Gradient: straight through, none through amax. DeepSeek-V3: activations 1 x 128, weights 128 x 128 (transposed tiles are tiles of the transpose);
the product promotes its partial sums to float32 every 128 of K and multiplies by s_a s_b there, and wgrad quantizes the activation again, 128 x 1.

Source: DeepSeek-V3, arXiv 2412.19437 sec. 3.3.2 and 3.3.3 (powers of two for the inputs behind attention);
deepseek-ai/DeepGEMM deep_gemm/utils/math.py (amax clamped to 1e-4, x * (1 / s), optional power-of-two ceiling: eps=1e-4,
apply=mul_inverse, pow2=up); symmetric integers and NF4 after bitsandbytes functional.py.
Source level: read.
Pitfalls: x / s and x * (1 / s) differ in the last code near ties; amax / 127 is not amax / 127.5; an amax floor makes tiny tiles underflow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.formats import format as format_named
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import FLT_MAX, ONE, TINIEST, BlockScales, power_of_two, stored


def amax_scales(amax: NDArray[np.float32], target: float, scale: Scale, cast: Any = None) -> BlockScales:
    """Scales of blocks with these `amax` (any shape, float32). cast: (float32 values, format) -> (codes, float32 values of the codes), to nearest
    even, saturating: the format's own, or a backend's kernel with its bits.

    >>> amax_scales(np.float32([[448, 0, np.inf]]), 448.0, Scale()).values.tolist()
    [[1.0, 1.0, nan]]
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        a = np.maximum(amax, np.float32(scale.eps))
        s: NDArray = a / np.float32(target)
        if scale.pow2 != "none":
            s = power_of_two(s, scale.pow2)
        s = np.where(a == 0, np.float32(1), np.maximum(s, TINIEST))
        if scale.format == "e8m0":
            s = np.maximum(s, np.float32(2.0**-127))
        s = np.where(np.isinf(a), np.float32(np.nan), s).astype(np.float32)
        codes = stored(s, scale.format)
        if scale.format == "binary16":
            made = with_apply(s, codes, scale.apply, np.float32(1) / np.float32(scale.multiplier))
            return replace(made, values=format_named("binary16").decode(codes).astype(np.float32))
        if scale.format not in ("float32", "e8m0"):
            small = format_named(scale.format)
            codes, s = (cast or _cast)(np.maximum(s, np.float32(small.min_subnormal)), scale.format)
        return with_apply(s, codes, scale.apply, np.float32(1) / np.float32(scale.multiplier))


def _cast(s: NDArray[np.float32], name: str) -> tuple[NDArray, NDArray[np.float32]]:
    codes = stored(s, name)
    return codes, format_named(name).decode(codes).astype(np.float32)


def with_apply(s: NDArray, codes: NDArray, apply: str, tensor_scale: np.float32 = ONE) -> BlockScales:
    """Decode scales `s` and the way elements meet them: ``x / s``, or ``x * min(fl32(1 / s), FLT_MAX)``."""
    if apply == "divide":
        return BlockScales(codes, s, s, "divide", tensor_scale)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return BlockScales(codes, s, np.minimum(np.float32(1) / s, FLT_MAX), "multiply", tensor_scale)
