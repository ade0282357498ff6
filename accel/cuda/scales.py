"""The scales of a quantizer's blocks on the device, where the element pass needs them before: a grid of codes, values and factors.

Rules of amax measure it (`measure`) and have one thread a block (core/scales.h, core/rules.h); mean magnitudes have a block of threads each
(kernels/operand.cu); a given step is refused, as its page says, where it is not a positive number; what needs sums, extremes or searches is `rules`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, doubt, feed, levels, measure, plans, rules
from lpref.accel.cuda.job import Job
from lpref.accel.cuda.levels import DIVIDE, MULTIPLY, Levels
from lpref.ref.quantize import Quantizer
from lpref.ref.scaling import fan_in_scales, given_scales


@feed.lasting
def rule(q: Quantizer) -> Any:
    """`lp_rule` of core/scales.h on the device."""
    return device.cupy().asarray(plans.rule_of(q).view(np.uint8))


def blocks(job: Job, scales: Any, ts: Any) -> tuple[Any, Any]:
    """Values and factors of the grid, where they are all that the rule gives; the codes go to `scales`."""
    made = levels_of(job, scales, ts)
    return made.values, made.factors


def levels_of(job: Job, scales: Any, ts: Any) -> Levels:
    """The scales of any rule; codes go to `scales` where the result has none, the tensor scale to ts."""
    rule = job.q.scale.rule
    if job.q.scale.select != "none":
        return _selected(job, scales, ts)
    if rule in rules.OF_BLOCKS:
        return rules.OF_BLOCKS[rule](job, scales)
    if rule in AMAX:
        return _further(job, scales)
    others = {"learned": _given, "constant": _given, "double_rounding": _given, "fan_in": _fan_in, "absmean": _absmean}
    if rule in others:
        return others[rule](job, scales)
    return _of_amax(job, scales, ts)


def _of_amax(job: Job, scales: Any, ts: Any) -> Levels:
    """amax, te, mx, nvfp4."""
    (values, factors, _), count, q = rules.grid_of(job), job.grid[0] * job.grid[1], job.q
    found, tensor = measure.block_amax(job), measure.tensor_amax(job) if q.scale.rule == "nvfp4" else 0
    run = device.function("generic", "scales_grid", (("LP_IN", 0),))
    state = 0 if job.encode_scale is None else job.encode_scale
    where = rules.written(scales, values, factors)
    run((device.blocks_for(count),), (device.THREADS,), (found, count, rule(q), tensor, state, *where, ts))
    how = DIVIDE if plans.divides(q) else MULTIPLY
    if not plans.cast_after(q):
        return Levels(values, factors, how)
    if q.scale.format == "binary16":  # elements meet the scale before its rounding
        codes, decoded = levels.stored(values, q.scale.format)
        return Levels(decoded, factors, how, codes=rules.on_grid(job, codes))
    codes, decoded = levels.stored(levels.raised(values, q.scale.format), q.scale.format)
    return Levels(decoded, decoded if how == DIVIDE else levels.inverse(decoded), how, codes=rules.on_grid(job, codes))


def _selected(job: Job, scales: Any, ts: Any) -> Levels:
    """nvfp4 with select: `lpref.ref.scaling.four_over_six`."""
    (values, factors, count), s, (br, bc) = rules.grid_of(job), job.q.scale, job.block
    own = (np.float32(s.scale_max), np.int32(job.axis), np.int32(s.select == "mae"))
    run = device.function("select", "four_over_six", (("LP_IN", job.kind),))
    args = (job.x, *job.shape, br, bc, count, measure.block_amax(job), measure.tensor_amax(job), *own, scales, values, factors, ts)
    run((device.blocks_for(32 * max(count, 1)),), (device.THREADS,), args)
    return Levels(values, factors, MULTIPLY)


AMAX = {"bfp": 0, "coat": 1, "two_eps": 2, "shift": 3}
"""Rules of amax that have the generic kernels only; their numbers in kernels/generic.cu."""


def _further(job: Job, scales: Any) -> Levels:
    """bfp, coat, two_eps, shift."""
    (values, factors, _), count, s = rules.grid_of(job), job.grid[0] * job.grid[1], job.q.scale
    tensor, number = measure.tensor_amax(job) if s.rule == "shift" else 0, s.group if s.rule == "shift" else job.fmt.bits - 1
    own = (np.int32(AMAX[s.rule]), tensor, np.float32(job.target), np.float32(s.eps), np.int32(s.mode == "ceil"), np.int32(number))
    run = device.function("generic", "scales_of_amax", (("LP_IN", 0),))
    run((device.blocks_for(count),), (device.THREADS,), (measure.block_amax(job), count, *own, *rules.written(scales, values, factors)))
    if not plans.cast_after(job.q):
        return Levels(values, factors, MULTIPLY if s.rule == "two_eps" else DIVIDE)
    codes, decoded = levels.stored(values, s.format)
    return Levels(decoded, factors, DIVIDE, codes=rules.on_grid(job, codes))


def _given(job: Job, scales: Any) -> Levels:
    """learned, constant, double_rounding."""
    cp, count, step, s = device.cupy(), job.grid[0] * job.grid[1], job.step, job.q.scale
    there = cp.ascontiguousarray(step).reshape(-1) if device.on_device(step) else feed.upload(numbers, step)
    if there.size != 1 and tuple(np.shape(step)) != job.grid:
        given_scales(np.ones(np.shape(step), np.float32), job.grid, s)  # raises
    (values, factors, _), refused = rules.grid_of(job), cp.zeros(1, np.uint64)
    twice = s.rule == "double_rounding"
    down = 2.0 ** (s.high - job.fmt.bits) if twice else 1.0
    own = (np.float32(s.eps), np.int32(s.apply != "divide"), np.float32(down))
    arrays.each("generic", "given", count, there, np.int32(there.size > 1), count, *own, scales, values, factors, refused, defines=(("LP_IN", 0),))
    if count and doubt.above(refused, 0):
        given_scales(cp.asnumpy(step) if device.on_device(step) else step, job.grid, s)  # raises
    if twice:
        return Levels(values, factors, levels.ROUNDED, stop=2.0 ** (s.high - 1), down=1 / down)
    return Levels(values, factors, rules.apply_of(job), points=_points(job, tuple(np.shape(step))))


def _points(job: Job, shape: tuple[int, ...]) -> Any:
    """Learned zero points on the grid, int32; None where the state has none."""
    zero = None if job.state is None or job.q.scale.rule != "learned" else job.state.get("zero")
    if zero is None:
        return None
    cp = device.cupy()
    there = (zero if device.on_device(zero) else feed.upload(numbers, zero)).astype(np.int32)
    return cp.ascontiguousarray(cp.broadcast_to(there.reshape(job.grid if there.size == job.grid[0] * job.grid[1] else (1, 1)), job.grid))


def numbers(step: Any) -> np.ndarray:
    """Steps as the kernels read them."""
    return np.asarray(step, np.float32).reshape(-1)


def _fan_in(job: Job, scales: Any) -> Levels:
    made = fan_in_scales(job.shape[job.axis], job.grid, job.q.scale)
    scales[...] = feed.upload(feed.same, made.codes)
    how = DIVIDE if made.operation == "divide" else MULTIPLY
    return Levels(feed.upload(feed.same, made.values), feed.upload(feed.same, made.factor), how)


def _absmean(job: Job, scales: Any) -> Levels:
    """absmean, with or without center."""
    (values, factors, count), s = rules.grid_of(job), job.q.scale
    if count:
        run = device.function("operand", "absmean", (("LP_IN", job.kind),))
        own = (np.float32(s.eps), np.int32(plans.has_zero(job.q)), np.int32(s.apply != "divide"))
        run((count,), (1024,), (job.x, *job.shape, *job.block, *own, scales, values, factors))
    if s.center:
        return Levels(values, factors, levels.CENTERED, rules.means(job))
    return Levels(values, factors, DIVIDE if plans.divides(job.q) else MULTIPLY)
