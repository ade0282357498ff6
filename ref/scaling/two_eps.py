r"""LLM-QAT's symmetric integers: one small number inside the scale and once more outside.

float32, in this order::

    S = target / (amax + eps)       target: 2^(b-1) - 1
    u = x * S                       code = round(u)
    value = code * (1 / (S + eps))

Zero block: S = target / eps, all codes zero; with eps = 0, s = 1. NaN or infinity in the block: s = NaN, it decodes to NaN. Nothing saturates: |u| is
at most the target.
Gradient: straight through, zero where |x| >= 2 (`lpref.ref.recipes.gradients.straight`, limit).

Source: LLM-QAT, arXiv 2305.17888; facebookresearch/LLM-QAT models/utils_quant.py, SymQuantizer.
Source level: read.
Deviation: values are fl(code * fl(1 / (S + eps))), there fl(code / (S + eps)), and S is target * fl(1 / (amax + eps)): the same up to the last bits.
Pitfalls: not idempotent, since the second eps shrinks every value; the smallest scale is that of amax 0, eps / target.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales, stored


def two_eps_scales(amax: NDArray[np.float32], target: float, scale: Scale) -> BlockScales:
    """Scales of blocks with these `amax`.

    >>> two_eps_scales(np.float32([[7, np.nan]]), 7.0, Scale("two_eps", eps=1e-6)).values.tolist()
    [[0.9999991655349731, nan]]
    """
    eps = np.float32(scale.eps)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        factor = np.float32(target) / (amax + eps)
        factor = np.where(np.isinf(factor), np.float32(1), factor)
        value = np.float32(1) / (factor + eps)
        value = np.where(np.isfinite(amax), value, np.float32(np.nan)).astype(np.float32)
    return BlockScales(stored(value, "float32"), value, factor.astype(np.float32), "multiply")
