"""Update rules of CuPy arrays: the pages of `lpref.ref.optim.rules` in one pass, with their bits; norms and checks of many arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, feed
from lpref.ref.nn.activation import check_same
from lpref.ref.optim import AdamWCoefficients
from lpref.ref.reduce import LANES

ORDERS = {"before": 0, "inside": 1}
SMALL = 1 << 22
"""Numbers in all up to which their squares are added by small blocks."""


def adamw_update(p: Any, g: Any, m: Any, v: Any, k: AdamWCoefficients, wd_order: str = "before") -> tuple[Any, Any, Any]:
    """(delta, m', v'): `lpref.ref.optim.adamw_update`."""
    check_same("adamw_update", p, g, m, v)
    state = arrays.floats("adamw_update", p, g, m, v)
    delta, m_new, v_new = _like(p, 3)
    scalars = [np.float32(value) for value in k]
    arrays.each("optim", "adamw", p.size, *state, p.size, *scalars, np.int32(ORDERS.get(wd_order, 2)), delta, m_new, v_new, defines=TEAM)
    return delta, m_new, v_new


def sgd_update(
    p: Any, g: Any, b: Any, lr: float, mu: float = 0.0, dampening: float = 0.0, wd: float = 0.0, nesterov: bool = False, first: bool = False
) -> tuple[Any, Any]:
    """(delta, b'): `lpref.ref.optim.sgd_update`."""
    check_same("sgd_update", *([p, g] if b is None else [p, g, b]))
    p, g, *buffer = arrays.floats("sgd_update", *([p, g] if b is None else [p, g, b]))
    delta, *made = _like(p, 1 if b is None else 2)
    scalars = [np.float32(value) for value in (lr, mu, 1.0 - dampening, wd)]
    momentum = 0 if b is None else 1 if first else 2
    flags = [np.int32(flag) for flag in (wd != 0, nesterov, momentum)]
    arrays.each("optim", "sgd", p.size, p, g, *(buffer or [0]), p.size, *scalars, *flags, delta, *(made or [0]), defines=TEAM)
    return delta, made[0] if made else None


def lion_update(p: Any, g: Any, m: Any, lr: float, b1: float, b2: float, wd: float) -> tuple[Any, Any]:
    """(delta, m'): `lpref.ref.optim.lion_update`."""
    check_same("lion_update", p, g, m)
    state = arrays.floats("lion_update", p, g, m)
    delta, m_new = _like(p, 2)
    scalars = [np.float32(value) for value in (lr, b1, 1.0 - b1, b2, 1.0 - b2, wd)]
    arrays.each("optim", "lion", p.size, *state, p.size, *scalars, delta, m_new, defines=TEAM)
    return delta, m_new


def global_norm(gradients: Sequence[Any]) -> Any:
    """`lpref.ref.optim.global_norm`, 0-d on the device."""
    cp = device.cupy()
    if not gradients:
        return cp.zeros((), np.float32)
    held = arrays.floats("global_norm", *gradients)
    sums, out = sums_of_squares(held), cp.empty((), np.float32)
    device.function("optim", "norm_of", TEAM)((1,), (LANES,), (sums, len(held), out))
    return out


def sums_of_squares(held: Sequence[Any], by: Any = 0, odd: Any = 0) -> Any:
    """[arrays]: each array's squares, added; by: one number on the device that elements are multiplied with first.

    odd: uint32 on the device, set to 1 where an element (multiplied) is NaN or infinite.
    """
    cp = device.cupy()
    lanes, sums = cp.empty((len(held), LANES), np.float32), cp.empty(len(held), np.float32)
    longest = sorted(range(len(held)), key=lambda i: -held[i].size)
    rows = np.array([(held[i].data.ptr, held[i].size, i) for i in longest], np.uint64)
    few = sum(array.size for array in held) <= SMALL
    entry, high = ("squares_of_few", 8) if few else ("squares", 32)
    device.function("optim", entry, TEAM)((LANES // 32, len(held)), (32, high), (feed.upload(feed.same, rows), by, lanes, odd))
    device.function("optim", "halved", TEAM)((len(held),), (LANES,), (lanes, sums))
    return sums


def all_finite(gradients: Iterable[Any]) -> bool:
    """`lpref.ref.optim.all_finite`; a truth of the host, so it waits for the device."""
    held = [array for array in arrays.floats("all_finite", *gradients) if array.size]
    if not held:
        return True
    seen = device.cupy().zeros((), np.uint32)
    across = device.blocks_for(max(array.size for array in held) // 8, LANES, 2)
    device.function("optim", "nonfinite", TEAM)((across, min(len(held), 65535)), (LANES,), (table(held), len(held), seen))
    return not int(seen)


TEAM = (("LP_TEAM", LANES), ("LP_SLOTS", 1))


def _like(p: Any, count: int) -> list[Any]:
    return [device.cupy().empty(p.shape, np.float32) for _ in range(count)]


def table(held: Sequence[Any]) -> Any:
    """(pointer, size) of each array, on the device."""
    return feed.upload(feed.same, np.array([(array.data.ptr, array.size) for array in held], np.uint64))
