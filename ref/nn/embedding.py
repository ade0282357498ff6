"""Table look-up and its gradient, each row a defined sum in index order."""

from __future__ import annotations

import numpy as np

from lpref.ref.errors import DataError, ShapeError
from lpref.ref.reduce import tree_sum


def embedding(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """table [V, D], ids [...] integers in [0, V) -> [..., D]. A negative or too large id is a DataError, never wrapped.

    >>> embedding(np.float32([[1, 2], [3, 4]]), np.array([1, 0])).tolist()
    [[3.0, 4.0], [1.0, 2.0]]
    """
    check_ids("embedding", ids, len(table))
    return table[ids]


def embedding_backward(dy: np.ndarray, ids: np.ndarray, V: int) -> np.ndarray:
    """dtable [V, D]: row v is ``tree_sum`` over the rows of dy whose id is v, in ascending row-major position; +0 without any.

    dy [..., D], ids [...]. The sum of a row depends on its own contributions only (their count picks lanes: the k-th
    contribution of v goes to lane k mod 1024), so it does not change with V, with other ids, or with the number of threads.
    """
    if dy.shape[:-1] != ids.shape:
        raise ShapeError(f"dy is {dy.shape}, ids {ids.shape}", where="embedding_backward")
    check_ids("embedding_backward", ids, V)
    flat = ids.reshape(-1)
    rows = dy.reshape(len(flat), dy.shape[-1])
    order = np.argsort(flat, kind="stable")
    present, starts = np.unique(flat[order], return_index=True)
    table = np.zeros((V, dy.shape[-1]), dy.dtype)
    for v, start, stop in zip(present, starts, np.append(starts, len(order))[1:], strict=True):
        table[v] = tree_sum(rows[order[start:stop]], axis=0)
    return table


def check_ids(op: str, ids: np.ndarray, V: int) -> None:
    """Integers in [0, V)."""
    if ids.dtype.kind not in "iu":
        raise DataError(f"ids are {ids.dtype}, not integers", where=op)
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= V):
        raise DataError(f"ids span [{int(ids.min())}, {int(ids.max())}], the table has rows 0…{V - 1}", where=op,
                        remedy="check the vocabulary size of the model against the data")
