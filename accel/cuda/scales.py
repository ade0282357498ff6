"""The scales of a quantizer's blocks on the device, where the element pass needs them before: a grid of codes, values and factors.

Rules of amax measure it (kernels/amax.cu) and have one thread a block (core/scales.h); mean magnitudes have a block of threads each
(kernels/operand.cu); a given step is
refused, as its page says, where it is not a positive number.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, doubt, feed, plans
from lpref.accel.cuda.job import Job
from lpref.ref.quantize import Quantizer
from lpref.ref.scaling import fan_in_scales, given_scales


@cache
def rule(q: Quantizer) -> Any:
    """`lp_rule` of core/scales.h on the device."""
    return device.cupy().asarray(plans.rule_of(q).view(np.uint8))


def tensor_amax(job: Job) -> Any:
    """float32 bits of the tensor's amax, one uint32: given, or measured."""
    return reach(job.x, job.kind, job.counters.spare()) if job.amax is None else job.amax.view(np.uint32)


def reach(x: Any, kind: int = 0, out: Any = None) -> Any:
    """float32 bits of the greatest magnitude of a contiguous array, one uint32 (NaN wins); into `out`, which holds 0."""
    out = device.cupy().zeros(1, np.uint32) if out is None else out
    if x.size:
        run = device.function("amax", "amax_flat", (("LP_IN", kind),))
        run((device.blocks_for(x.size // 32, 512, 4),), (512,), (x, x.size, out))
    return out


def blocks(job: Job, scales: Any, ts: Any) -> tuple[Any, Any]:
    """Values and factors of the grid; the codes go to `scales`."""
    made = {"learned": _given, "constant": _given, "fan_in": _fan_in, "absmean": _absmean}.get(job.q.scale.rule, _of_amax)
    return made(job, scales, ts)


def _of_amax(job: Job, scales: Any, ts: Any) -> tuple[Any, Any]:
    cp, (rows, columns), (br, bc) = device.cupy(), job.shape, job.block
    count = job.grid[0] * job.grid[1]
    values, factors = cp.empty(max(count, 1), np.float32), cp.empty(max(count, 1), np.float32)
    if job.amax is not None and job.q.scale.rule != "nvfp4":
        found = cp.ascontiguousarray(cp.broadcast_to(job.amax, (count,))).view(np.uint32)
    else:
        found = cp.zeros(max(count, 1), np.uint32)
        if job.x.size:
            span = min(br, 32)
            strips = -(-rows // br) * -(-br // span)
            by_eight = bc % 8 == 0 and columns % 8 == 0 and job.x.data.ptr % 16 == 0
            run = device.function("amax", "amax_tiles" if by_eight else "amax_grid", (("LP_IN", job.kind),))
            threads = strips * columns // (8 if by_eight else 1)
            run((device.blocks_for(threads),), (device.THREADS,), (job.x, rows, columns, br, bc, span, found))
    tensor = tensor_amax(job) if job.q.scale.rule == "nvfp4" else 0
    run = device.function("generic", "scales_grid", (("LP_IN", 0),))
    state = 0 if job.encode_scale is None else job.encode_scale
    args = (found, count, rule(job.q), tensor, state, scales, np.int32(scales.itemsize), values, factors, ts)
    run((device.blocks_for(count),), (device.THREADS,), args)
    return values, factors


def _given(job: Job, scales: Any, ts: Any) -> tuple[Any, Any]:
    cp, count, step = device.cupy(), job.grid[0] * job.grid[1], job.step
    there = cp.ascontiguousarray(step).reshape(-1) if device.on_device(step) else feed.upload(numbers, step)
    if there.size != 1 and tuple(np.shape(step)) != job.grid:
        given_scales(np.ones(np.shape(step), np.float32), job.grid, job.q.scale)  # raises
    values, factors, refused = cp.empty(max(count, 1), np.float32), cp.empty(max(count, 1), np.float32), cp.zeros(1, np.uint64)
    own = (np.float32(job.q.scale.eps), np.int32(job.q.scale.apply != "divide"))
    arrays.each("generic", "given", count, there, np.int32(there.size > 1), count, *own, scales, values, factors, refused, defines=(("LP_IN", 0),))
    if count and doubt.above(refused, 0):
        given_scales(cp.asnumpy(step) if device.on_device(step) else step, job.grid, job.q.scale)  # raises
    return values, factors


def numbers(step: Any) -> np.ndarray:
    """Steps as the kernels read them."""
    return np.asarray(step, np.float32).reshape(-1)


def _fan_in(job: Job, scales: Any, ts: Any) -> tuple[Any, Any]:
    made = fan_in_scales(job.shape[job.axis], job.grid, job.q.scale)
    scales[...] = feed.upload(feed.same, made.codes)
    return feed.upload(feed.same, made.values), feed.upload(feed.same, made.factor)


def _absmean(job: Job, scales: Any, ts: Any) -> tuple[Any, Any]:
    cp, count = device.cupy(), job.grid[0] * job.grid[1]
    values, factors = cp.empty(max(count, 1), np.float32), cp.empty(max(count, 1), np.float32)
    if count and job.x.size:
        run = device.function("operand", "absmean", (("LP_IN", job.kind),))
        own = (np.float32(job.q.scale.eps), np.int32(plans.has_zero(job.q)), np.int32(job.q.scale.apply != "divide"))
        run((count,), (1024,), (job.x, *job.shape, *job.block, *own, scales, values, factors))
    return values, factors
