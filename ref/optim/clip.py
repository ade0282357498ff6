r"""Gradient clipping.

Global norm, torch's form: :math:`G = \sqrt{\sum_i \lVert g_i\rVert^2}`, :math:`c = \min(1, \mathrm{max}/(G + 10^{-6}))`, g <- c g.
Written order: every square is rounded to the gradient's dtype, each tensor's squares are added by the one sum
(:func:`lpref.ref.reduce.tree_sum` over the flattened tensor), the sums of the tensors by the same sum in the order given, then sqrt; c in that dtype.

Laws: the direction is kept; a clipped gradient has norm <= max up to rounding; c = 1 returns the gradients' own values.
Special values: a non-finite norm raises: an infinite gradient would give c = 0 and 0 * inf = NaN.
Pitfalls: clip after unscaling and after the reduction over workers; optax scales by max/G without the 1e-6, only where G >= max.
Source: Pascanu et al., arXiv:1211.5063, section 3.2; pytorch/pytorch torch/nn/utils/clip_grad.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lpref.ref import reduce
from lpref.ref.errors import NonFiniteError

Array = np.ndarray


def global_norm(arrays: Sequence[Array]) -> np.floating[Any]:
    """sqrt of the sum of all squares of all arrays, in their dtype; 0 for none.

    >>> float(global_norm([np.float32([3]), np.float32([[4]])]))
    5.0
    """
    if not arrays:
        return np.float32(0)
    sums = [reduce.tree_sum((a * a).reshape(-1)) for a in arrays]
    return np.sqrt(reduce.tree_sum(np.stack(sums)))


def clip_global_norm(
    grads: Mapping[str, Array], max_norm: float, *, eps: float = 1e-6, ops: Any = None
) -> tuple[dict[str, Array], float]:
    """(clipped gradients, norm before clipping). Raises NonFiniteError when the norm is not finite."""
    arrays = list(grads.values())
    norm = global_norm(arrays) if ops is None else ops.arrays.host(ops.global_norm(arrays))[()]
    dtype = norm.dtype.type
    if not np.isfinite(norm):
        raise NonFiniteError(
            f"the global gradient norm is {norm}", where="clip_global_norm", remedy="skip the step or lower the loss scale"
        )
    factor = min(dtype(1), dtype(max_norm) / (norm + dtype(eps)))
    if factor == 1:
        return dict(grads), float(norm)
    multiply = np.multiply if ops is None else ops.mul
    return {name: multiply(g, factor) for name, g in grads.items()}, float(norm)


def clip_value(grads: Mapping[str, Array], limit: float) -> dict[str, Array]:
    """Every element clamped to [-limit, limit]; NaN stays NaN.

    >>> clip_value({"w": np.float32([-3, 0.5])}, 1.0)["w"].tolist()
    [-1.0, 0.5]
    """
    return {name: np.minimum(np.maximum(g, g.dtype.type(-limit)), g.dtype.type(limit)) for name, g in grads.items()}
