"""`lpref.ref.linalg.hadamard` and its inverse on CuPy arrays, bit for bit.

Along any axis; a run of up to 64 numbers stays in the registers of a thread for all its strides, one of up to 4096 in shared memory; longer ones
take a kernel a stride.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, feed
from lpref.ref.linalg import hadamard as definition

IN_REGISTERS, TILE = 64, 4096
"""The longest runs that a thread holds, and that shared memory holds (hadamard.cu)."""


def hadamard(x: Any, size: int, axis: int = -1, signs: Any = None) -> Any:
    """`lpref.ref.linalg.hadamard`; signs: on the host or the device."""
    return _transform("hadamard", x, size, axis, signs, None)


def hadamard_inverse(y: Any, size: int, axis: int = -1, signs: Any = None) -> Any:
    """`lpref.ref.linalg.hadamard_inverse`; signs: on the host or the device."""
    return _transform("hadamard_inverse", y, size, axis, None, signs)


def _transform(op: str, x: Any, size: int, axis: int, before: Any, after: Any) -> Any:
    (x,) = arrays.floats(op, x)
    axis %= x.ndim
    length, width = x.shape[axis], math.prod(x.shape[axis + 1 :])
    if size < 1 or size & (size - 1) or length % size:
        definition(np.zeros((1, length), np.float32), size)  # raises
    first, last = held_signs(before, length, size), held_signs(after, length, size)
    out, factor = device.cupy().empty(x.shape, np.float32), np.float32(1.0 / math.sqrt(size))
    if not x.size:
        return out
    if size <= IN_REGISTERS:
        count, defines = x.size // size, (("LP_SIZE", size),)
        arrays.each("hadamard", "runs", count, x, count, width, *first, *last, factor, out, defines=defines)
    elif size <= TILE:
        wide = 1 if width == 1 else min(1 << (width - 1).bit_length(), TILE // size)
        tiles = -(-x.size // TILE) if width == 1 else x.size // (size * width) * -(-width // wide)
        shape = (x.size // width, tiles, width, np.int32(size), np.int32(wide.bit_length() - 1))
        run = device.function("hadamard", "transform")
        run((device.blocks_for(tiles, 1, 16),), (device.THREADS,), (x, *shape, *first, *last, factor, out))
    else:
        _by_stages(x, size, width, first, last, factor, out)
    return out


def _by_stages(x: Any, size: int, width: int, first: Any, last: Any, factor: Any, out: Any) -> None:
    """A launch for each of the strides 1, 2, 4, ... of runs that no tile holds; signs before the first one, the factor and signs after the last."""
    cp = device.cupy()
    spare, source, count = (cp.empty(x.shape, np.float32), cp.empty(x.shape, np.float32)), x, size.bit_length() - 1
    for step in range(count):
        ends = step == count - 1
        target = out if ends else spare[step % 2]
        signs = (*(first if step == 0 else NONE), *(last if ends else NONE))
        arrays.each("hadamard", "stage", x.size // 2, source, x.size, width, 1 << step, *signs, np.int32(ends), factor, target)
        source = target


NONE = (0, 1)


def held_signs(signs: Any, length: int, size: int) -> tuple[Any, int]:
    """(signs on the device, how many), or (0, 1) for none.

    Raises: the definition's ShapeError for what is no vector of signs; for an array on the device that waits for it.
    """
    if signs is None:
        return NONE
    if feed.fed(signs):
        return feed.upload(feed.same, signs), signs.size
    values = signs.get() if device.on_device(signs) else np.asarray(signs)
    held = np.ascontiguousarray(values, np.float32).tobytes()
    return (_checked if feed.capturing() else _uploaded)(held, length, size)


def _checked(values: bytes, length: int, size: int) -> tuple[Any, int]:
    signs = np.frombuffer(values, np.float32)
    definition(np.zeros((1, length), np.float32), size, signs=signs)  # refuses what is no vector of signs
    return feed.upload(feed.same, signs), signs.size


@lru_cache(256)
def _uploaded(values: bytes, length: int, size: int) -> tuple[Any, int]:
    """Signs come again every step: they are checked and copied once."""
    return _checked(values, length, size)
