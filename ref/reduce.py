"""The one sum, its mean, and the order-free maximum of magnitudes.

Every sum that is not a matrix product is this one, on every backend:

    lane l (0 <= l < 1024) starts at +0 and adds x[l], x[l + 1024], x[l + 2048], ... in this order;
    then lane l adds lane l + 512 (l < 512), lane l + 256 (l < 256), ..., lane 1 (l = 0); lane 0 is the sum.

Each addition is rounded to the array's type. Lanes that have no element stay +0 and do take part. So (S1) the sum is
never -0, (S2) the empty sum is +0, (S3) for n <= 1024 only the halving from the next power of two above n does anything:
the steps before it add +0, which changes no value but -0, and S1 settles that one. NaN and infinities propagate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import ShapeError

LANES = 1024
"""Lanes of the sum; a power of two."""

Axis = int | tuple[int, ...] | None


def tree_sum(x: Any, axis: Axis = -1, keepdims: bool = False) -> NDArray[Any]:
    """The sum over `axis`, in x's type (float32 or float64); several axes (or None: all) are one row-major axis.

    >>> float(tree_sum(np.float32([1, 2**-24, 2**-24])))        # lanes 0 and 2 meet first
    1.0
    >>> float(tree_sum(np.float32([2**-24, 1, 2**-24])))        # the two small ones meet first
    1.0000001192092896
    """
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        raise ShapeError(f"the sum is defined for float32 and float64, not {x.dtype}", where="tree_sum")
    if isinstance(axis, int):
        total = _sum_one(x, axis % x.ndim)
        return np.expand_dims(total, axis % x.ndim) if keepdims else total
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in axis)
    kept = [a for a in range(x.ndim) if a not in axes]
    rows = x.transpose(*kept, *axes).reshape(*(x.shape[a] for a in kept), -1)
    total = _sum_one(rows, len(kept))
    return total.reshape([1 if a in axes else x.shape[a] for a in range(x.ndim)]) if keepdims else total


def _sum_one(x: NDArray[Any], axis: int) -> NDArray[Any]:
    """The defined sum over one axis, by slices along it."""
    n = x.shape[axis]
    if n == 0:
        return np.zeros(x.shape[:axis] + x.shape[axis + 1 :], x.dtype)

    def part(array: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
        return array[(slice(None),) * axis + (slice(start, stop),)]

    lanes = part(x, 0, LANES).copy()
    for start in range(LANES, n, LANES):
        more = part(x, start, start + LANES)
        target = part(lanes, 0, more.shape[axis])
        np.add(target, more, out=target)
    live = lanes.shape[axis]
    half = (1 << (live - 1).bit_length()) // 2
    while live > 1:
        target = part(lanes, 0, live - half)
        np.add(target, part(lanes, half, live), out=target)
        live, half = half, half // 2
    return np.asarray(lanes[(slice(None),) * axis + (0,)] + x.dtype.type(0))


def tree_mean(x: Any, axis: Axis = -1, keepdims: bool = False) -> NDArray[Any]:
    """`tree_sum` divided (IEEE) by the number of elements as x's type; the mean of nothing is NaN."""
    x = np.asarray(x)
    axes = range(x.ndim) if axis is None else ((axis,) if isinstance(axis, int) else axis)
    count = 1
    for a in axes:
        count *= x.shape[a]
    with np.errstate(invalid="ignore"):
        return np.asarray(tree_sum(x, axis, keepdims) / x.dtype.type(count))


def amax(x: Any, axis: Axis = None, keepdims: bool = False) -> NDArray[Any]:
    """The greatest magnitude: the maximum over the bits of |x| as unsigned integers. NaN wins; of nothing, +0.

    >>> float(amax(np.float32([1, -3, 2])))
    3.0
    """
    x = np.asarray(x)
    word = {np.dtype(np.float32): np.uint32, np.dtype(np.float64): np.uint64}.get(x.dtype)
    if word is None:
        raise ShapeError(f"amax is defined for float32 and float64, not {x.dtype}", where="amax")
    magnitude = np.ascontiguousarray(np.abs(x)).view(word).reshape(x.shape)
    return np.asarray(np.max(magnitude, axis=axis, keepdims=keepdims, initial=0)).view(x.dtype)


def order_statistics(x: Any, ranks: Sequence[int]) -> NDArray[Any]:
    """The elements of x at these ranks in ascending order, [len(ranks)] of x's type; 0 is the smallest.

    The sign of a zero is lost (+0), and NaN comes after everything. Errors: ShapeError for other types than float32 and float64, and for ranks that
    x, in whatever shape, does not have.

    >>> order_statistics(np.float32([3, 1, 2]), (0, 2)).tolist()
    [1.0, 3.0]
    """
    x = np.asarray(x)
    check_ranks(x, ranks)
    if x.dtype not in (np.float32, np.float64):
        raise ShapeError(f"order statistics are defined for float32 and float64, not {x.dtype}", where="order_statistics")
    found = np.partition(x.reshape(-1), sorted(set(ranks)))[list(ranks)]
    return np.where(np.isnan(found), x.dtype.type(np.nan), found + x.dtype.type(0))


def check_ranks(x: Any, ranks: Sequence[int]) -> None:
    """ShapeError for no rank, and for one below 0 or from x.size on."""
    if not ranks or min(ranks) < 0 or max(ranks) >= x.size:
        raise ShapeError(f"ranks {tuple(ranks)} of {x.size} elements", where="order_statistics", remedy="0 up to the number of elements less 1")
