"""`lpref.ref.reduce` of CuPy arrays: the one sum along any axes, its mean, the greatest magnitude, elements by rank.

Rows (the summed axes last): a team of threads a row. Other axes: 32 columns x 256 groups of lanes, spread over blocks so that a
narrow matrix fills the device, and a second kernel for their sums; of wide matrices four columns a thread, of bfloat16 two. Axes that do not lie
together are copied together first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, feed
from lpref.ref.errors import BackendError, ShapeError
from lpref.ref.reduce import Axis, check_ranks

SPAN = 64
"""Numbers of a column that a thread of `amax` reads."""
DIGITS = 2048
"""Counts of a pass of `order_statistics` (kernels/ranks.cu)."""
FOURS = 128
"""Columns of a block that reads them by fours."""
AT_ONCE = 4
"""Its ranks at a time: their counts lie in shared memory."""


def tree_sum(x: Any, axis: Axis = -1, keepdims: bool = False) -> Any:
    """`lpref.ref.reduce.tree_sum`."""
    return _sum("tree_sum", x, axis, keepdims, mean=False)


def tree_mean(x: Any, axis: Axis = -1, keepdims: bool = False) -> Any:
    """`lpref.ref.reduce.tree_mean`."""
    return _sum("tree_mean", x, axis, keepdims, mean=True)


def amax(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """`lpref.ref.reduce.amax`."""
    view, shape = _view("amax", "amax", x, axis, keepdims)
    batch, n, width = view.shape
    out = device.cupy().zeros((batch, width), np.uint32)
    if width == batch == 1 and n and view.data.ptr % 16 == 0:
        run = device.function("amax", "amax_flat", (("LP_IN", 0),))
        run((device.blocks_for(n // 32, 512, 4),), (512,), (view, n, out))
    elif width == 1 and n:
        arrays.rows("reduce", "row_tops", batch, n, view, batch, n, out)
    else:
        arrays.each("reduce", "column_tops", batch * -(-n // SPAN) * width, view, batch, n, width, SPAN, out, defines=arrays.ONE)
    return out.view(np.float32).reshape(shape)


def order_statistics(x: Any, ranks: Sequence[int]) -> Any:
    """`lpref.ref.reduce.order_statistics`; nothing is read on the host. Raises: BackendError from 2^32 elements on, which the counts do not hold."""
    cp, (x,) = device.cupy(), arrays.floats("order_statistics", x)
    check_ranks(x, ranks)
    if x.size >> 32:
        raise BackendError(f"order statistics of {x.size} elements", where="cuda", remedy="take them of parts of fewer than 2^32")
    out, blocks = cp.empty(len(ranks), np.float32), device.blocks_for(x.size, 8 * device.THREADS, 4)
    for at in range(0, len(ranks), AT_ONCE):
        some = ranks[at : at + AT_ONCE]
        count, defines = len(some), (("LP_RANKS", len(some)),)
        first, known, counts = _wanted(*some), cp.empty((2, count, 2), np.uint32), cp.zeros((3, count, DIGITS), np.uint32)
        for turn in range(3):
            device.function("ranks", "digits", defines)((blocks,), (device.THREADS,), (x, x.size, np.int32(turn), first, known, counts))
        device.function("ranks", "elements", defines)((1,), (device.THREADS,), (known, counts, out[at:]))
    return out


@feed.lasting
def _wanted(*ranks: int) -> Any:
    """Nothing known of each yet, and its rank."""
    return device.cupy().asarray(np.array([(0, rank) for rank in ranks], np.uint32))


def column_sums(partial: Any, count: float = -1.0) -> Any:
    """[batch, width]: the sums of [batch, groups <= 256, width] over the groups, in the order of halving; divided by a count from 0 on."""
    batch, groups, width = partial.shape
    out = device.cupy().empty((batch, width), np.float32)
    if out.size:
        run = device.function("reduce", "column_sums", arrays.ONE)
        run((-(-width // 32), min(batch, 65535)), (32, 8), (partial, batch, np.uint32(groups), width, np.float32(count), out))
    return out


def row_sums(x: Any, count: float = -1.0) -> Any:
    """[R]: the sums of the rows of x [R, n]; divided by a count from 0 on."""
    out = device.cupy().empty(x.shape[0], np.float32)
    arrays.rows("reduce", "row_sums", x.shape[0], x.shape[1], x, *x.shape, np.float32(count), out)
    return out


def _sum(op: str, x: Any, axis: Axis, keepdims: bool, mean: bool) -> Any:
    if arrays.is_sixteen(x):
        return _sum_sixteen(op, x, axis, keepdims, mean)
    view, shape = _view(op, "the sum", x, axis, keepdims)
    batch, n, width = view.shape
    count = float(n) if mean else -1.0
    if width == 1:
        return row_sums(view.reshape(batch, n), count).reshape(shape)
    if n <= arrays.GROUPS:
        return column_sums(view, count).reshape(shape)
    grid = (-(-width // FOURS), arrays.GROUPS // 8, min(batch, 65535))
    if width % 4 or view.data.ptr % 16 or math.prod(grid) < device.processors():
        (partial,) = arrays.columns("reduce", "groups_of_columns", 1, batch, n, width, view, batch, n, width)
    else:
        partial = device.cupy().empty((batch, arrays.GROUPS, width), np.float32)
        args = (view, batch, n, width // 4, np.uint32(arrays.GROUPS), partial)
        device.function("reduce", "groups_of_fours", arrays.ONE)(grid, (32, 8), args)
    return column_sums(partial, count).reshape(shape)


def _sum_sixteen(op: str, x: Any, axis: Axis, keepdims: bool, mean: bool) -> Any:
    """The sum of bfloat16: down long columns as they are, two a thread; others as float32."""
    n, width = (len(x), math.prod(x.shape[1:])) if x.ndim > 1 and axis in (0, (0,)) else (0, 0)
    if width % 2 or n <= arrays.GROUPS:
        return _sum(op, arrays.wide(x), axis, keepdims, mean)
    partial = device.cupy().empty((1, arrays.GROUPS, width), np.float32)
    if width:
        grid, (bits,) = (-(-width // 64), arrays.GROUPS // 8), arrays.values(op, x)
        device.function("reduce", "groups_of_pairs", arrays.ONE)(grid, (32, 8), (bits, 1, n, width // 2, np.uint32(arrays.GROUPS), partial))
    return column_sums(partial, float(n) if mean else -1.0).reshape((1, *x.shape[1:]) if keepdims else x.shape[1:])


def _view(op: str, what: str, x: Any, axis: Axis, keepdims: bool) -> tuple[Any, tuple[int, ...]]:
    """x as [batch, n, width], n the axes taken together, and the shape of the result."""
    if x.dtype not in (np.float32, np.float64):
        raise ShapeError(f"{what} is defined for float32 and float64, not {x.dtype}", where=op)
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis))
    kept = [a for a in range(x.ndim) if a not in axes]
    shape = tuple(1 if a in axes else x.shape[a] for a in range(x.ndim)) if keepdims else tuple(x.shape[a] for a in kept)
    n = math.prod(x.shape[a] for a in axes)
    together = bool(axes) and axes == tuple(range(axes[0], axes[0] + len(axes)))
    (x,) = arrays.floats(op, x if together else x.transpose(*kept, *axes))
    lead = math.prod(x.shape[: axes[0]]) if together else math.prod(shape)
    return x.reshape(lead, n, math.prod(x.shape[axes[-1] + 1 :]) if together else 1), shape
