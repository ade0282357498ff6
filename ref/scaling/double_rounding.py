r"""Double rounding: low-precision codes from stored codes of a higher precision.

h = `high` bits, l the element format's, D = h - l, s the learned (or given) step of the high precision; float32::

    W_h = clip(rint(x / s), -2^(h-1), 2^(h-1) - 1)              what is stored
    u   = W_h * 2^-D                                            exact
    W_l = clip(round(u), -2^(l-1), 2^(l-1) - 1)                 the quantizer's rounding, ``narrow: false``
    value = W_l * (s 2^D)

`state["scale"]` is s, a scalar or one per block. D = 0 is the rule learned: W_h is a whole number already. With ties to even, W_l is an add and an
arithmetic shift of W_h except at ties: (W_h + 2^(D-1)) >> D rounds them up.
NaN, a step that is not positive: as in `lpref.ref.scaling.learned`.
Gradient: LSQ's, through both roundings: Qn, Qp are those of l bits, the step that learns is s (`lpref.ref.recipes.gradients.lsq`).

Source: Double Rounding, arXiv 2502.01199, eq. 3 to 5.
Source level: read.
Deviation: the paper's asymmetric weights have a zero point; its experiments, and this page, have z = 0.
Pitfalls: rounding twice is not rounding once: 7.5 of 8 bits becomes 8, and then 0.5 of D = 4 ties to 0 where 7.5 / 16 is below it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lpref.ref.scaling.learned import given_scales
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales, stored
from lpref.ref.scaling.statistics import blocked, unblocked


def double_rounding_scales(x: NDArray[np.float32], block: tuple[int, int], step: object, bits: int, scale: Scale) -> BlockScales:
    """Scales of the block grid and the elements W_h 2^-D of x [R, C], for an element format of `bits` bits.

    >>> double_rounding_scales(np.float32([[7.4, 100, -9]]), (1, 3), 1.0, 4, Scale("double_rounding", high=6)).elements.tolist()
    [[1.75, 7.75, -2.25]]
    """
    inner = blocked(x, block)
    made = given_scales(step, (inner.shape[0], inner.shape[2]), scale)
    top, down = 2.0 ** (scale.high - 1), 2.0 ** (scale.high - bits)
    with np.errstate(invalid="ignore", over="ignore"):
        ratio = inner / made.values[:, None, :, None]
        stored_codes = np.clip(np.rint(ratio), np.float32(-top), np.float32(top - 1))
        values = made.values * np.float32(down)
    elements = np.ascontiguousarray(unblocked(stored_codes * np.float32(1 / down), (x.shape[0], x.shape[1])))
    return replace(made, values=values, codes=stored(values, "float32"), factor=values, operation="divide", elements=elements)
