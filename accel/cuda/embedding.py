"""Table look-up and its gradient on CuPy arrays: the page of `lpref.ref.nn.embedding`, with its bits.

ids may lie on the host, where checking them waits for nothing, or on the device, where it waits for their range. The gradient sorts (id, position) as
one integer, so that the order of additions depends on nothing else.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, feed
from lpref.ref.errors import ShapeError
from lpref.ref.nn.embedding import check_ids

FEW = 4096
"""Positions up to which a warp takes 32 columns, so that there are enough warps."""


def embedding(table: Any, ids: Any) -> Any:
    """table [V, D], ids [...] -> [..., D]: `lpref.ref.nn.embedding`."""
    check_ids("embedding", ids, len(table))
    (table,) = arrays.floats("embedding", table)
    n, width = int(ids.size), math.prod(table.shape[1:])
    out = device.cupy().empty((*ids.shape, *table.shape[1:]), np.float32)
    if out.size:
        fours = width % 4 == 0 and (table.data.ptr | out.data.ptr) % 16 == 0
        entry, each = ("rows_of_fours", width // 4) if fours else ("rows_of", width)
        device.function("embedding", entry)(*device.plane(n, each), (table, arrays.integers(ids), n, each, out))
    return out


def embedding_backward(dy: Any, ids: Any, V: int) -> Any:
    """dtable [V, D]: `lpref.ref.nn.embedding_backward`."""
    if dy.shape[:-1] != ids.shape:
        raise ShapeError(f"dy is {dy.shape}, ids {ids.shape}", where="embedding_backward")
    check_ids("embedding_backward", ids, V)
    (dy,) = arrays.floats("embedding_backward", dy)
    cp, n, width = device.cupy(), int(ids.size), dy.shape[-1]
    if not (n and width):
        return cp.zeros((V, width), np.float32)
    table = cp.zeros((V, width), np.float32)
    if device.on_device(ids):
        keys = _sorted(cp, ids)
        starts = cp.searchsorted(keys, cp.arange(V + 1, dtype=np.int64) * np.int64(n)).astype(np.int64)
    else:
        keys, starts = feed.upload(sorted_keys, ids), feed.upload(starts_of, ids, V)
    args = (dy, keys, starts, n, width, table)
    across = 1 if n > FEW else min(-(-width // 32), 65535)
    device.function("embedding", "rare_rows")((-(-n // 8), across), (32, 8), args)
    device.function("embedding", "frequent_rows")((-(-n // 32), -(-width // 32)), (32, 16), args)
    return table


def sorted_keys(ids: np.ndarray) -> np.ndarray:
    """id times n plus position, ascending: n integers, so that equal ids come in the order of their positions."""
    return _sorted(np, ids)


def starts_of(ids: np.ndarray, V: int) -> np.ndarray:
    """[V + 1]: where the keys of each id begin, and n."""
    until = np.cumsum(np.bincount(ids.reshape(-1), minlength=V))  # exact: integers
    return np.concatenate([[0], until]).astype(np.int64)


def _sorted(of: Any, ids: Any) -> Any:
    n = int(ids.size)
    return of.sort(ids.reshape(-1).astype(np.int64) * np.int64(n) + of.arange(n, dtype=np.int64))
