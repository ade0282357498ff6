r"""Scale from the mean magnitude: BitNet b1.58's ternary weights, $W \approx s \cdot \mathrm{clip}(\mathrm{round}(W / s), -1, 1)$.

Every intermediate, float32, in this order::

    m = tree_sum(|w|) / n           the defined sum over the n elements of the block, row-major, padding left out; one that overflows is
                                    taken over |w| 2^-32, and m multiplied by 2^32
    s = max(m, eps)
    mul_inverse (b1.58): r = 1 / s;  u = w * r         divide: u = w / s
    code = clip(round(u), -1, 1)    int2 with `narrow`: codes -1, 0, 1 in two's complement

Ternary is the format int2 with ``narrow: true``: the fourth code, -2, is never produced, and codes multiply like any integers.
With int1 or binary (the sign of w itself, sgn(0) = +1, nothing overflows) the same scale is XNOR-Net's: alpha = mean |W|, which minimizes
||W - alpha sgn(W)|| (arXiv 1603.05279; one alpha per output channel: `binary_absmean:other=1`).
`center` (signs only): the sign is that of w - mean w, one rounding, the mean that of `block_mean`; the scale stays mean |w|. BitNet's first, one-bit
version: W ~ mean|W| sgn(W - mean W), with sgn(0) = +1 here.
Zero block: s = max(0, eps), or 1 where that is 0 (0 for signs, which have no zero); zero codes. NaN or infinity: s = NaN, codes of
zero, the block decodes to NaN.
Gradient: straight through, in BitNet not clipped. Its activations are INT8 per token, s = 127 / max(amax, 1e-5), x s: the rule te with eps 1e-5.

Source: BitNet, arXiv 2310.11453, eq. 1-3 (one bit; from memory);
arXiv 2402.17764, eq. 1-3; microsoft/BitNet utils/preprocess-huggingface-bitnet.py: s = 1 / mean(|w|).clamp(min=1e-5),
(w * s).round().clamp(-1, 1) / s.
Source level: read; XNOR-Net from memory.
Deviation: values are +-s, where that code has +-fl(1 / fl(1 / s)).
Pitfalls: the paper adds eps to the mean, the code bounds the mean from below by it; ties at half the mean go to the even code (0); fusing QKV
changes the mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref.scaling.amax import with_apply
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales, stored
from lpref.ref.scaling.statistics import block_mean, blocked, unblocked


def absmean_scales(
    mean: NDArray[np.float32], scale: Scale, zero: bool = True, elements: NDArray[np.float32] | None = None
) -> BlockScales:
    """Scales of blocks with these mean magnitudes; `zero`: whether the element format has a zero; `elements`: whose signs are taken, if not x's.

    >>> absmean_scales(np.float32([[0.5, 0]]), Scale("absmean", eps=1e-5)).values.tolist()
    [[0.5, 9.999999747378752e-06]]
    """
    s = np.maximum(mean, np.float32(scale.eps))
    one = np.where(s == 0, np.float32(1), np.where(np.isinf(s), np.float32(np.nan), s)).astype(np.float32)
    made = with_apply(one, stored(one, "float32"), scale.apply)
    if zero:
        return made
    values = np.where(s == 0, np.float32(0), one).astype(np.float32)
    bare = np.where(np.isnan(values), values, np.float32(1))  # u = x: a quotient that underflows would lose its sign
    return BlockScales(stored(values, "float32"), values, bare, "multiply", elements=elements)


def centered(x: NDArray[np.float32], block: tuple[int, int]) -> NDArray[np.float32]:
    """x [R, C] minus the mean of its block; 0 where that is not finite.

    >>> centered(np.float32([[1, 3]]), (1, 2)).tolist()
    [[-1.0, 1.0]]
    """
    with np.errstate(invalid="ignore", over="ignore"):
        inner = blocked(x, block) - block_mean(x, block)[:, None, :, None]
    inner = np.where(np.isfinite(inner), inner, np.float32(0))
    return np.ascontiguousarray(unblocked(inner, (x.shape[0], x.shape[1])))
