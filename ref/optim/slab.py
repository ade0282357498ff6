"""Many arrays as one vector: an elementwise update of a thousand small tensors is one update of a long one, bit for bit.

`pack` copies unless the arrays already lie side by side, as those that `unpack` gave do: so a step's parameters and moments, which come
from the step before, are not moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lpref.ref.arrays import namespace

Array = Any


def pack(arrays: Sequence[Array]) -> Array:
    """The elements of all arrays in order, as one vector; a view where they are consecutive parts of one.

    >>> pack(unpack(np.arange(4), [(2,), (1, 2)])).tolist()
    [0, 1, 2, 3]
    """
    filled = [a for a in arrays if a.size]
    whole = getattr(filled[0], "base", None) if filled else None
    if not isinstance(whole, type(arrays[0])) or whole.ndim != 1 or not whole.flags.c_contiguous:
        return namespace(arrays[0]).concatenate([a.reshape(-1) for a in arrays])
    first, size = _address(whole), whole.itemsize
    start = end = (_address(filled[0]) - first) // size
    for a in filled:
        if a.base is not whole or not a.flags.c_contiguous or a.dtype != whole.dtype or _address(a) != first + end * size:
            return namespace(arrays[0]).concatenate([a.reshape(-1) for a in arrays])
        end += a.size
    return whole[start:end]


def unpack(vector: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Views of consecutive parts of `vector` [n], with these shapes."""
    parts, at = [], 0
    for shape in shapes:
        size = int(np.prod(shape, dtype=np.int64))  # exact: integers
        parts.append(vector[at : at + size].reshape(shape))
        at += size
    return parts


def _address(a: Array) -> int:
    return int(a.__array_interface__["data"][0] if isinstance(a, np.ndarray) else a.data.ptr)
