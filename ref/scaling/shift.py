r"""Scales of blocks that are shifts of one scale: $s_j = s\,2^{-g_j}$, so that partial sums of groups of channels are added by shifts only.

With a the amax of the tensor, a_j that of block j (a channel: blocks {other: all, k: 1}), t the largest element value, G = `group`::

    s   = a / t                                                    float32; 1 for a zero tensor, 2^-149 where it underflows
    g_j = min(G - 1, largest g with a_j <= fl32(a 2^-g))           compared, not by logarithm; G - 1 for a zero block
    s_j = s 2^-g_j;   u = x / s_j;   q = cast(u)

G = 1 is one scale for the tensor; with G large every channel has its own power-of-two share of it. No block clips beyond one rounding.

NaN or infinity anywhere: s = NaN, the whole tensor decodes to NaN. Gradient: straight through.
Source: ShiftQuant, arXiv 2411.10948 (channels of the inner dimension in groups whose scales are powers of two apart).
Source level: memory: how the paper chooses groups and their number is not known to us; here a channel takes the smallest scale that holds it.
Pitfalls: a scale for each index of the contraction axis cannot be taken out of the sum, only a shared one times powers of two can, by shifts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import TINIEST, BlockScales, stored


def shift_scales(amax: NDArray[np.float32], target: float, scale: Scale) -> BlockScales:
    """Scales of blocks with these `amax`.

    >>> shift_scales(np.float32([[8, 4, 3, 0.1, 0]]), 1.0, Scale("shift", group=3)).values.tolist()
    [[8.0, 4.0, 4.0, 2.0, 2.0]]
    """
    a = np.max(amax) if amax.size else np.float32(0)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        s = np.float32(1) if a == 0 else np.maximum(a / np.float32(target), TINIEST)
        shifts = np.zeros(amax.shape, np.int32)
        for g in range(1, scale.group):
            shifts += amax <= np.ldexp(a, -g)
        values = np.maximum(np.ldexp(s, -shifts), TINIEST).astype(np.float32)
    values = np.where(np.isfinite(a), values, np.float32(np.nan)).astype(np.float32)
    return BlockScales(stored(values, "float32"), values, values, "divide")
