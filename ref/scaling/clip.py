r"""Scales that clip on purpose: the threshold c of every block is searched, s = c / t, t the largest element value.

    candidates   c_i = fl32(amax (i / steps)), i = steps .. 1         percentile: the one |x| of rank ceil(share n), ascending
    Q_i(x)       s_i clamp(round(fl32(x / s_i)), -t, t), s_i = fl32(c_i / t): nearest even, products in float64
    mse          least sum (x - Q_i)^2
    weighted     least sum |x| (x - Q_i)^2                             large gradients count more
    cosine       least d_i = 1 - <x, Q_i> / (|x| |Q_i|)                the direction is what matters
    chosen       the largest c_i among equals; sums are the defined ones over the block, row-major, in float64

history current searches every time. hindsight searches when the state is new and every `window` steps after, and uses the scales that it found in
between; the first steps of all micro-batches search, and the largest scale of each block is kept.

State: {"scale": float32 grid, "age": int32}. Observed: `clip`, the scales, and `deviation`, the mean d of the blocks, where it searched.
Zero block: s = 1. NaN or infinity in the block: s = NaN, the block decodes to NaN.
Gradient: straight through; a clipped gradient is a biased one.

Source: UI8, arXiv 1912.12607: cosine distance, searched every 100 iterations, symmetric INT8 (from memory: its search is a descent on c);
distribution-adaptive INT8, arXiv 2102.04782: per channel, errors weighted by magnitude (from memory: its minimum is a formula of two fitted
shapes; weight and candidates here are ours). Source level: memory.
Pitfalls: a search that includes stochastic rounding chases its noise; the best c for the mean squared error of a heavy tail loses the direction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref import reduce
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales, stored
from lpref.ref.scaling.statistics import blocked


def initial() -> dict[str, Any]:
    """Nothing searched."""
    return {"scale": np.zeros((1, 1), np.float32), "age": np.int32(0)}


def searches(scale: Scale, state: Mapping[str, Any] | None) -> bool:
    """Whether a step under this state searches."""
    return scale.history == "current" or state is None or int(state["age"]) % scale.window == 0


def clip_scales(
    x: NDArray[np.float32], block: tuple[int, int], amax: NDArray[np.float32], target: float, scale: Scale, state: Mapping[str, Any] | None
) -> BlockScales:
    """Scales of the grid.

    >>> x = np.float32([[1, 1, 1, 1, 1, 1, 1, 12]])
    >>> made = clip_scales(x, (1, 8), np.float32([[12]]), 1.0, Scale("clip", criterion="percentile", share=0.8), None)
    >>> made.values.tolist()
    [[1.0]]
    """
    if searches(scale, state) or state is None:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            s = searched(cells(x, block), amax, np.float32(target), scale)
    else:
        s = np.broadcast_to(np.asarray(state["scale"], np.float32), amax.shape)
    s = np.where(np.isfinite(amax), np.where(s > 0, s, np.float32(1)), np.float32(np.nan)).astype(np.float32)
    return BlockScales(stored(s, "float32"), s, s, "divide")


def cells(x: NDArray[np.float32], block: tuple[int, int]) -> NDArray[np.float32]:
    """``[grid, grid, elements of a block]``, padded with zeros, which no criterion sees."""
    x4 = blocked(x, block)
    return np.ascontiguousarray(x4.transpose(0, 2, 1, 3)).reshape(x4.shape[0], x4.shape[2], -1)


def searched(c: NDArray[np.float32], amax: NDArray[np.float32], target: np.float32, scale: Scale) -> NDArray[np.float32]:
    """The scale of each block of `c` (see `cells`)."""
    if scale.criterion == "percentile":
        rank = max(math.ceil(scale.share * c.shape[-1]), 1)
        return np.asarray(np.partition(np.abs(c), rank - 1, axis=-1)[..., rank - 1] / target)
    best, least = amax / target, np.full(amax.shape, np.inf)
    for i in range(scale.steps, 0, -1):
        s = (amax * np.float32(i / scale.steps)) / target
        cost = costs(c, s, target, scale.criterion)
        better = cost < least
        best, least = np.where(better, s, best), np.where(better, cost, least)
    return np.asarray(best, np.float32)


def costs(c: NDArray[np.float32], s: NDArray[np.float32], target: np.float32, criterion: str) -> NDArray[np.float64]:
    """What a criterion says of the scales `s`, one number a block."""
    step = s[..., None]
    q = np.clip(np.rint(c / step), -target, target).astype(np.float64) * step
    x = c.astype(np.float64)
    if criterion == "cosine":
        return np.asarray(1.0 - reduce.tree_sum(x * q) / np.sqrt(reduce.tree_sum(x * x) * reduce.tree_sum(q * q)))
    error = (x - q) * (x - q)
    return np.asarray(reduce.tree_sum(np.abs(x) * error if criterion == "weighted" else error))


def deviation(x: NDArray[np.float32], block: tuple[int, int], s: NDArray[np.float32], target: float) -> float:
    """The mean of 1 - cos(x, Q(x)) over the blocks that are not zero; 0 where all are."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        d = costs(cells(x, block), s, np.float32(target), "cosine")
    return mean_deviation(d)


def mean_deviation(d: NDArray[np.float64]) -> float:
    """The mean over the blocks that have a cosine; 0 where none has.

    >>> mean_deviation(np.array([0.5, np.nan]))
    0.5
    """
    good = d[np.isfinite(d)]
    return float(reduce.tree_sum(good) / good.size) if good.size else 0.0


def update(state: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """The state after a step."""
    kept = {"scale": np.asarray(seen["clip"], np.float32)} if "clip" in seen else {"scale": state["scale"]}
    return {**kept, "age": np.int32(int(state["age"]) + 1)}
