r"""A power of two that moves the block's mean logarithm to zero: $X = 2^{\mathrm{rint}(\mathrm{mean}_{x \ne 0} \log_2 |x|)}$.

Tapered formats (posits, takums) have most of their precision near 1; this scale brings the geometric mean there::

    l  = log2|x| where x != 0, +0 elsewhere      float32 (`lpref.ref.elementary`)
    mu = tree_sum(l) / n                         the defined sum over the block, n its elements that are not 0
    e  = rint(mu), ties to even, clamped to [-127, 127];  X = 2^e, stored as float32;   u = x / X

Zero block: X = 1. NaN or infinity: X = NaN, the block decodes to NaN. Multiplying a block by 2^k adds k to e and leaves the codes.
Gradient: straight through.

Source: Lu et al., Evaluations on deep neural networks training using posit number system, IEEE TC 2020: "scale factor 2^round(mean log2|x|)".
Source level: memory.
Pitfalls: the mean is over values that are not zero; the largest value may lie far above 1, which a posit represents coarsely but never
clips to infinity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref import elementary, reduce
from lpref.ref.scaling.scales import BlockScales, stored
from lpref.ref.scaling.statistics import blocked


def center_scales(
    x: NDArray[np.float32], block: tuple[int, int], log2: Any = elementary.log2, tree_sum: Any = reduce.tree_sum
) -> BlockScales:
    """Scales of the blocks of x [R, C]; log2 and tree_sum: the definitions, or a backend's kernels with their bits.

    >>> center_scales(np.float32([[1, 4, 0, -16]]), (1, 4)).values.tolist()
    [[4.0]]
    """
    inner = blocked(x, block).transpose(0, 2, 1, 3)
    inner = inner.reshape(*inner.shape[:2], block[0] * block[1])
    live = (inner != 0) & np.isfinite(inner)
    logs = np.where(live, log2(np.where(live, np.abs(inner), np.float32(1))), np.float32(0))
    count = np.count_nonzero(live, axis=-1)
    mean = tree_sum(logs) / np.maximum(count, 1).astype(np.float32)
    e = np.clip(np.rint(mean), -127, 127).astype(np.int32)
    good = np.isfinite(inner).all(axis=-1)
    s = np.where(good, np.where(count == 0, np.float32(1), np.ldexp(np.float32(1), e)), np.float32(np.nan)).astype(np.float32)
    return BlockScales(stored(s, "float32"), s, s, "divide")
