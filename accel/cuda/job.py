"""`Job`: a call of the quantizer with its arguments resolved and checked, before any kernel runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.accel.cuda import device, feed, plans
from lpref.accel.cuda.qtensor import Counters
from lpref.ref.errors import BackendError, ShapeError, SpecError
from lpref.ref.formats import Format
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.qtensor import matrix_shape
from lpref.ref.quantize.quantize import check_tail
from lpref.ref.quantize.state import settled
from lpref.ref.scaling import hindsight


@dataclass(frozen=True, eq=False)
class Job:
    """A call with its arguments resolved. x: [R, C], contiguous."""

    x: Any
    q: Quantizer
    fmt: Format
    kind: int
    logical_shape: tuple[int, ...]
    axis: int
    block: tuple[int, int]
    grid: tuple[int, int]
    amax: Any  # float32 array on the device, or None
    encode_scale: Any  # of delayed scaling, or None
    step: Any  # of the rules learned and constant, or None: an array or number
    words: Any
    counters: Counters
    state: Mapping[str, Any] | None = None
    both: bool = False  # whether the codes are wanted along both axes

    @property
    def target(self) -> float:
        """The element value that the statistic is mapped to."""
        return float(self.fmt.max if self.q.scale.target is None else self.q.scale.target)

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.x.shape
        return int(rows), int(columns)


def job_of(x: Any, q: Quantizer, state: Mapping[str, Any] | None, amax: Any, words: Any, k_axis: int) -> Job:
    """The call of `lpref.accel.cuda.quantize` with these arguments, which its docstring explains; raises what it raises before a kernel runs."""
    where = f"quantize {q.name or q.format}"
    if not device.on_device(x):
        raise BackendError(f"a {type(x).__name__} is no CuPy array", where=where, remedy="pass cupy.from_dlpack(x), or copy it to the host")
    cp = device.cupy()
    fmt, last = format_named(q.format), max(x.ndim - 1, 0)
    if x.dtype == np.float64 and q.scale.rule != "none":
        x = _narrow(x)
    kind = device.source_kind(x, where)
    if k_axis not in (-1, last) and not (x.ndim == 2 and k_axis in (0, -2)):
        raise ShapeError(f"k_axis {k_axis} of an array of shape {x.shape}", where=where, remedy="contract over the last axis, or axis 0 of a matrix")
    axis = 1 if k_axis in (-1, last) else 0
    shape = matrix_shape(x.shape)
    check_tail(shape, axis, q)
    if q.scale.rule != "none":
        plans.check(q)
    elif q.scale.nonfinite == "raise":
        raise plans.unsupported(q, f"a plain cast to {q.format} with nonfinite {q.scale.nonfinite}")
    encode_scale = None
    if q.scale.rule == "te" and q.scale.history == "delayed":
        if state is None or "scale" not in state:
            raise SpecError(["scale.history: 'delayed' needs a state"], where=where, remedy="pass state=init_state(q), then update_state's")
        scale = state["scale"]
        encode_scale = cp.asarray(scale, np.float32).reshape(1) if device.on_device(scale) else feed.upload(one_number, scale)
    grid = q.blocks.grid(shape, axis)
    step = None
    if q.scale.rule in ("learned", "constant", "double_rounding"):
        step = state["scale"] if q.scale.learned and state and "scale" in state else q.scale.value
    given = None if amax is None else _given_amax(cp.asarray(amax, np.float32), q, grid, where)
    if q.scale.rule == "amax" and q.scale.history == "hindsight" and hindsight.known(state):
        given = feed.upload(one_number, state["amax"] if state else 0)
    state = _begun(x, q, state, k_axis)
    matrix = cp.ascontiguousarray(x.reshape(shape))
    return Job(matrix, q, fmt, kind, tuple(x.shape), axis, q.blocks.on(shape, axis), grid, given, encode_scale, step, words, Counters.take(), state)


def _begun(x: Any, q: Quantizer, state: Mapping[str, Any] | None, k_axis: int) -> Mapping[str, Any] | None:
    """The state; flexpoint without one settles on x first (`lpref.ref.quantize.state.settled`), waiting for the device each round."""
    if q.scale.rule != "flexpoint" or state is not None:
        return state
    from lpref.accel.cuda.quantize import quantize

    return settled(q, x, made=lambda now: quantize(x, q, state=now, k_axis=k_axis))


def one_number(x: Any) -> np.ndarray:
    """A number as the kernels read it."""
    return np.asarray(x, np.float32).reshape(1)


def _narrow(x: Any) -> Any:
    """float64 -> float32 to nearest even (CuPy's own conversion flushes subnormals)."""
    cp = device.cupy()
    out = cp.empty(x.shape, np.float32)
    device.function("generic", "narrow", (("LP_IN", 0),))((device.blocks_for(x.size),), (device.THREADS,), (cp.ascontiguousarray(x), x.size, out))
    return out


def _given_amax(amax: Any, q: Quantizer, grid: tuple[int, int], where: str) -> Any:
    if q.scale.rule == "nvfp4" and amax.size == 1:
        return amax.reshape(1)
    if q.scale.rule in ("amax", "te", "mx", "coat") and q.scale.history == "current" and amax.size in (1, grid[0] * grid[1]):
        return amax.reshape(-1)
    raise ShapeError(f"amax of shape {amax.shape} for rule {q.scale.rule!r} and {grid[0]} x {grid[1]} blocks", where=where,
                     remedy="give a scalar, or one amax per block; delayed and plain casts read none")  # fmt: skip
