"""The amax of a tensor and of a quantizer's blocks on the device (kernels/amax.cu): bits of float32, NaN wins."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cuda import device, noted
from lpref.accel.cuda.job import Job


def tensor_amax(job: Job) -> Any:
    """float32 bits of the tensor's amax, one uint32: given, noted by who wrote the tensor, or measured."""
    if job.amax is not None:
        return job.amax.view(np.uint32)
    found = noted.of(job.x)
    return reach(job.x, job.kind, job.counters.spare()) if found is None else found


def reach(x: Any, kind: int = 0, out: Any = None) -> Any:
    """float32 bits of the greatest magnitude of a contiguous array, one uint32 (NaN wins); into `out`, which holds 0."""
    out = device.cupy().zeros(1, np.uint32) if out is None else out
    if x.size:
        run = device.function("amax", "amax_flat", (("LP_IN", kind),))
        run((device.blocks_for(x.size // 32, 512, 4),), (512,), (x, x.size, out))
    return out


def block_amax(job: Job) -> Any:
    """float32 bits of the amax of every block: given (but for nvfp4, whose given one is the tensor's), or measured."""
    cp, (rows, columns), (br, bc) = device.cupy(), job.shape, job.block
    count = job.grid[0] * job.grid[1]
    if job.amax is not None and job.q.scale.rule != "nvfp4":
        return cp.ascontiguousarray(cp.broadcast_to(job.amax, (count,))).view(np.uint32)
    found = cp.zeros(max(count, 1), np.uint32)
    if job.x.size:
        span = min(br, 32)
        strips = -(-rows // br) * -(-br // span)
        by_eight = bc % 8 == 0 and columns % 8 == 0 and job.x.data.ptr % 16 == 0
        run = device.function("amax", "amax_tiles" if by_eight else "amax_grid", (("LP_IN", job.kind),))
        threads = strips * columns // (8 if by_eight else 1)
        run((device.blocks_for(threads),), (device.THREADS,), (job.x, rows, columns, br, bc, span, found))
    return found
