"""Step 2 of `quantize`: which rule's page computes the scales of the blocks, and from which statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import NonFiniteError, ShapeError, SpecError
from lpref.ref.formats import Format
from lpref.ref.quantize.elements import element_range
from lpref.ref.quantize.quantizer import Quantizer
from lpref.ref.quantize.state import settled
from lpref.ref.scaling import (
    BlockScales,
    absmean_scales,
    affine_scales,
    amax_scales,
    bfp_scales,
    center_scales,
    clip_scales,
    coat_scales,
    deviation_scales,
    double_rounding_scales,
    double_scales,
    fan_in_scales,
    flexpoint_scales,
    four_over_six_scales,
    from_encode_scale,
    given_scales,
    hindsight,
    minmax_scales,
    moments_scales,
    mx_scales,
    nvfp4_scales,
    overflow_rate_scales,
    s2fp8_scales,
    shift_scales,
    te_scales,
    torchao_scales,
    trit_plane_scales,
    twn_scales,
    two_eps_scales,
)
from lpref.ref.scaling.absmean import centered
from lpref.ref.scaling.minmax import known_ends
from lpref.ref.scaling.statistics import block_absmean, block_amax, block_extremes


def refuse_non_finite(x: NDArray, q: Quantizer) -> None:
    """NonFiniteError that counts the elements that are NaN or infinite."""
    bad = int(x.size - np.count_nonzero(np.isfinite(x)))
    if bad:
        raise NonFiniteError(f"{bad} of {x.size} elements are NaN or infinite", where=f"quantize {q.name or q.format}",
                             remedy="use scale.nonfinite propagate or ignore")  # fmt: skip


def statistics(x: NDArray[np.float32], block: tuple[int, int], q: Quantizer) -> tuple[NDArray[np.float32], np.float32]:
    """amax of every block, and of the tensor, under the policy for NaN and infinity."""
    if q.scale.nonfinite == "raise":
        refuse_non_finite(x, q)
    found = block_amax(x, block, finite_only=q.scale.nonfinite == "ignore")
    return found, np.max(found) if found.size else np.float32(0)


def block_scales(
    x: NDArray[np.float32], found: NDArray[np.float32], tensor_amax: np.float32, q: Quantizer, fmt: Format, axis: int,
    state: Mapping[str, Any] | None, amax: Any,
) -> BlockScales:  # fmt: skip
    """Step 2: the rule's page, on the statistics that it reads."""
    rule, grid = q.scale.rule, found.shape
    target = q.scale.target if q.scale.target is not None else fmt.max
    if amax is not None:
        if rule == "nvfp4":
            tensor_amax = np.float32(amax)
        elif rule in ("amax", "te", "mx", "coat") and q.scale.history == "current" and np.size(amax) in (1, found.size):
            found = np.broadcast_to(
                np.asarray(amax, np.float32).reshape(grid if np.size(amax) == found.size else (1, 1)), grid
            )
        else:
            raise ShapeError(f"amax of shape {np.shape(amax)} for rule {rule!r} and {grid[0]} x {grid[1]} blocks", where="quantize",
                             remedy="give a scalar, or one amax per block; delayed, learned, constant and absmean scales read none")  # fmt: skip
    if rule == "amax" and q.scale.history == "hindsight" and hindsight.known(state):
        found = np.full(grid, state["amax"] if state else 0, np.float32)
    if rule == "amax":
        return amax_scales(found, target, q.scale)
    if rule == "te":
        if q.scale.history == "delayed":
            return from_encode_scale(np.full(grid, _state_scale(state, q), np.float32), q.scale.format)
        return te_scales(found, target, q.scale)
    if rule == "mx":
        return mx_scales(found, target, (fmt.precision or 1) - 1, q.scale)
    if rule == "nvfp4":
        return _nvfp4(x, found, tensor_amax, target, q, axis)
    if rule == "flexpoint":
        return flexpoint_scales(_state_scale(settled(q, x) if state is None else state, q), grid)
    if rule == "bfp":
        return bfp_scales(found, fmt.bits - 1, q.scale)
    if rule == "coat":
        return coat_scales(found, target, q.scale)
    if rule == "double":
        return double_scales(found, target, q.scale)
    if rule == "shift":
        return shift_scales(found, target, q.scale)
    if rule == "overflow_rate":
        return overflow_rate_scales(tensor_amax, state, grid, target)
    if rule == "clip":
        return clip_scales(x, q.blocks.on(x.shape, axis), found, target, q.scale, state)
    if rule == "fan_in":
        return fan_in_scales(x.shape[axis], grid, q.scale)
    if rule == "two_eps":
        return two_eps_scales(found, target, q.scale)
    if rule == "moments":
        seen = np.where(np.isfinite(x), x, np.float32(0)) if q.scale.nonfinite == "ignore" else x
        return moments_scales(seen, q.blocks.on(x.shape, axis), found, target, q.scale)
    if rule == "deviation":
        seen = np.where(np.isfinite(x), x, np.float32(0)) if q.scale.nonfinite == "ignore" else x
        return deviation_scales(seen, q.blocks.on(x.shape, axis), q.scale)
    if rule == "center":
        return center_scales(np.where(np.isfinite(x), x, np.float32(0)) if q.scale.nonfinite == "ignore" else x, q.blocks.on(x.shape, axis))
    if rule == "double_rounding":
        step = state["scale"] if state and "scale" in state else q.scale.value
        return double_rounding_scales(x, q.blocks.on(x.shape, axis), step, fmt.bits, q.scale)
    if rule not in ("learned", "constant"):
        return _of_elements(x, q, fmt, q.blocks.on(x.shape, axis), state)
    known = state if rule == "learned" and state else {}
    return given_scales(known.get("scale", q.scale.value), grid, q.scale, known.get("zero"))


def _nvfp4(x: NDArray[np.float32], found: NDArray[np.float32], amax: np.float32, target: float, q: Quantizer, axis: int) -> BlockScales:
    """The variants of the rule nvfp4."""
    if q.scale.apply == "torchao":
        return torchao_scales(found, amax, target)
    if q.scale.select != "none":
        return four_over_six_scales(x, q.blocks.on(x.shape, axis), axis, found, amax, target, q.scale)
    return nvfp4_scales(found, amax, target)


def _of_elements(
    x: NDArray[np.float32], q: Quantizer, fmt: Format, block: tuple[int, int], state: Mapping[str, Any] | None
) -> BlockScales:
    """The rules that read more than amax."""
    rule, ignore = q.scale.rule, q.scale.nonfinite == "ignore"
    ends = known_ends(q.scale, state)
    if rule == "affine":
        low, high = element_range(q, fmt)
        least, most = ends or block_extremes(x, block, finite_only=ignore)
        return affine_scales(least, most, float(low), float(high), q.scale)
    if rule == "minmax":
        return minmax_scales(np.where(np.isfinite(x), x, np.float32(0)) if ignore else x, block, fmt.max, q.scale, ends)
    seen = np.where(np.isfinite(x), x, np.float32(0)) if ignore else x
    if rule == "absmean":
        shifted = centered(seen, block) if q.scale.center else None
        return absmean_scales(block_absmean(seen, block), q.scale, "zero" in fmt.targets, shifted)
    if rule == "twn":
        return twn_scales(seen, block, q.scale)
    if rule == "s2fp8":
        return s2fp8_scales(seen, 2.0**15 if q.scale.target is None else q.scale.target)
    return trit_plane_scales(seen, block, q.scale)


def _state_scale(state: Mapping[str, Any] | None, q: Quantizer) -> np.float32:
    if state is None or "scale" not in state:
        raise SpecError(["scale.history: 'delayed' needs a state"], where=f"quantize {q.name or q.format}",
                        remedy="pass state=init_state(q), then update_state's")  # fmt: skip
    return np.float32(state["scale"])
