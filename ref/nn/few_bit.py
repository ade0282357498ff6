r"""Derivatives of activations in few bits: a piecewise constant one, of which the backward pass needs the piece alone.

With 2^b pieces of [-10, 10] the derivative f' is replaced by

.. math:: \sum_i q_i\,[t_i < x \le t_{i+1}], \qquad \text{the pieces and levels of least } \int_{-10}^{10} (f'(x) - q(x))^2 dx

Beyond the ends the outer pieces go on. Bounds t are those of a grid of 1000 steps (dynamic programming, exact on the grid), levels q the means
of f' at the middles of the grid's steps; float32. What is saved of x is the number of its piece, b bits. NaN falls into piece 0.

Source: Few-bit Backward, arXiv 2202.00441, sec. 3; the published package skolai/fewbit, functional GELU of 3 bits. Source level: read (constants).
Deviation: the package finds its bounds off a grid; they lie within one step of these.
Pitfalls: levels are no monotone function of x: GELU's derivative exceeds 1 between 0.71 and 2.4; its sign is wrong left of -2.4 by 0.0026 at most.
"""

from __future__ import annotations

from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import UnknownNameError
from lpref.ref.nn.activation import gelu_backward, silu_backward

REACH, STEPS = 10.0, 1000
DERIVATIVES = {
    "gelu_erf": lambda x: gelu_backward(np.ones_like(x), x, "erf"),
    "gelu_tanh": lambda x: gelu_backward(np.ones_like(x), x, "tanh"),
    "silu": lambda x: silu_backward(np.ones_like(x), x),
}


@cache
def pieces(name: str, bits: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(inner bounds [2^b - 1], levels [2^b]) of an activation's derivative.

    >>> bounds, levels = pieces("gelu_erf", 1)
    >>> bounds.tolist(), len(levels)
    ([0.0], 2)
    """
    if name not in DERIVATIVES:
        raise UnknownNameError("activation", name, DERIVATIVES)
    width = 2 * REACH / STEPS
    middles = -REACH + width * (np.arange(STEPS) + 0.5)
    values = DERIVATIVES[name](middles)
    one, two = (np.array(list(accumulate(row.tolist(), initial=0.0))) for row in (values, values * values))
    count = np.arange(STEPS + 1)[:, None] - np.arange(STEPS + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = (two[:, None] - two) - (one[:, None] - one) ** 2 / count  # of the steps j .. i
    cost = np.where(count > 0, inside, np.inf)
    best, before = cost[:, 0].copy(), []
    for _ in range(2**bits - 1):
        total = best + cost
        before.append(np.argmin(total, axis=1))
        best = np.min(total, axis=1)
    ends = [STEPS]
    for cut in reversed(before):
        ends.insert(0, int(cut[ends[0]]))
    starts = [0, *ends[:-1]]
    levels = np.array([(one[b] - one[a]) / (b - a) for a, b in zip(starts, ends, strict=True)])
    return (-REACH + width * np.array(ends[:-1])).astype(np.float32), levels.astype(np.float32)
