"""Scales that need more than the amax of every block: sums, extremes, logarithms (kernels/rules.cu), searches (kernels/search.cu), states.

Each function is the page of `lpref.ref.scaling` with its name: (job, where stored scales go) -> `Levels`. A team of threads takes a block of
the quantizer; the rule's arithmetic is core/rules.h.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, feed, levels, measure, plans, reduce
from lpref.accel.cuda.job import Job
from lpref.accel.cuda.levels import DIVIDE, MULTIPLY, Levels
from lpref.ref import elementary
from lpref.ref.quantize.elements import element_range
from lpref.ref.scaling import clip as clip_page
from lpref.ref.scaling.minmax import known_ends

CRITERIA = {"mse": 0, "weighted": 1, "cosine": 2}


def grid_of(job: Job) -> tuple[Any, Any, int]:
    """(values, factors) to write to, and the number of blocks."""
    cp, count = device.cupy(), job.grid[0] * job.grid[1]
    return cp.empty(max(count, 1), np.float32), cp.empty(max(count, 1), np.float32), count if job.x.size else 0


def on_grid(job: Job, numbers: Any) -> Any:
    """A number a block, in the shape of the grid."""
    return numbers[: job.grid[0] * job.grid[1]].reshape(job.grid)


def apply_of(job: Job) -> int:
    """How elements meet the scales of a rule that reads `apply`."""
    return DIVIDE if job.q.scale.apply == "divide" else MULTIPLY


def written(scales: Any, values: Any, factors: Any) -> tuple[Any, ...]:
    """The arguments of a kernel that writes scales; where their format needs a cast it writes no codes."""
    return (0, np.int32(0), values, factors) if scales.itemsize == 2 else (scales, np.int32(scales.itemsize), values, factors)


def over_blocks(job: Job, entry: str, count: int, *args: Any) -> None:
    """A team for each block of x."""
    rows, columns = job.block
    arrays.rows("rules", entry, count, rows * columns, job.x, *job.shape, rows, columns, count, *args, defines=(("LP_IN", job.kind),))


def each(job: Job, entry: str, count: int, *args: Any) -> None:
    """A thread for each of `count` scales."""
    arrays.each("rules", entry, count, *args, defines=(*arrays.ONE, ("LP_IN", job.kind)))


def moments(job: Job, scales: Any) -> Levels:
    """`lpref.ref.scaling.moments`."""
    (values, factors, count), s = grid_of(job), job.q.scale
    numbers = [np.float32(v) for v in (s.rms, s.mean, s.eps, job.target)]
    own = (np.int32(plans.POW2[s.pow2]), np.int32(s.apply != "divide"))
    over_blocks(job, "moments", count, *numbers, *own, *written(scales, values, factors))
    return Levels(values, factors, apply_of(job))


def deviation(job: Job, scales: Any) -> Levels:
    """`lpref.ref.scaling.deviation`."""
    (values, factors, count), s = grid_of(job), job.q.scale
    over_blocks(job, "deviation", count, np.float32(s.std), np.float32(s.eps), *written(scales, values, factors))
    return Levels(values, factors, DIVIDE)


def center(job: Job, scales: Any) -> Levels:
    """`lpref.ref.scaling.center`."""
    values, factors, count = grid_of(job)
    over_blocks(job, "center", count, *written(scales, values, factors))
    return Levels(values, factors, DIVIDE)


def means(job: Job) -> Any:
    """The mean of every block, `lpref.ref.scaling.statistics.block_mean`."""
    out, _, count = grid_of(job)
    over_blocks(job, "mean", count, out)
    return out


def ends(job: Job, span: str, around_zero: bool) -> tuple[Any, Any]:
    """The range of every block (`lpref.ref.scaling.minmax.spanned`), or the state's; a rule with a memory tells the measured one."""
    low, high, count = grid_of(job)
    if span == "rows":
        rows, columns = job.shape
        least, most = (device.cupy().empty(max(rows, 1), np.float32) for _ in range(2))
        arrays.rows("rules", "ends", rows if count else 0, columns, job.x, rows, columns, 1, columns, rows, np.int32(0), least, most,
                    defines=(("LP_IN", job.kind),))  # fmt: skip
        low, high = (reduce.tree_mean(v).reshape(1) for v in (least, most))
    else:
        over_blocks(job, "ends", count, np.int32(span == "symmetric"), low, high)
    if job.q.scale.history == "hindsight" and count:
        each(job, "told", 1, low, high, np.int32(around_zero), job.counters.row[5:])
        if known_ends(job.q.scale, job.state) is not None:
            assert job.state is not None
            low, high = (feed.upload(one, job.state[name]) for name in ("low", "high"))
    return low, high


def one(x: Any) -> np.ndarray:
    """A number as the kernels read it."""
    return np.asarray(x, np.float32).reshape(1)


def affine(job: Job, scales: Any) -> Levels:
    """`lpref.ref.scaling.affine`."""
    (values, factors, count), s = grid_of(job), job.q.scale
    (qmin, qmax), points = element_range(job.q, job.fmt), device.cupy().empty(job.grid, np.int32)
    own = (np.float32(qmin), np.float32(qmax), np.float32(s.eps), np.int32(s.zero == "widen"), np.int32(s.apply != "divide"))
    each(job, "affine", count, *ends(job, "extremes", True), count, *own, points, *written(scales, values, factors))
    return Levels(values, factors, apply_of(job), points=points, told=told_of(job))


def told_of(job: Job) -> tuple[str, ...]:
    """What a rule that follows a range observes."""
    return ("low", "high") if job.q.scale.history == "hindsight" and job.x.size else ()


def minmax(job: Job, scales: Any) -> Levels:
    """`lpref.ref.scaling.minmax`."""
    (values, factors, count), s = grid_of(job), job.q.scale
    low, high = ends(job, s.span, False)
    offsets, added = (device.cupy().empty(max(count, 1), np.float32) for _ in range(2))
    own = (np.float32(job.fmt.max), np.float32(s.eps))
    each(job, "minmax", count, low, high, count, *own, offsets, added, *written(scales, values, factors))
    codes, decoded = levels.stored(values, s.format)
    more, _ = levels.stored(added, s.format)
    return Levels(decoded, factors, levels.SPAN, offsets, codes=on_grid(job, codes), more=(on_grid(job, more),), told=told_of(job))


def s2fp8(job: Job, scales: Any) -> Levels:
    """`lpref.ref.scaling.s2fp8`."""
    (values, alpha, count), beta = grid_of(job), device.cupy().empty(1, np.float32)
    target = 2.0**15 if job.q.scale.target is None else job.q.scale.target
    over_blocks(job, "s2fp8", count, np.float32(elementary.log2(np.float32(target))), beta, *written(scales, values, alpha))
    if not count:
        alpha, beta = device.cupy().ones(1, np.float32), device.cupy().zeros(1, np.float32)
    return Levels(values, alpha, levels.SQUEEZED, beta, aux={"alpha": alpha, "beta": beta})


def clip(job: Job, scales: Any) -> Levels:
    """`lpref.ref.scaling.clip`, criteria of sums."""
    (values, factors, count), s, cp = grid_of(job), job.q.scale, device.cupy()
    found, block = measure.block_amax(job), job.block
    if not clip_page.searches(s, job.state):
        assert job.state is not None
        known = job.state["scale"]
        arrays.each("search", "kept", count, feed.upload(flat, known), np.int32(np.size(known) > 1), found, count, scales, values, factors,
                    defines=(("LP_IN", job.kind),))  # fmt: skip
        return Levels(values, factors, DIVIDE)
    costs = cp.empty(max(count, 1), np.float64)
    shares = feed.upload(evenly, s.steps)
    args = (job.x, *job.shape, *block, count, found, np.float32(job.target), shares, np.int32(s.steps), np.int32(CRITERIA[s.criterion]))
    if count:
        run = device.function("search", "search", (("LP_IN", job.kind),))
        run((min(count, 65535),), (1024,), (*args, scales, values, factors, costs))
    shown = {"clip": on_grid(job, values), "deviation": costs} if s.history == "hindsight" and count else {}
    return Levels(values, factors, DIVIDE, shown=shown)


def flat(x: Any) -> np.ndarray:
    """Scales as the kernels read them."""
    return np.ascontiguousarray(x, np.float32).reshape(-1)


def evenly(steps: int) -> np.ndarray:
    """fl32(i / steps), i = 1 .. steps."""
    return np.array([i / steps for i in range(1, steps + 1)], np.float32)


def of_state(job: Job, scales: Any) -> Levels:
    """`lpref.ref.scaling.flexpoint` and `overflow_rate`: the state's one scale."""
    values, factors, count = grid_of(job)
    follows = job.q.scale.rule == "overflow_rate"
    amax = measure.tensor_amax(job) if follows else 0
    state = feed.upload(one, np.float32(0) if job.state is None else job.state["scale"])
    each(job, "of_state", count, state, amax, np.float32(job.target), count, *written(scales, values, factors))
    return Levels(values, factors, DIVIDE, more_of=levels.HALF if follows else levels.TOP, told=("half",) if follows else ("top",))


OF_BLOCKS = {
    "moments": moments, "deviation": deviation, "center": center, "affine": affine, "minmax": minmax, "s2fp8": s2fp8, "clip": clip,
    "flexpoint": of_state, "overflow_rate": of_state,
}  # fmt: skip
"""Rule -> its function."""
