r"""Block floating point: integer mantissas under one power of two, $\hat x = i \, 2^{e - m}$, |i| <= 2^m - 1.

The element format is intb, b = m + 1 bits: a sign and m magnitude bits, read as the fraction 0.mmm of 2^e. `narrow` keeps the code -2^m out.
float32, exponents from bits, never from a logarithm::

    a = amax + eps                  the sum rounded to float32
    floor   e = floor(log2 a) + 1   the exponent of the largest element: MSFP, BFP8, dynamic fixed point; nothing clips but the top half step
    ceil    e = ceil(log2 a)        HBFP: an exact power of two clips, 2^k -> 2^k (1 - 2^-m)
    s = 2^clamp(e - m, -127, 127)   the interval, stored as E8M0; the exponent that hardware stores is e
    u = x / s;  i = clamp(round(u), -(2^m - 1), 2^m - 1)

Zero block: s = 2^-127 (with eps: the interval of eps), zero codes. NaN or infinity in the block: code 0xFF, codes of zero, the block decodes
to NaN. Saturation: only above (2^m - 1/2) s. |x^ - x| <= s / 2 elsewhere. Scaling x by 2^k scales x^ and leaves the codes (eps = 0).

Quantizers: `hbfp8`: m = 7, ceil, eps 1e-8, tiles of 24 x 24 (weights; activations and gradients are `hbfp8:other=1:k=all`, a row each);
`msfp12`: m = 3, floor, boxes of 16 along k; `bfp8_b16`: m = 7, floor, boxes of 16 (MSFP-16, tt-metal's BFLOAT8_B); `dfp16`: m = 15, floor,
the whole tensor (see `dfp`). HBFP's stochastic rounding, round(u + U(-1/2, 1/2)), is `rounding: stochastic` up to ties.
Gradient: HBFP converts the inputs and the outgoing gradients of each product alike; all but products stays in floating point.

Source: parsa-epfl/HBFPEmulator bfp/bfp_ops.py (read: exp = ceil(log2(max + 1e-8)), interval = 2^(exp - mant_bits), clamp to
+-(2^exp - interval)), Megatron-LM_HBFP/examples/hbfp8.sh (mant_bits 7, weights kept with 15); tile of 24 in the paper, arXiv 1804.01526 (25 is
the code's default argument). MSFP: Rouhani et al., NeurIPS 2020, from memory.
Source level: read (HBFP), MSFP and BFP8 from memory (tt-metal's page on its formats is made of pictures).
Pitfalls: HBFP's code takes log2 in floating point; an eps that survives the addition moves a block whose amax is exactly 2^k to e = k + 1,
so it no longer clips, and it shifts tiny blocks; rounding may reach 2^m and must clamp.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales


def bfp_exponent(amax: NDArray[np.float32], mode: str, eps: float = 0.0) -> NDArray[np.int32]:
    """e of blocks with these `amax` (finite); -149 for zero.

    >>> [int(bfp_exponent(np.float32(a), mode)) for a in (1.0, 1.5) for mode in ("floor", "ceil")]
    [1, 0, 1, 1]
    """
    with np.errstate(over="ignore"):
        a = np.minimum(np.float32(amax) + np.float32(eps), np.finfo(np.float32).max)
    half, exponent = np.frexp(a)
    e = exponent - ((half == 0.5) if mode == "ceil" else 0)
    return np.where(a == 0, -149, e).astype(np.int32)


def bfp_scales(amax: NDArray[np.float32], magnitude_bits: int, scale: Scale) -> BlockScales:
    """Scales 2^(e - m) of blocks with these `amax`; E8M0 codes."""
    good = np.isfinite(amax)
    e = np.clip(bfp_exponent(np.where(good, amax, np.float32(0)), scale.mode, scale.eps) - magnitude_bits, -127, 127)
    codes = np.where(good, e + 127, 255).astype(np.uint8)
    values = np.where(good, np.ldexp(np.float32(1), e), np.float32(np.nan)).astype(np.float32)
    return BlockScales(codes, values, values, "divide")
