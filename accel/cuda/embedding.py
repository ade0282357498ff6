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
"""Ids up to which a block takes 32 columns, so that there are enough blocks."""


def embedding(table: Any, ids: Any) -> Any:
    """table [V, D], ids [...] -> [..., D]: `lpref.ref.nn.embedding`."""
    check_ids("embedding", ids, len(table))
    (table,) = arrays.floats("embedding", table)
    n, width = int(ids.size), math.prod(table.shape[1:])
    out = device.cupy().empty((*ids.shape, *table.shape[1:]), np.float32)
    if out.size:
        device.function("embedding", "rows_of")(*device.plane(n, width), (table, arrays.integers(ids), n, width, out))
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
    table, chunk = cp.empty((V, width), np.float32), 32 if V <= FEW else 256
    if device.on_device(ids):
        keys = _sorted(cp, ids)
        starts = cp.searchsorted(keys, cp.arange(V + 1, dtype=np.int64) * np.int64(n)).astype(np.int64)
    else:
        keys, starts = feed.upload(sorted_keys, ids), feed.upload(starts_of, ids, V)
    device.function("embedding", "table_gradient")((V, -(-width // chunk)), (32, 8), (dy, keys, starts, n, width, np.int32(chunk), table))
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
