"""`lpref.ref.quantize.quantize` of CuPy arrays: the same codes, scales, tensor scale and observations, bit for bit, on the device.

Three kernels read x once: `blocks` (1 x 16, 32, 64, 128 along rows), `rows` (`row_warps`), `tensor` (`turned`: both ways); where a tensor's amax
is needed first (per-tensor scales, NVFP4) `amax_flat` goes before. `panels` makes blocks of 16 and 32 of floats down columns or square from one
read too. For others `tiles` reads the scales of any blocks whose columns are a multiple of 8, `columns` those of blocks of one column, found in a
pass before. Everything else (ragged edges, tables, other policies, given words) takes the generic passes.
What has no kernel is a `BackendError`. Nothing waits for the device, except where the definition may raise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lpref.accel.cast_plan import NEVER
from lpref.accel.cuda import cast, device, doubt, feed, levels, measure, noted, panels, plans, row_warps, word_address
from lpref.accel.cuda import scales as scales_of
from lpref.accel.cuda.job import Job, job_of
from lpref.accel.cuda.levels import Levels
from lpref.accel.cuda.qtensor import CudaQTensor, Observed, pack
from lpref.accel.cuda.unmade import Unmade
from lpref.ref.errors import NonFiniteError, WordsError
from lpref.ref.formats import FloatFormat, Format
from lpref.ref.formats import format as format_named
from lpref.ref.formats.integers import integer
from lpref.ref.quantize import Quantizer, lookup
from lpref.ref.quantize.packing import code_dtype, row_bytes
from lpref.ref.quantize.quantize import WIDE_BITS, element_range, overflow_limits
from lpref.ref.random import WordAddress
from lpref.ref.rounding import default_word_bits
from lpref.ref.rounding import overflow as overflow_of
from lpref.ref.rounding import rounding as rounding_of

LONGEST_ROW = 16 * 2 * 1024
LARGEST = 2**36
BLOCKS = (16, 32, 64, 128)
TILE, ALIGNED = 128, 16
"""Of kernels/turned.cu: its tiles, and what rows and columns are a multiple of."""
WIDE = integer(WIDE_BITS)
"""What elements are rounded to before a zero point is added."""


def quantize(
    x: Any, q: Quantizer | str, *, state: Mapping[str, Any] | None = None, amax: Any = None, words: Any = None, k_axis: int = -1,
    both: bool = False,
) -> CudaQTensor:  # fmt: skip
    """Codes and scales of a CuPy array; arguments as `lpref.ref.quantize.quantize`, words and amax may be CuPy or NumPy arrays.

    both: the codes are wanted along both axes, `CudaQTensor.turned` beside them where a kernel makes the two from one read.

    Raises: what the definition raises; BackendError for quantizers and dtypes without kernels.
    """
    q = lookup(q) if isinstance(q, str) else q
    job = replace(job_of(x, q, state, amax, words, k_axis), both=both)
    if q.scale.rule == "none":
        return _plain(job) or _generic(job)
    run = _fast(job)
    return run(job) if run is not None else _generic(job)


def _fast(job: Job) -> Any:
    """The kernel that reads x once, or None."""
    q, (rows, columns) = job.q, job.shape
    defines, r = plans.macros(q), plans.word_bits(q)
    aligned = r == 0 or (isinstance(job.words, WordAddress) and word_address.counted(job.words, r, job.x.size))
    safe = job.fmt.has_nan or (q.scale.rule != "te" and (job.amax is None or q.scale.rule == "nvfp4"))  # else NaN may have to raise
    if defines is None or not aligned or not safe or not 0 < rows * columns < LARGEST or rows * columns % 8 or job.x.data.ptr % 16:
        return None
    if job.amax is not None and q.scale.rule != "nvfp4" and job.grid != (1, 1):
        return None
    if job.amax is not None and job.fmt.nan_code not in (None, 0x7F):
        return None
    if job.grid == (1, 1) and (job.fmt.bits == 8 or columns % 8 == 0) and q.scale.rule != "nvfp4":
        return _tensor
    if job.axis == 1 and job.block[0] == 1 and job.block[1] in BLOCKS and columns % job.block[1] == 0:
        return _blocks
    if job.block == (1, columns) and columns % 16 == 0 and columns <= LONGEST_ROW and q.scale.rule != "nvfp4":
        return _rows
    if job.block[0] > 1 and job.amax is None and panels.fits(job.x, q, job.axis, job.words):
        return _panels
    if columns % 8 or (job.amax is not None and q.scale.rule != "nvfp4"):
        return None
    return _tiles if job.block[1] == 1 or job.block[1] % 8 == 0 else None


def _kernel(job: Job, name: str, entry: str, threads: int = device.THREADS, **more: int) -> Any:
    unroll, registers, ahead = _tuning(job, name)
    resident = max(1, 65536 // (threads * registers))
    shape = {"LP_IN": job.kind, "LP_UNROLL": unroll, "LP_AHEAD": ahead, "LP_THREADS": threads, "LP_RESIDENT": resident}
    return device.function(name, entry, (*(plans.macros(job.q) or ()), *(shape | more).items()))


def _tuning(job: Job, name: str) -> tuple[int, int, int]:
    return plans.TUNING[f"{name} stochastic" if plans.word_bits(job.q) and f"{name} stochastic" in plans.TUNING else name]


def _address(job: Job) -> tuple[Any, ...]:
    return word_address.address(job.words, plans.word_bits(job.q))


def _outputs(job: Job) -> tuple[Any, Any, Any]:
    """Codes, scales and tensor scale to write to."""
    cp, (rows, columns) = device.cupy(), job.shape
    codes = cp.empty((rows, row_bytes(columns, job.fmt.bits)), code_dtype(job.fmt.bits))
    scales = cp.empty(job.grid, {1: np.uint8, 2: np.uint16, 4: np.uint32}[plans.scale_bytes(job.q)])
    rule = job.q.scale.rule
    own = np.float32(1) / np.float32(job.q.scale.multiplier) if rule in ("amax", "mx") else np.float32(1)
    return codes, scales, cp.empty((), np.float32) if rule == "nvfp4" else constant(float(own))


@feed.lasting
def constant(value: float) -> Any:
    """A float32 on the device, one array for all who ask."""
    return device.cupy().asarray(np.float32(value))


def _result(job: Job, codes: Any, scales: Any, tensor_scale: Any, made: Levels | None = None) -> CudaQTensor:
    stored = () if job.q.scale.rule in ("none", "s2fp8") else (scales,)
    observed = Observed(job.counters, int(job.x.size), *((made.told, made.shown) if made else ()))
    if made is None:
        return CudaQTensor(codes, stored, tensor_scale, job.axis, job.logical_shape, job.q, observed)
    stored = (*(stored if made.codes is None else (made.codes,)), *made.more)
    return CudaQTensor(codes, stored, tensor_scale, job.axis, job.logical_shape, job.q, observed, made.points, None, made.aux)


def _grid_size(job: Job, run: Any) -> tuple[int]:
    return (max(1, min(-(-job.x.size // (16 * device.THREADS)), device.resident(run, device.THREADS))),)


def of_unmade(x: Unmade, q: Quantizer, *, state: Mapping[str, Any] | None, words: Any, k_axis: int) -> CudaQTensor | None:
    """Codes along both axes of what is computed on the way, its scale known or made of its `peak`; None where no kernel makes them."""
    job = replace(job_of(x.source, q, state, None, words, k_axis), both=True)
    known = job.encode_scale is not None or (x.peak is not None and noted.reads(q))
    return _tensor(job, x) if known and job.shape == x.shape and _turns(job) and _fast(job) is _tensor else None


def _tensor(job: Job, of: Unmade | None = None) -> CudaQTensor:
    codes, scales, ts = _outputs(job)
    delayed, (rows, columns) = job.encode_scale is not None, job.shape
    measured = 0 if delayed else measure.tensor_amax(job) if of is None or of.peak is None else of.peak()
    own = np.int32(not delayed and job.amax is None)
    state = (scales_of.rule(job.q), measured, job.encode_scale if delayed else 0, own, job.counters.row, *_address(job))
    if not (job.both and _turns(job)):
        run = _kernel(job, "tensor", "tensor")
        run(_grid_size(job, run), (device.THREADS,), (job.x, codes, scales, job.x.size, *state))
        return _result(job, codes, scales, ts)
    unmade = {} if of is None else {"LP_UNMADE": of.what, "LP_NEAR": 1, "LP_IN": 0}
    run, other = _kernel(job, "turned", "turned", **unmade), device.cupy().empty((columns, rows), np.uint8)
    tiles = -(-rows // TILE) * -(-columns // TILE)
    sizes = (np.uint32(rows), np.uint32(columns))
    args = (job.x, codes, other, scales, *sizes, *state, *(of.arguments if of else ()))
    run((min(tiles, device.resident(run, device.THREADS)),), (device.THREADS,), args)
    return replace(_result(job, codes, scales, ts), turned=other)


def _turns(job: Job) -> bool:
    """Whether kernels/turned.cu serves."""
    return job.fmt.bits == 8 and job.q.scale.rule in ("te", "amax") and all(n % ALIGNED == 0 for n in job.shape)


def _blocks(job: Job) -> CudaQTensor:
    codes, scales, ts = _outputs(job)
    measured = measure.tensor_amax(job) if job.q.scale.rule == "nvfp4" else 0
    run = _kernel(job, "blocks", "blocks", LP_K=job.block[1])
    args = (job.x, codes, scales, ts, job.x.size, scales_of.rule(job.q), measured, job.counters.row, *_address(job))
    run(_grid_size(job, run), (device.THREADS,), args)
    return _result(job, codes, scales, ts)


def _rows(job: Job) -> CudaQTensor:
    (rows, columns), (codes, scales, ts) = job.shape, _outputs(job)
    args = (job.x, codes, scales, rows, columns, scales_of.rule(job.q), job.counters.row, *_address(job))
    if fit := row_warps.plan(rows, columns * job.x.itemsize, job.kind) if plans.word_bits(job.q) else None:
        row_warps.kernel(fit, plans.macros(job.q) or ())((fit.blocks,), (fit.threads,), args, shared_mem=fit.shared)
        return _result(job, codes, scales, ts)
    threads = min(1024, max(64, -(-columns // (16 * _tuning(job, "rows")[0] * 32)) * 32))
    run = _kernel(job, "rows", "rows", threads)
    run((min(rows, device.resident(run, threads)),), (threads,), args)
    return _result(job, codes, scales, ts)


def _tiles(job: Job) -> CudaQTensor:
    codes, scales, ts = _outputs(job)
    values, factors = scales_of.blocks(job, scales, ts)
    one = job.block[1] == 1
    run = _kernel(job, "columns" if one else "tiles", "elements")
    block, address = [np.uint32(b) for b in (job.block[:1] if one else job.block)], _address(job)
    run(_grid_size(job, run), (device.THREADS,), (job.x, codes, *job.shape, *block, values, factors, job.counters.row, *address))
    return _result(job, codes, scales, ts)


def _panels(job: Job) -> CudaQTensor:
    return in_panels([(job, (), False)])[0]


def in_panels(wanted: Sequence[tuple[Job, panels.Transforms, bool]], beside: Sequence[Any] = ()) -> list[CudaQTensor]:
    """Operands of one tensor that `panels.fits` (job, transforms, whether as numbers too). beside: the tensor scale of what each is multiplied with,
    or None; the products of scales are made too."""
    cp = device.cupy()
    sides = [
        panels.Side(job, *_outputs(job), cp.empty(job.shape, np.uint16) if numbers else None, transforms, _product(job, other))
        for (job, transforms, numbers), other in zip(wanted, beside or [None] * len(wanted), strict=True)
    ]
    for group in [sides] if len({s.job.q.scale.rule for s in sides}) == 1 else [[side] for side in sides]:
        panels.run(group)
    return [replace(_result(s.job, s.codes, s.scales, s.tensor_scale), embedded=s.embedded, product=s.product) for s in sides]


def _product(job: Job, other: Any) -> tuple[Any, Any] | None:
    """`CudaQTensor.product`, which is not made yet."""
    return None if other is None or job.q.scale.rule != "nvfp4" else (other, device.cupy().empty(2, np.float32))


def _plain(job: Job) -> CudaQTensor | None:
    """Casts of float32 to a 16-bit float that a formula makes and that refuse nothing; None for others."""
    f, rule = job.fmt, rounding_of(job.q.rounding)
    aligned = job.kind == 0 and job.x.size and job.x.size % 4 == 0 and job.x.data.ptr % 16 == 0
    if not (aligned and f.bits == 16 and isinstance(f, FloatFormat) and f.zero == "signed" and not rule.stochastic):
        return None
    plan, held = cast.formula(f, rule, overflow_of(job.q.overflow))
    if held is None or plan.raises_above != NEVER:
        return None
    codes, scales, ts = _outputs(job)
    low, high = (np.float32(limit) for limit in overflow_limits(job.q, f))
    entry, own = ("short16", (high.view(np.uint32),)) if shortens(job.q) else ("plain16", (*held, low, high))
    fours = job.x.size // 4
    run = device.function("generic", entry, (("LP_IN", 0),))
    run((device.blocks_for(fours // 4),), (device.THREADS,), (job.x, fours, *own, codes, job.counters.row))
    return _result(job, codes, scales, ts)


def shortens(q: Quantizer) -> bool:
    """Whether q is the cast to bfloat16 by nearest even that makes what is too large infinite: the codes of `arrays.short`."""
    return q.format == "bfloat16" and q.scale.rule == "none" and q.rounding == "nearest_even" and q.overflow == "to_infinity"


def _generic(job: Job) -> CudaQTensor:
    """Amax, scales, elements, packing."""
    cp, q, fmt, (rows, columns) = device.cupy(), job.q, job.fmt, job.shape
    codes, scales, ts = _outputs(job)
    none = q.scale.rule == "none"
    made = Levels(_ones(), _ones(), levels.MULTIPLY) if none else scales_of.levels_of(job, scales, ts)
    wide = fmt if made.points is None else WIDE
    r = q.word_bits or default_word_bits(fmt)
    run_cast = cast.launch(wide, rounding_of(q.rounding), overflow_of(q.overflow), _words(job), r, job.shape)
    if run_cast.plan.raises_above not in (NEVER, 0x7F800000):
        raise plans.unsupported(q, f"overflow {q.overflow}")
    flat = codes if fmt.bits not in (1, 2, 4, 6) else cp.empty((rows, columns), np.uint8)
    _elements(job, made, run_cast, flat)
    own = ("te", "none", "learned", "constant", "fan_in", "flexpoint", "overflow_rate", "double_rounding", "affine", "minmax")
    may = run_cast.plan.raises_above != NEVER and (q.scale.rule in own or job.amax is not None)
    if may and doubt.above(job.counters.row[3:], 0):
        wide.encode(np.float32(np.nan), rounding_of(q.rounding), q.overflow, np.zeros((), np.uint32))  # raises
        raise NonFiniteError("an element is NaN", where=f"quantize {q.name or q.format}")
    return _result(job, flat if flat is codes else pack(flat, fmt.bits), scales, ts, made)


def _elements(job: Job, made: Levels, run_cast: cast.Launch, flat: Any) -> None:
    """Codes of the elements under the scales."""
    q, (rows, columns) = job.q, job.shape
    block = (max(rows, 1), max(columns, 1)) if q.scale.rule == "none" else job.block
    run = device.function("generic", "elements", (("LP_IN", job.kind),))
    offsets, points = (0 if a is None else a for a in (made.offsets, made.points))
    making = (offsets, points, np.int32(made.how), np.float32(made.stop), np.float32(made.down), np.int32(made.more_of), np.int32(job.fmt.bits))
    reading = (np.float32(q.scale.multiplier), _limits(q, made.points is not None), run_cast.array, _zeros(job.fmt))
    target = (flat, np.int32(flat.itemsize), job.counters.row)
    run(*device.plane(rows, columns), (job.x, rows, columns, *block, made.values, made.factors, *making, *reading, *target))


def _words(job: Job) -> Any:
    """Words in the matrix shape."""
    w, shape = job.words, job.shape
    if w is None or isinstance(w, WordAddress) or not plans.word_bits(job.q):
        return w
    array = w if device.on_device(w) else feed.upload(feed.same, np.asarray(w))
    if array.shape not in (job.logical_shape, shape):
        raise WordsError(f"words {array.dtype}{list(array.shape)} for elements {list(job.logical_shape)}", where="quantize",
                         remedy="one integer per element")  # fmt: skip
    return array.reshape(shape)


@feed.lasting
def _ones() -> Any:
    """One scale of 1."""
    return device.cupy().asarray(np.ones(1, np.float32))


@feed.lasting
def _limits(q: Quantizer, shifted: bool) -> Any:
    """Where elements are clipped (NaN: nowhere below), and beyond what they count as overflowed. shifted: they have zero points."""
    fmt = format_named(q.format)
    low, high = element_range(q, fmt)
    clip = shifted or (q.scale.rule != "none" and q.narrow and fmt.min < low)
    return device.cupy().asarray(np.array([low if clip else np.nan, high, *overflow_limits(q, fmt)], np.float32))


@feed.lasting
def _zeros(fmt: Format) -> Any:
    """Bit set of the codes whose value is 0; 0 for integers of many bits, where it is code 0."""
    if fmt.bits > 16:
        return 0
    codes = np.zeros(max(2**fmt.bits, 32), np.uint8)
    codes[: 2**fmt.bits] = fmt.decode(np.arange(2**fmt.bits)) == 0
    return device.cupy().asarray(np.packbits(codes, bitorder="little").view(np.uint32))
