r"""Ternary weight networks: threshold and scale from means, $\hat w = \alpha \, \mathrm{sgn}(w) [|w| > \Delta]$.

float32, in this order::

    m     = tree_sum(|w|) / n                   over the block, row-major, padding left out
    Delta = threshold * m                       0.7
    alpha = tree_sum(|w| where |w| > Delta, else 0) / (number of |w| > Delta)
    code  = sgn(w) where |w| > Delta, else 0    int2 with `narrow`, or the format ternary

alpha and Delta approximate the minimum of ||w - alpha t|| over ternary t: for given t, alpha is the least squares solution.

Zero block: alpha = 1, zero codes. NaN or infinity: alpha = NaN, codes of zero, the block decodes to NaN.
Gradient: straight through.

Source: Li, Zhang and Liu, arXiv 1605.04711; their code, fengfu-chris/caffe-twns src/caffe/blob.cpp (set_delta: 0.7 asum / count; ternarize_data:
alpha = <t, w> / <t, t>, which is E(|w| : |w| > Delta)) and util/math_functions.cpp (x > delta, strict).
Source level: read (the code; on a GPU it adds 1e-6 to <t, t>).
Pitfalls: the comparison is strict; 0.7 is fl32(0.7); the exact factor is 2/3 for uniform and 0.75 for normal weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales, stored
from lpref.ref.scaling.statistics import block_absmean, blocked, unblocked


def twn_scales(x: NDArray[np.float32], block: tuple[int, int], scale: Scale) -> BlockScales:
    """Scales and signs of `x` [R, C] in blocks.

    >>> made = twn_scales(np.float32([[1, -2, 0.1, 3]]), (1, 4), Scale("twn"))
    >>> made.values.tolist(), made.elements.tolist()
    ([[2.5]], [[0.0, -1.0, 0.0, 1.0]])
    """
    delta = np.float32(scale.threshold) * block_absmean(x, block)
    wide = unblocked(np.broadcast_to(delta[:, None, :, None], blocked(x, block).shape), x.shape)
    with np.errstate(invalid="ignore"):
        beyond = np.abs(x) > wide
    alpha = block_absmean(np.where(beyond, x, np.float32(0)), block, counted=beyond)
    alpha = np.where(np.isfinite(delta), np.where(delta == 0, np.float32(1), alpha), np.float32(np.nan)).astype(np.float32)
    signs = np.where(beyond, np.copysign(np.float32(1), x), np.float32(0)).astype(np.float32)
    return BlockScales(stored(alpha, "float32"), alpha, alpha, "divide", elements=signs)
