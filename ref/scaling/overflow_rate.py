r"""A power of two per tensor that is steered by how often elements overflow: dynamic fixed point.

x^ = i s, s = 2^e the state's. After every `window` steps, with the counts of all their elements::

    rate  = overflowed / count                       beyond the largest integer by more than half, measured before saturation
    half  = elements that would be so at s / 2       2 x instead of x
    if rate > limit:                 s <- 2 s
    else if half / count <= limit:   s <- s / 2
    the counts start again

so the scale moves by one octave at a time, and only when it is safe or needed. First scale, from the first tensor itself: 2^ceil(log2(amax / t)),
t the largest integer; a zero tensor leaves it open (s = 1 meanwhile). s stays within 2^-126 .. 2^126.

State: {"scale": float32 (0: none yet), "count", "overflowed", "half": int64, "age": int32 steps since the last change was considered}.
Zero tensor: no overflow, so s falls by an octave every window. NaN is an error for integers (the overflow preset), infinity saturates.
Gradient: straight through.

Source: arXiv 1412.7024 (limit 0.01 %, every 10 000 examples, one scale each for weights, biases, weighted sums, outputs and their gradients).
Source level: memory. Deviation: the window is in steps, not in examples.
Pitfalls: counting after saturation never sees an overflow; a rule that also falls when half is just above the limit oscillates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales, power_of_two, stored

REACH = (np.float32(2.0**-126), np.float32(2.0**126))


def initial() -> dict[str, Any]:
    """No scale yet, nothing counted."""
    return {"scale": np.float32(0), "count": np.int64(0), "overflowed": np.int64(0), "half": np.int64(0), "age": np.int32(0)}


def fitting(amax: Any, target: float) -> np.float32:
    """The first scale for a tensor of this amax.

    >>> float(fitting(np.float32(1.0), 511.0)), float(fitting(np.float32(0), 511.0))
    (0.00390625, 0.0)
    """
    wanted = power_of_two(np.asarray(np.float32(amax) / np.float32(target)), "up")
    return np.float32(np.clip(wanted, *REACH)) if 0 < amax < np.inf else np.float32(0)


def overflow_rate_scales(amax: np.float32, state: Mapping[str, Any] | None, grid: tuple[int, int], target: float) -> BlockScales:
    """The state's scale on the grid; the fitting one where there is none."""
    s = np.float32(0) if state is None else np.float32(state["scale"])
    s = fitting(amax, target) if s == 0 else s
    values: NDArray[np.float32] = np.full(grid, s if s > 0 else 1, np.float32)
    return BlockScales(stored(values, "float32"), values, values, "divide")


def update(scale: Scale, target: float, state: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """The state after a step that counted `seen`.

    >>> s = Scale("overflow_rate", history="delayed", window=1, limit=0.1)
    >>> at = {**initial(), "scale": np.float32(1)}
    >>> [float(update(s, 127.0, at, {"amax": 1, "count": 10, "overflowed": o, "half": h})["scale"]) for o, h in ((2, 5), (1, 2), (1, 1))]
    [2.0, 1.0, 0.5]
    """
    s = np.float32(state["scale"])
    if s == 0:
        return {**initial(), "scale": fitting(seen["amax"], target)}
    sums = {name: np.int64(int(state[name]) + int(seen[name])) for name in ("count", "overflowed", "half")}
    if int(state["age"]) + 1 < scale.window:
        return {"scale": s, **sums, "age": np.int32(int(state["age"]) + 1)}
    if sums["overflowed"] > scale.limit * sums["count"]:
        s = s * np.float32(2)
    elif sums["half"] <= scale.limit * sums["count"]:
        s = s / np.float32(2)
    return {**initial(), "scale": np.float32(np.clip(s, *REACH))}
