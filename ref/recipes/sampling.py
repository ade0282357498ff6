"""Row sampling of a GEMM (`Sampling`): which rows take part, and with which weight.

Rows are tokens: those of dY in dgrad (axis `other`) and of dY and X in wgrad (axis `k`). Every part of a split dY has rows of its own. Row i of
R rows has the score

    t_i = |a_i| |b_i|       norms or largest magnitudes of the rows that `norms` names, float32 each, their product in float64

leverage: with the budget B = share R,

    p = t B / sum t;   while a p is above 1: the p from 1 up become 1 and the others are scaled to fill the budget that is left

and every p is rounded up to a multiple of 2^-24, so that the comparison below has exactly this probability. Row i is kept where
w div 2^8 < 2^24 p_i, w the 32-bit word of row i of the stream ``site/gemm/a[/part]/sampling`` (rows counted in the global batch), and it weighs
fl32(1 / p_i): E[sum over kept rows] is the sum over all rows, up to the rounding of 1 / p_i. A row of score 0 is never kept.

top: the rows whose score reaches the floor(share R)-th largest (at least one row; ties are all kept) weigh 1.

Statistics are those of the micro-batch; words are those of the global batch.

Source: arXiv 2306.11987, sec. 4.2; xijiu9/Train_Transformers_with_INT4 .../image_classification/utils.py sample_index_from_bernouli.
arXiv 2408.14267; Gaochang-bjtu/1-bit-FQT bnn/layers/quantize.py _mask (top, largest magnitude).
Source level: read.
Deviation: the code computes p in float32 and does not round it up. Where all scores are 0 it divides 0 by 0; here nothing is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lpref.ref import reduce
from lpref.ref.errors import NonFiniteError
from lpref.ref.recipes.gemm import Sampling

F64: TypeAlias = NDArray[np.float64]
GRID = 2.0**24


@dataclass(frozen=True)
class Rows:
    """The kept rows of one part: their numbers in ascending order, and their weights (None: 1)."""

    index: NDArray[np.int64]
    weight: NDArray[np.float32] | None = None


def probabilities(scores: F64, share: float) -> F64:
    """p of every row; they add up to share x rows, or to the number of rows with a score where that is less.

    >>> probabilities(np.array([1.0, 1.0, 6.0, 0.0]), 0.5).tolist()
    [0.5, 0.5, 1.0, 0.0]
    """
    budget, whole = share * scores.size, float(reduce.tree_sum(scores))
    if whole == 0:
        return np.zeros(scores.size)
    p = scores * (budget / whole)
    while p.max() > 1:
        small = p < 1
        p = np.minimum(p, 1.0)
        rest = float(reduce.tree_sum(np.where(small, p, 0.0)))
        left = budget - np.count_nonzero(~small)
        if rest == 0 or left <= 0:
            break
        p = np.where(small, p * (left / rest), p)
    return np.minimum(np.ceil(p * GRID) / GRID, 1.0)


def chosen(sampling: Sampling, scores: Mapping[str, F64], layer: Any, path: str) -> dict[str, Rows]:
    """Part -> its kept rows; `scores` by part. Raises NonFiniteError for scores that are not finite."""
    stacked = np.concatenate(list(scores.values()))
    if not np.isfinite(stacked).all():
        raise NonFiniteError("rows without a finite score", where=f"{layer.ctx.site}.{path} sampling", remedy="lower the learning rate")
    if sampling.kind == "top":
        bar = np.sort(stacked)[::-1][max(1, math.floor(sampling.share * stacked.size)) - 1] if stacked.size else 0.0
        return {part: Rows(np.flatnonzero(s >= bar)) for part, s in scores.items()}
    found, p_all = {}, probabilities(stacked, sampling.share).reshape(len(scores), -1)  # every part has as many rows
    for part, p in zip(scores, p_all, strict=True):
        kept = _words(layer, path, part, p.size) < p * GRID
        index = np.flatnonzero(kept)
        found[part] = Rows(index, (1 / p[index]).astype(np.float32))
    return found


def _words(layer: Any, path: str, part: str, rows: int) -> F64:
    address = layer.ctx.words(f"{path}.{part}" if part else path, "sampling")
    address = replace(address, start=layer.ctx.micro * rows)
    return (address.bits(rows, 32) >> np.uint32(8)).astype(np.float64)


def row_scores(values: Any, score: str, ops: Any) -> F64:
    """The score of every row of [R, C], float32 held in float64."""
    if score == "amax":
        return np.abs(np.asarray(ops.arrays.host(values), np.float64)).max(axis=1, initial=0.0)
    norms = ops.sqrt(ops.tree_sum(ops.mul(values, values), axis=1))
    return np.asarray(ops.arrays.host(norms), np.float64)
