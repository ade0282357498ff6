"""What the ops of the device share: checked arguments and the three shapes of a launch.

Every op also takes arrays of bfloat16, which mean their float32 values: `widened` brings them to float32 at the door (exact, one kernel an array),
unless the op's own kernels read 16 bits (`backend.NATIVE`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import ml_dtypes
import numpy as np

from lpref.accel.cuda import device, feed
from lpref.ref.errors import BackendError, ShapeError
from lpref.ref.reduce import LANES

GROUPS = 256
"""Lane groups of a column sum."""


SIXTEEN = np.dtype(ml_dtypes.bfloat16)
"""The other dtype that stands for float32 values."""
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": SIXTEEN}
"""Formats of float32 values that arrays may have -> dtype."""


def is_sixteen(x: Any) -> bool:
    """Whether x is a CuPy array of bfloat16."""
    return device.on_device(x) and x.dtype == SIXTEEN


def wide(x: Any) -> Any:
    """A CuPy array of bfloat16 as float32, C-contiguous; everything else, numbers and host arrays too, as it is."""
    if not is_sixteen(x):
        return x
    out = device.cupy().empty(x.shape, np.float32)
    bits = device.cupy().ascontiguousarray(x.view(np.uint16))
    each("elementwise", "widen", -(-x.size // 8), bits, x.size, out)
    return out


def short(x: Any) -> Any:
    """float32 of the device rounded to nearest even in bfloat16, as an array of bfloat16, C-contiguous; NaN is a NaN of any code."""
    out = device.cupy().empty(x.shape, SIXTEEN)
    each("elementwise", "shorten", -(-x.size // 8), device.cupy().ascontiguousarray(x), x.size, out)
    return out


def cast_for_storage(x: Any, store: str) -> Any:
    """float32 as it is kept in the format `store`. Raises: BackendError, as `empty`."""
    return short(x) if store in DTYPES and store != "float32" else empty(x.shape, store)


def kinds(**held: Any) -> tuple[tuple[str, int], ...]:
    """The macros of a kernel that say which of its arrays are of bfloat16 (loads.cuh)."""
    return tuple([(name, 1) for name, x in held.items() if is_sixteen(x)])


def values(op: str, *arrays: Any) -> tuple[Any, ...]:
    """The arrays, C-contiguous, float32 or bfloat16. Raises: BackendError for others."""
    made = []
    for array in arrays:
        if is_sixteen(array):
            made.append(array if array.flags.c_contiguous else device.cupy().ascontiguousarray(array.view(np.uint16)).view(SIXTEEN))
        else:
            made += floats(op, array)
    return tuple(made)


def empty(shape: Sequence[int], store: str) -> Any:
    """A new array for float32 values that are kept in the format `store`.

    Raises: BackendError for formats other than float32 and bfloat16.
    """
    if store not in DTYPES:
        raise BackendError(f"no kernel stores {store}", where="cuda", remedy=f"one of {', '.join(DTYPES)}")
    return device.cupy().empty(tuple(shape), DTYPES[store])


def widened(op: Callable[..., Any]) -> Callable[..., Any]:
    """The op with float32 arrays in place of those of bfloat16, in tuples and lists too."""

    def door(x: Any) -> Any:
        return type(x)(door(v) for v in x) if type(x) in (tuple, list) else wide(x)

    @wraps(op)
    def call(*args: Any, **options: Any) -> Any:
        return op(*[door(a) for a in args], **{name: door(value) for name, value in options.items()})

    return call


def check(op: str, *arrays: Any) -> None:
    """BackendError for any that is no CuPy array or not float32."""
    for array in arrays:
        if not device.on_device(array):
            raise BackendError(f"{op} got a {type(array).__name__}, no CuPy array", where="cuda", remedy=f"pass cupy.asarray(x), or {device.REMEDY}")
        if array.dtype != np.float32:
            raise BackendError(f"{op} got {array.dtype}; the kernels are float32", where="cuda", remedy="cast, or use the reference backend")


def floats(op: str, *arrays: Any) -> tuple[Any, ...]:
    """The arrays, C-contiguous. Raises: BackendError, as `check`."""
    check(op, *arrays)
    return tuple([array if array.flags.c_contiguous else device.cupy().ascontiguousarray(array) for array in arrays])


def integers(ids: Any) -> Any:
    """Integers of the host or the device as a contiguous int64 array on the device."""
    if not device.on_device(ids):
        return feed.upload(whole, ids)
    return device.cupy().ascontiguousarray(ids.astype(np.int64, copy=False))


def whole(ids: np.ndarray) -> np.ndarray:
    """Integers as the kernels read them."""
    return np.ascontiguousarray(ids, np.int64)


def shaped(op: str, shape: Sequence[int], **arrays: Any) -> None:
    """ShapeError for any array that has another shape: a kernel would read beyond it."""
    for name, array in arrays.items():
        if tuple(array.shape) != tuple(shape):
            raise ShapeError(f"{name} is {tuple(array.shape)}, needed {tuple(shape)}", where=op)


def each(name: str, entry: str, n: int, *args: Any, defines: tuple[tuple[str, Any], ...] = ()) -> None:
    """A thread for each of n elements."""
    if n:
        device.function(name, entry, defines)((device.blocks_for(n),), (device.THREADS,), args)


def team(n: int) -> tuple[int, int]:
    """(threads, lanes a thread) for rows of n elements: a warp for up to 1024, then 32 elements a thread, at most 512 threads.

    >>> team(1), team(128), team(768), team(1025), team(50257)
    ((32, 1), (32, 4), (32, 32), (64, 16), (512, 2))
    """
    power = 1 << max(n - 1, 0).bit_length()
    threads = min(512, max(32, power // 32))
    return threads, min(LANES, max(32, power)) // threads


def rows(name: str, entry: str, count: int, n: int, *args: Any, defines: tuple[tuple[str, Any], ...] = ()) -> None:
    """A team of threads for each of `count` rows of n elements (reduce.cuh); where rows are few and long, 1024 threads."""
    if count:
        few = n > LANES and count < device.processors()
        threads, slots = (LANES, 1) if few else team(n)
        block = max(threads, device.THREADS) if threads == 32 else threads
        blocks = min(-(-count * threads // block), 4 * device.processors() * 2048 // block)
        device.function(name, entry, (("LP_TEAM", threads), ("LP_SLOTS", slots), *defines))((blocks,), (block,), args)


def columns(
    name: str, entry: str, sums: int, batch: int, n: int, width: int, *args: Any, defines: tuple[tuple[str, Any], ...] = ()
) -> Any:
    """partial [sums, batch, groups, width]: the lane groups of the column sums of [batch, n, width] (`column_groups`), groups = min(256, n)."""
    groups = min(GROUPS, n)
    partial = device.cupy().empty((sums, batch, groups, width), np.float32)
    if partial.size:
        high = min(8, groups)
        grid = (-(-width // 32), -(-groups // high), min(batch, 65535))
        device.function(name, entry, (*ONE, *defines))(grid, (32, high), (*args, np.uint32(groups), partial))
    return partial


ONE = (("LP_TEAM", 32), ("LP_SLOTS", 1))
"""The module for kernels that have no team."""
