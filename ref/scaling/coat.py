r"""COAT's scale: $s = (\mathrm{amax} + \varepsilon) / t$; elements meet s, decoding reads s in its stored format (bfloat16).

Every intermediate, float32, in this order::

    s  = (amax + eps) / t           t: `target`, by default the largest value of the element format; amax without padding
    s  = 1 where that is 0 (a zero block with eps 0);  s = 2^-149 where the division underflowed to 0
    u  = x / s
    x^ = q * cast(s)                cast: nearest even to the scale's format (float32: s itself)

So the stored scale is within 2^-9 (relative) of the one that the elements were divided by, and an element of the block's amplitude may decode
to a little more or less than amax. Zero block: s = eps / t, all codes zero. NaN or infinity: s = NaN, the block decodes to NaN.
Saturation: x / s exceeds t by one rounding at most; the overflow preset decides. Gradient: straight through, none through amax.

Source: NVlabs/COAT coat/activation/real_quantization (common.py: SCALE_MIN_THRES 1e-10; silu_fwd.py, _quantize_perblock.py: max + eps, tl.fdiv in
float32, then the scale is cast), commit 80ec99f; arXiv 2410.19313. Source level: read.
Pitfalls: the repository's fake quantization (fake_quantization/quantize_function.py) casts s before it divides: other codes near ties, and
elements beyond t where the cast rounded down.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import TINIEST, BlockScales, loaded, stored


def coat_scales(amax: NDArray[np.float32], target: float, scale: Scale) -> BlockScales:
    """Scales of blocks with these `amax`.

    >>> made = coat_scales(np.float32([[3, 448]]), 448.0, Scale("coat", format="bfloat16"))
    >>> made.values.tolist(), made.factor.tolist()
    ([[0.006683349609375, 1.0]], [[0.0066964286379516125, 1.0]])
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        a = amax + np.float32(scale.eps)
        s: NDArray = np.where(a == 0, np.float32(1), np.maximum(a / np.float32(target), TINIEST))
        s = np.where(np.isinf(a), np.float32(np.nan), s).astype(np.float32)
        codes = stored(s, scale.format)
        return BlockScales(codes, loaded(codes, scale.format), s, "divide")
