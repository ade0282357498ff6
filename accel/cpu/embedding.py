"""The gradient of a table look-up: the page of `lpref.ref.nn.embedding`, a task a row, with its bits."""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu.rows import KERNEL, column_sums, host
from lpref.accel.cpu.threads import divide
from lpref.ref.errors import ShapeError
from lpref.ref.nn.embedding import check_ids
from lpref.ref.reduce import LANES


def embedding_backward(dy: np.ndarray, ids: np.ndarray, V: int) -> np.ndarray:
    """dtable [V, D]: `lpref.ref.nn.embedding_backward`."""
    if dy.shape[:-1] != ids.shape:
        raise ShapeError(f"dy is {dy.shape}, ids {ids.shape}", where="embedding_backward")
    check_ids("embedding_backward", ids, V)
    (dy,) = host("embedding_backward", dy)
    D = dy.shape[-1]
    flat = ids.reshape(-1)
    order = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[order], np.arange(V + 1))
    table = np.zeros((V, D), np.float32)
    divide(_embedding_backward, V, dy.reshape(flat.size, D), order, starts, table.reshape(-1))
    return table


@njit(**KERNEL)
def _embedding_backward(start, stop, rows, order, starts, table):  # type: ignore[no-untyped-def]
    D = rows.shape[1]
    for v in range(start, stop):
        first, count = starts[v], starts[v + 1] - starts[v]
        if count > 0:
            lanes = np.zeros((min(count, LANES), D), np.float32)
            for k in range(count):
                r = order[first + k]
                for d in range(D):
                    lanes[k % LANES, d] += rows[r, d]
            column_sums(lanes, min(count, LANES), D, table, v * D)
