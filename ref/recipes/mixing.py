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
S one product with the groups' 0-1 matrix. One row is not mixed.

The transform is undone on the operand, as in the published simulation, so it leaves no trace in the GEMM's bases.

Source: arXiv 2010.14298, sec. 4.2, app. D.4; cjf00000/StatQuant quantizers/quantizers.cpp get_transform,
image_classification/preconditioner.py BlockwiseHouseholderPreconditioner.
Source level: read.
Deviation: the code's sums of ranges are float32; a tie of ranges is left to its sort.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
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
    sizes = _sizes(ranges[order])
    group, leads = np.empty(ranges.size, np.int64), np.zeros(ranges.size, bool)
    n, scale = np.empty(ranges.size), np.ones(ranges.size)
    small = len(sizes)
    for number, size in enumerate(sizes):
        rows = order[[number, *range(small, small + size - 1)]]
        small += size - 1
        group[rows], leads[rows[0]], n[rows] = number, True, size
        if size > 1:
            scale[rows[0]], scale[rows[1:]] = _scales(float(ranges[rows[0]]), float(ranges[rows[1]]), size)
    root = np.sqrt(n)
    return Groups(group, leads, scale, 1 / root, np.where(n > 1, 1 / np.maximum(n - root, 0.5), 0.0))


def _sizes(ranges: F64) -> list[int]:
    """Rows of every group, its leader included; `ranges` in descending order."""
    count = ranges.size
    if count < 2:
        return [1] * count
    sums = [0.0]
    for value in ranges.tolist():
        sums.append(sums[-1] + value)
    small = next((m for m in range(1, count) if m * ranges[count - m - 1] > sums[count - m]), count - 1)
    ends = [0] + [math.floor(small * sums[i] / sums[count - small] + 0.5) for i in range(1, count - small + 1)]
    return [1 + stop - start for start, stop in pairwise(ends)]


def _scales(leader: float, largest: float, n: int) -> tuple[float, float]:
    """s_1 of the leader, s_2 of the other rows."""
    own = 1 / (n - math.sqrt(n))
    height = max(1 / math.sqrt(n), abs(1 - own), own if n > 2 else 0.0)
    w = np.array([leader / math.sqrt(n), largest * height / (n - 1)])
    inverse = elementary.pow(w, np.float64(1 / 3))
    length = math.sqrt(float(inverse[0] * inverse[0] + inverse[1] * inverse[1]))
    return float(length / inverse[0]), float(length / inverse[1])


class Mixed:
    """T of a tensor [R, C], on a backend."""

    def __init__(self, x: Any, eps: float, ops: Any) -> None:
        """Raises NonFiniteError for a tensor whose rows have no finite range."""
        host = np.asarray(ops.arrays.host(x), np.float64)
        ranges = host.max(axis=1, initial=-np.inf) - host.min(axis=1, initial=np.inf) + eps
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
        others = (g.group == np.arange(g.group.max(initial=-1) + 1)[:, None]) & ~g.leads
        leaders = np.empty(others.shape[0], np.int64)
        leaders[g.group[g.leads]] = np.flatnonzero(g.leads)
        rest = ops.matmul(ops.arrays.make(others.astype(np.float32)), u)[g.group]
        first = u[leaders][g.group]
        led = ops.mul(ops.add(u, rest), self._column(g.root))
        small = ops.add(u, ops.sub(ops.mul(first, self._column(g.root)), ops.mul(rest, self._column(g.share))))
        return ops.where(ops.arrays.make(np.broadcast_to(g.leads[:, None], u.shape).copy()), led, small)

    def _column(self, values: F64) -> Any:
        return self.ops.arrays.make(values.astype(np.float32)[:, None])


def mixed_operand(layer: Any, path: str, x: Any) -> Any:
    """The slot's operand in high precision: T^-1 Q(T x)."""
    slot, ops = layer.recipe.slot(path), layer.ops
    mixed = Mixed(x, slot.mixing.eps, ops)
    codes = layer.quantized(path, mixed.forward(x), slot.quantizer)
    return ops.operand(mixed.inverse(codes.dequantize(x.dtype)), None, k_axis=layer.k_axis(path))


