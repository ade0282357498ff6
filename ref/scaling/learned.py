r"""Scales that no statistic gives: a learned step (LSQ) or a constant, $q = \mathrm{clip}(\mathrm{round}(x / s), Q_n, Q_p)$.

float32, in this order::

    s = state["scale"] (learned; `value` where the state holds none) or `value` (constant)
    s = max(s, eps)
    divide: u = x / s               mul_inverse: r = min(1 / s, FLT_MAX);  u = x * r

`state["scale"]` is a scalar or has the shape of the block grid; so has `state["zero"]`, learned integer zero points z, where it is there:
then q = clip(round(x / s) + z, Qn, Qp), as in `lpref.ref.scaling.affine`. A step that is not finite and positive after the maximum is an error:
it must stay above 0. Zero block: the same s. NaN keeps the overflow preset's meaning (an error for integers), infinity saturates.
Gradient: for x zero where clipped; for s, q - x / s inside the range and Qn or Qp outside, over sqrt(n Qp) (`lpref.ref.recipes.gradient`).

Source: arXiv 1902.08153, eq. 1-3, sec. 2.1 and 2.2; hustzxd/LSQuantization lsq.py, zhutmost/lsq-net quan/quantizer/lsq.py.
Source level: read (the paper).
Pitfalls: LSQ's range is the full one, Qn = -2^(b-1), so its quantizers have ``narrow: false``; an optimizer step may carry s below 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lpref.ref.errors import ShapeError, SpecError
from lpref.ref.scaling.amax import with_apply
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales, stored


def given_scales(step: object, grid: tuple[int, int], scale: Scale, zero: object = None) -> BlockScales:
    """Scales of the block grid from a given `step` (scalar or ``[grid]``), and zero points where they are given too (whole numbers).

    >>> given_scales(0.25, (1, 2), Scale("constant")).values.tolist()
    [[0.25, 0.25]]
    """
    s = np.asarray(step, np.float32)
    if s.size != 1 and s.shape != grid:
        raise ShapeError(f"a step of shape {s.shape} for {grid[0]} x {grid[1]} blocks", where="learned scale", remedy="give a scalar or the grid")
    s = np.ascontiguousarray(np.broadcast_to(np.maximum(s, np.float32(scale.eps)).reshape(s.shape if s.shape == grid else (1, 1)), grid))
    if not (np.isfinite(s).all() and (s > 0).all()):
        raise SpecError([f"scale.value: a step of {float(np.min(s))!r} is not a positive number"], remedy="set eps, or keep the step positive")
    made = with_apply(s, stored(s, "float32"), scale.apply)
    if zero is None:
        return made
    z = np.asarray(zero)
    return replace(made, zero=np.broadcast_to(z.reshape(s.shape if z.size == s.size else (1, 1)), grid).astype(np.int32))
