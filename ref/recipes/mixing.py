r"""Rows mixed by Householder reflections before quantization (`Mixing`): the block Householder quantizer of StatQuant, x^ = T^-1 Q(T x).

A few rows of a gradient have a large range and most have a tiny one. A reflection spreads a large row over n rows, each with 1 / sqrt(n) of its
range, and row scales balance the two kinds, so that a scale per row fits all of them. With the rows' ranges lambda = max - min + eps in
descending order (ties: the earlier row first) and R rows:

    small   the least number m of last rows with  m lambda_(R - m) / (lambda_1 + ... + lambda_(R - m)) > 1,  at most R - 1
    groups  row i of the G = R - m large ones leads a group of its own; it takes the next  rint(c_i) - rint(c_(i-1))  small rows,
            c_i = m (lambda_1 + ... + lambda_i) / (lambda_1 + ... + lambda_G),  half away from zero
    scales  of a group of n rows with leader lambda_1 and largest small row lambda_2, h the largest magnitude in its reflection:
            w_1 = lambda_1 / sqrt(n), w_2 = lambda_2 h / (n - 1);   s_j = w_j^(-1/3) sqrt(w_1^(2/3) + w_2^(2/3))
    T       = H diag(s),  H = I - 2 v v^T / v^T v with v = 1 / sqrt(n) - e_1: symmetric, H e_1 = 1 / sqrt(n)

so that for rows u = s x of a group, leader u_0 and the sum S of the others,

    (H u)_0 = (u_0 + S) / sqrt(n)         (H u)_j = u_j + (u_0 / sqrt(n) - S / (n - sqrt(n)))

and T^-1 = diag(1 / s) H. s and the two constants of n are computed in float64 and rounded once to float32; products and sums are the backend's,
S the defined sum over the group's other rows in their order. One row is not mixed.

The transform is undone on the operand, as in the published simulation, so it leaves no trace in the GEMM's bases.

Source: arXiv 2010.14298, sec. 4.2, app. D.4; cjf00000/StatQuant quantizers/quantizers.cpp get_transform,
image_classification/preconditioner.py BlockwiseHouseholderPreconditioner.
Source level: read.
Deviation: the code's sums of ranges are float32; a tie of ranges is left to its sort.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lpref.ref import elementary
from lpref.ref.errors import NonFiniteError

I64: TypeAlias = NDArray[np.int64]
F64: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Groups:
    """T, without the matrix: of every row its group, whether it leads it, its scale, and the group's constants by row (all [R])."""

    group: I64
    leads: NDArray[np.bool_]
    scale: F64
    root: F64
    """1 / sqrt(n)"""
    share: F64
    """1 / (n - sqrt(n)), 0 for n = 1"""


def householder_groups(ranges: F64) -> Groups:
    """The groups of rows with these ranges, all of them above 0.

    >>> g = householder_groups(np.array([1.0, 8.0, 1.0, 1.0]))
    >>> g.group.tolist(), g.leads.tolist()
    ([0, 0, 0, 0], [False, True, False, False])
    """
    order = np.argsort(-ranges, kind="stable")
    sizes = np.array(_sizes(ranges[order]))
    count = sizes.size
    # rows in the order of their groups: leaders are order[:count], the small rows follow in runs
    group = np.empty(ranges.size, np.int64)
    group[order] = np.concatenate([np.arange(count), np.repeat(np.arange(count), sizes - 1)])
    leads = np.zeros(ranges.size, bool)
    leads[order[:count]] = True
    n, first = sizes[group].astype(np.float64), np.repeat(np.arange(count), sizes - 1)
    starts = np.searchsorted(first, np.arange(count))  # of every group's small rows
    largest = ranges[order[np.minimum(count + starts, ranges.size - 1)]]
    own, others = _scales(ranges[order[:count]], largest, sizes.astype(np.float64))
    root = np.sqrt(n)
    return Groups(group, leads, np.where(leads, own[group], others[group]), 1 / root, np.where(n > 1, 1 / np.maximum(n - root, 0.5), 0.0))


def _sizes(ranges: F64) -> list[int]:
    """Rows of every group, its leader included; `ranges` in descending order."""
    count = ranges.size
    if count < 2:
        return [1] * count
    values = ranges.tolist()
    sums = list(accumulate(values, initial=0.0))
    small = next((m for m in range(1, count) if m * values[count - m - 1] > sums[count - m]), count - 1)
    ends = [0] + [math.floor(small * sums[i] / sums[count - small] + 0.5) for i in range(1, count - small + 1)]
    return [1 + stop - start for start, stop in pairwise(ends)]


def _scales(leader: F64, largest: F64, n: F64) -> tuple[F64, F64]:
    """s_1 of the leaders, s_2 of the other rows, of groups of n rows; 1 where a row is alone."""
    root = np.sqrt(n)
    share = 1 / np.maximum(n - root, 0.5)
    height = np.maximum(1 / root, np.maximum(np.abs(1 - share), np.where(n > 2, share, 0.0)))
    alone = n == 1
    w1 = np.where(alone, 1.0, leader / root)
    w2 = np.where(alone, 1.0, largest * height / np.maximum(n - 1, 1))
    a, b = elementary.pow(w1, np.float64(1 / 3)), elementary.pow(w2, np.float64(1 / 3))
    length = np.sqrt(a * a + b * b)
    return np.where(alone, 1.0, length / a), np.where(alone, 1.0, length / b)


class Mixed:
    """T of a tensor [R, C], on a backend."""

    def __init__(self, x: Any, eps: float, ops: Any) -> None:
        """Raises NonFiniteError for a tensor whose rows have no finite range."""
        host = ops.arrays.host(x)
        ranges = host.max(axis=1, initial=-np.inf).astype(np.float64) - host.min(axis=1, initial=np.inf) + eps
        if not np.isfinite(ranges).all():
            raise NonFiniteError("a row without a finite range", where="householder mixing", remedy="lower the learning rate, or the loss scale")
        self.ops, self.made = ops, householder_groups(ranges)

    def forward(self, x: Any) -> Any:
        """T x."""
        return self._reflected(self.ops.mul(x, self._column(self.made.scale)))

    def inverse(self, y: Any) -> Any:
        """T^-1 y."""
        return self.ops.mul(self._reflected(y), self._column(1 / self.made.scale))

    def _reflected(self, u: Any) -> Any:
        """H u, group by group."""
        ops, g = self.ops, self.made
        leaders = np.empty(np.count_nonzero(g.leads), np.int64)
        leaders[g.group[g.leads]] = np.flatnonzero(g.leads)
        at, count = ops.arrays.make(leaders), leaders.size
        others = np.where(g.leads, count, g.group)  # the leaders: a group that nobody asks for
        sums, first = ops.embedding_backward(u, others, count + 1)[:count], u[at]
        shift = ops.sub(ops.mul(first, self._column(g.root[leaders])), ops.mul(sums, self._column(g.share[leaders])))
        found = ops.add(u, shift[ops.arrays.make(g.group)])
        found[at] = ops.mul(ops.add(first, sums), self._column(g.root[leaders]))
        return found

    def _column(self, values: F64) -> Any:
        return self.ops.arrays.make(values.astype(np.float32)[:, None])


def mixed_operand(layer: Any, path: str, x: Any) -> Any:
    """The slot's operand in high precision: T^-1 Q(T x)."""
    slot, ops = layer.recipe.slot(path), layer.ops
    mixed = Mixed(x, slot.mixing.eps, ops)
    codes = layer.quantized(path, mixed.forward(x), slot.quantizer)
    return ops.operand(mixed.inverse(codes.dequantize(x.dtype)), None, k_axis=layer.k_axis(path))


