"""Block views and block statistics: amax and the mean magnitude of every block, padding left out.

Arrays here are the 2-D logical operand ``[R, C]``; a block is ``(br, bc)``; statistics have the shape of the block grid ``[R/br, C/bc]``
rounded up. NaN wins in every amax (``np.max`` propagates it), so a NaN cannot hide in a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref import reduce

Array = NDArray[np.generic]


def blocked(x: NDArray, block: tuple[int, int]) -> NDArray:
    """``[R, C]`` -> ``[R/br, br, C/bc, bc]``, ragged edges filled with zeros.

    >>> blocked(np.arange(6).reshape(2, 3), (1, 2))[0, 0].tolist()
    [[0, 1], [2, 0]]
    """
    (rows, columns), (br, bc) = x.shape, block
    down, across = -(-rows // br), -(-columns // bc)
    if (down * br, across * bc) != (rows, columns):
        x = np.pad(x, ((0, down * br - rows), (0, across * bc - columns)))
    return x.reshape(down, br, across, bc)


def unblocked(x4: NDArray, shape: tuple[int, int]) -> NDArray:
    """Inverse of `blocked`: the logical ``[R, C]`` array without the padding."""
    down, br, across, bc = x4.shape
    return x4.reshape(down * br, across * bc)[: shape[0], : shape[1]]


def block_amax(x: NDArray[np.float32], block: tuple[int, int], *, finite_only: bool = False) -> NDArray[np.float32]:
    """Largest magnitude of every block; NaN wins, or with `finite_only` NaN and infinity count as 0."""
    magnitude = np.abs(x)
    if finite_only:
        magnitude = np.where(np.isfinite(magnitude), magnitude, np.float32(0))
    if magnitude.size == 0:
        return np.zeros((-(-x.shape[0] // block[0]), -(-x.shape[1] // block[1])), np.float32)
    inner = blocked(magnitude, block)
    return np.max(np.max(inner, axis=1), axis=-1) if block[0] > 1 else np.max(inner[:, 0], axis=-1)


def block_extremes(
    x: NDArray[np.float32], block: tuple[int, int], *, finite_only: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(min(x, 0), max(x, 0)) of every block; NaN wins, or with `finite_only` NaN and infinity count as 0."""
    if finite_only:
        x = np.where(np.isfinite(x), x, np.float32(0))
    if x.size == 0:
        return block_amax(x, block), block_amax(x, block)
    inner, zero = blocked(x, block), np.float32(0)
    return np.minimum(np.min(inner, axis=(1, 3)), zero), np.maximum(np.max(inner, axis=(1, 3)), zero)


def block_mean(x: NDArray[np.float32], block: tuple[int, int], tree_sum: Any = reduce.tree_sum) -> NDArray[np.float32]:
    """Mean of every block: the defined sum over its elements, row-major, ragged edges filled with +0, over the number of those inside x."""
    (rows, columns), (br, bc) = x.shape, block
    down, across = -(-rows // br), -(-columns // bc)
    total = tree_sum(blocked(x, block).transpose(0, 2, 1, 3).reshape(down, across, br * bc))
    heights = np.minimum(br, rows - br * np.arange(down))
    widths = np.minimum(bc, columns - bc * np.arange(across))
    return np.asarray(total / (heights[:, None] * widths).astype(np.float32))


def block_absmean(
    x: NDArray[np.float32], block: tuple[int, int], counted: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Mean magnitude of every block: the defined float32 sum over its elements (row-major inside the block, without padding),
    divided by their number (of those `counted`, where given: the others are zeros in x) in float32. An empty block has mean 0.

    A sum of finite elements that overflows is taken over |x| 2^-32, and the mean multiplied by 2^32; no mean is above the largest."""
    (rows, columns), (br, bc) = x.shape, block
    out = np.zeros((-(-rows // br), -(-columns // bc)), np.float32)
    if br == 1 and bc == columns and counted is None and x.size:  # all sums at once
        with np.errstate(over="ignore"):
            out[:, 0] = reduce.tree_sum(np.abs(x), axis=1) / np.float32(columns)
        if not np.isinf(out).any():
            return out
    for i, j in np.ndindex(*out.shape):
        cut = np.s_[i * br : (i + 1) * br, j * bc : (j + 1) * bc]
        part = np.abs(x[cut]).reshape(-1)
        number = part.size if counted is None else int(np.count_nonzero(counted[cut]))
        if not number:
            continue
        with np.errstate(over="ignore", under="ignore"):
            mean = reduce.tree_sum(part) / np.float32(number)
            if np.isinf(mean) and np.isfinite(part).all():
                scaled = reduce.tree_sum(part * np.float32(2.0**-32)) / np.float32(number)
                mean = np.minimum(scaled * np.float32(2.0**32), np.max(part))
        out[i, j] = mean
    return out
