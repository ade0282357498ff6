"""`lpref.ref.quantize.quantize`, fast, and its values embedded in float32 for the matrix product of a training step.

    quantize   the same codes, scales, tensor scale and observations, bit for bit
    embed      element x block scale in float32 (one value per element, one read of x), the tensor scale beside it; a Hadamard transform
               may come first, fused into the pass that measures amax

Plain casts are in `plain`. Float and integer elements are rounded by arithmetic to nearest even or stochastically (`quantize_kernels`), all
others by table (`table_kernels`). What has no table (32-bit words, casts that raise), and a tensor that holds NaN or infinity, take the
definition itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.accel.cpu import affine, grid_kernels, minmax, plain, quantize_kernels, s2fp8, table_kernels, threads
from lpref.accel.cpu.block_scales import grid_scales
from lpref.accel.cpu.codes import Codes
from lpref.accel.cpu.embedded import ONE, Embedded, embedded
from lpref.accel.cpu.four_over_six import fitting_rows
from lpref.accel.cpu.hadamard import hadamard
from lpref.accel.cpu.quantize_plan import Plan, plan_of
from lpref.accel.cpu.random import check
from lpref.accel.cpu.rht_kernels import LANES, along_rows, down_columns
from lpref.ref import quantize as ref
from lpref.ref import scaling
from lpref.ref.formats import format as format_named
from lpref.ref.linalg import hadamard as ref_hadamard
from lpref.ref.quantize import QTensor, Quantizer
from lpref.ref.quantize.further import REMEMBER, further
from lpref.ref.quantize.packing import code_dtype, row_bytes
from lpref.ref.quantize.qtensor import matrix_shape
from lpref.ref.quantize.quantize import check_tail, logical_view, resolve_words
from lpref.ref.random import WordAddress

Hadamard = tuple[int, str, NDArray | None]
"""(size, axis "k" or "other", signs or None)"""


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the passes share: the 2-D operand (transformed), its blocks, and the scales of the grid.

    Rows of x may be several rows of the operand, each `period` elements, which lie in the same blocks.
    """

    x: NDArray[np.float32]
    shape: tuple[int, ...]
    axis: int
    block: tuple[int, int]
    amax: np.float32
    scales: scaling.BlockScales
    period: int


def quantize(
    x: Any, q: Quantizer | str, *, state: Mapping[str, Any] | None = None, amax: Any = None, words: Any = None, k_axis: int = -1
) -> Codes:
    """`lpref.ref.quantize.quantize`, with its bits."""
    return Codes.of(_quantized(x, ref.lookup(q) if isinstance(q, str) else q, state, amax, words, k_axis))


def _quantized(x: Any, q: Quantizer, state: Mapping[str, Any] | None, amax: Any, words: Any, k_axis: int) -> QTensor:
    if plain.covered(x, q):
        view, axis = logical_view(x, k_axis)
        return plain.quantize(view, q, words, axis)
    if affine.covered(x, q) and amax is None and (shifted := affine.quantize(x, q, words, k_axis, state)) is not None:
        return shifted
    if minmax.covered(x, q) and (spanned := minmax.quantize(x, q, state, words, k_axis)) is not None:
        return spanned
    if q.scale.rule == "s2fp8" and amax is None and (logarithmic := _s2fp8(x, q, words, k_axis)) is not None:
        return logarithmic
    plan = plan_of(q)
    ready = None if plan is None else prepare(x, q, plan, state=state, amax=amax, k_axis=k_axis)
    if plan is None or ready is None:
        return ref.quantize(x, q, state=state, amax=amax, words=words, k_axis=k_axis)
    rows, columns = matrix_shape(ready.shape)
    codes = np.empty((rows, row_bytes(columns, plan.bits)), code_dtype(plan.bits))
    counts = run(ready, plan, q, words, values=_NO_VALUES, codes=codes.reshape(ready.x.shape[0], -1))
    observed = _observed(ready, counts, q, state)
    s = ready.scales
    return QTensor(codes, (s.codes.reshape(_grid(ready, q)),), s.tensor_scale, ready.axis, ready.shape, q, observed)


def embed(
    x: Any, q: Quantizer | str, *, state: Mapping[str, Any] | None = None, amax: Any = None, words: Any = None, k_axis: int = 1,
    transforms: tuple[Hadamard, ...] = (),
) -> Embedded:  # fmt: skip
    """x [R, C], transformed, quantized and decoded again without its tensor scale: the float32 operand of a matrix product.

    The codes and observations are those of ``quantize(hadamard(x, ...), q, ...)``.
    """
    q = ref.lookup(q) if isinstance(q, str) else q
    plan = plan_of(q)
    if plan is not None and plan.table is not None and not plan.table.exact:
        for size, kind, signs in transforms:
            x = hadamard(x, size, axis=k_axis if kind == "k" else 1 - k_axis, signs=signs)
        return replace(embedded(quantize(x, q, state=state, amax=amax, words=words, k_axis=k_axis)), exact=False)
    ready = None if plan is None else prepare(x, q, plan, state=state, amax=amax, k_axis=k_axis, transforms=transforms)
    if plan is None or ready is None:
        x, axis = logical_view(x, k_axis)
        for size, kind, signs in transforms:
            x = hadamard(np.asarray(x, np.float32), size, axis=axis if kind == "k" else 1 - axis, signs=signs)
        if plain.covered(x, q):
            cast, seen = plain.values(x, q, words)
            return Embedded(cast, np.float32(1), axis, q, ONE, seen)
        if affine.covered(x, q) and amax is None and (shifted := affine.embed(x, q, words, axis, state)) is not None:
            return shifted
        if minmax.covered(x, q) and (shifted := minmax.embed(x, q, state, words, axis)) is not None:
            return shifted
        return embedded(quantize(x, q, state=state, amax=amax, words=words, k_axis=k_axis))
    single = ready.scales.values.size == 1
    values = ready.x if ready.x is not x and transforms else np.empty(ready.x.shape, np.float32)
    counts = run(ready, plan, q, words, values=values, codes=None, bare=single)
    tensor_scale = np.float32(ready.scales.tensor_scale * ready.scales.values[0, 0]) if single else ready.scales.tensor_scale
    observed = _observed(ready, counts, q, state)
    grid = ONE if single else ready.scales.values.reshape(_grid(ready, q))
    exact = single or q.scale.format != "float32"
    return Embedded(values.reshape(matrix_shape(ready.shape)), tensor_scale, ready.axis, q, grid, observed, exact)


def _s2fp8(x: Any, q: Quantizer, words: Any, k_axis: int) -> QTensor | None:
    """Rule s2fp8; None where the definition has to make it."""
    view, axis = logical_view(x, k_axis)
    shape, plan = matrix_shape(view.shape), plan_of(s2fp8.bare(q))
    if plan is None or plan.bits < 8 or view.dtype != np.float32 or not view.size:
        return None
    matrix = np.ascontiguousarray(view.reshape(shape))
    found = s2fp8.squeezed(matrix, q)
    if found is None:
        return None
    elements, top, one, aux = found
    ready = Prepared(elements, shape, 1, shape, top, scaling.BlockScales(one, one, one, "multiply"), shape[1])
    codes = np.empty(shape, code_dtype(plan.bits))
    over, _ = run(ready, plan, s2fp8.bare(q), words, values=_NO_VALUES, codes=codes)
    observed = {"amax": top, "count": view.size, "overflowed": over, "underflowed": s2fp8.lost(codes, q, matrix)}
    return QTensor(codes, (), np.float32(1), axis, view.shape, q, observed, aux=aux)


_NO_VALUES, _NO_WORDS = np.empty((0, 0), np.float32), np.empty((0, 0), np.int32)


def _grid(ready: Prepared, q: Quantizer) -> tuple[int, int]:
    return q.blocks.grid(matrix_shape(ready.shape), ready.axis)


def _observed(ready: Prepared, counts: tuple[int, int], q: Quantizer, state: Mapping[str, Any] | None) -> dict[str, Any]:
    found = {"amax": ready.amax, "count": ready.x.size, "overflowed": counts[0], "underflowed": counts[1]}
    if q.scale.rule == "flexpoint":  # to nearest, the largest mantissa is that of the largest element
        found["top"] = int(min(np.rint(ready.amax / ready.scales.values.flat[0]), 2.0 ** (format_named(q.format).bits - 1) - 1))
    if q.scale.rule not in REMEMBER:
        return found
    return found | further(ready.x.reshape(matrix_shape(ready.shape)), ready.scales.values.reshape(_grid(ready, q)), q, ready.axis, state)


def prepare(
    x: Any, q: Quantizer, plan: Plan, *, state: Mapping[str, Any] | None, amax: Any, k_axis: int, transforms: tuple[Hadamard, ...] = ()
) -> Prepared | None:
    """Transform, amax of every block, scales; None where the tensor is empty or holds NaN or infinity, or has zero points."""
    x, axis = logical_view(x, k_axis)
    shape = matrix_shape(x.shape)
    check_tail(shape, axis, q)
    matrix = x.reshape(shape)
    if matrix.dtype != np.float32 or transforms:
        matrix = np.ascontiguousarray(matrix, np.float32)
    if matrix.size == 0:
        return None
    for size, kind, signs in transforms[:-1]:
        matrix = hadamard(matrix, size, axis=axis if kind == "k" else 1 - axis, signs=signs)
    block = q.blocks.on(shape, axis)
    grid = q.blocks.grid(shape, axis)
    last = transforms[-1] if transforms else None
    matrix, top = _amax_pass(matrix, axis, block, grid, last)
    largest = np.max(top)
    if largest >= quantize_kernels.EXPONENT:
        return None
    tensor_amax = largest.view(np.float32)
    scales = grid_scales(matrix, top, tensor_amax, q, plan, axis, state, amax)
    if scales.zero is not None or np.isnan(scales.tensor_scale) or not np.isfinite(scales.factor).all():
        return None
    flat = fitting_rows(matrix, block)
    if flat is not matrix:
        cells = (flat.shape[0] // block[0], flat.shape[1] // block[1])
        scales = replace(scales, values=scales.values.reshape(cells), factor=scales.factor.reshape(cells))
        matrix = flat
    (rows, period), (br, bc) = matrix.shape, block
    if br > 1 and rows % br == 0 and period % 8 == 0 and br * period <= quantize_kernels.TILE // 2:
        matrix, block = matrix.reshape(rows // br, br * period), (1, bc)  # all that a row costs beside its elements is paid once
    return Prepared(matrix, x.shape, axis, block, np.float32(tensor_amax), scales, period)


def _amax_pass(
    x: NDArray[np.float32], axis: int, block: tuple[int, int], grid: tuple[int, int], transform: Hadamard | None
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """(x after `transform`, or contiguous; magnitude bits of the largest element of every block), in one pass."""
    rows, columns = x.shape
    br, bc = block
    target, size, first, signs = x, 1, True, _NO_VALUES
    if transform is not None:
        size, kind, given = transform
        first = (axis if kind == "k" else 1 - axis) == 0
        signs = _checked_signs(given, size, rows if first else columns)
    if transform is not None or not x.flags.c_contiguous:
        target = np.empty(x.shape, np.float32)
    norm = np.float32(1.0 / math.sqrt(size))
    whole = br >= rows  # one row of blocks: every part measures its own, the maximum of all is taken
    align = math.lcm(1 if whole else br, size if transform is not None and first else LANES)
    top = np.zeros(grid, np.int32)

    def work(r0: int, r1: int) -> NDArray[np.int32]:
        if transform is not None:
            (down_columns if first else along_rows)(x, target, signs, size, norm, r0, r1)
        elif target is not x:
            target[r0:r1] = x[r0:r1]
        mine = np.zeros((1, grid[1]), np.int32) if whole else top
        if br == 1 and columns % bc == 0:  # the blocks of all rows are those of one long row
            found = mine if whole else mine[r0:r1]
            grid_kernels.amax_rows(target[r0:r1].reshape(1, -1), 1, bc, found.reshape(1, -1), 0, 1, 0)
        else:
            grid_kernels.amax_rows(target, br, bc, mine, r0, r1, 0)
        return mine

    parts = threads.split(rows, work, align, max(align, threads.GRAIN // max(columns, 1)))
    return target, np.maximum.reduce(parts) if whole else top


def _checked_signs(signs: NDArray | None, size: int, length: int) -> NDArray[np.float32]:
    if size < 2 or size & (size - 1) or length % size:
        ref_hadamard(np.zeros((1, length), np.float32), size)  # raises, naming the values
    if signs is None:
        return np.ones(length, np.float32)
    spread = np.asarray(signs, np.float32).reshape(-1)
    if spread.size not in (size, length) or not np.array_equal(np.abs(spread), np.ones_like(spread)):
        ref_hadamard(np.zeros((1, length), np.float32), size, signs=signs)  # raises, naming the values
    return np.resize(spread, length)


def run(
    ready: Prepared, plan: Plan, q: Quantizer, words: Any, *, values: NDArray, codes: NDArray | None, bare: bool = False
) -> tuple[int, int]:  # fmt: skip
    """The element pass; returns (overflowed, underflowed). bare: values without their scale."""
    x, (br, bc) = ready.x, ready.block
    rows, columns = x.shape
    s = ready.scales
    shown = np.ones_like(s.values) if bare else s.values
    align = 1 if br >= rows else br
    grain = max(align, threads.GRAIN // max(columns, 1))
    address, given = _words(words, plan, q, ready)
    head = (x, br, bc, ready.period, s.factor, shown, s.operation == "divide", np.float32(q.scale.multiplier), plan.limits)

    def work(r0: int, r1: int) -> tuple[int, int]:
        if plan.table is None:
            return quantize_kernels.run(*head, plan.fields, given, plan.stochastic, address, values, codes, r0, r1)
        t = plan.table
        args = (*head, t.clip, t.table, t.values, t.variant, given, plan.stochastic, address, values, codes, plan.bits, r0, r1)
        return table_kernels.run(*args)

    parts = threads.split(rows, work, align, grain)
    return sum(p[0] for p in parts), sum(p[1] for p in parts)


def _words(words: Any, plan: Plan, q: Quantizer, ready: Prepared) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """(start, step, stream, seed) of an address, or the given words [R, C]."""
    if plan.stochastic and isinstance(words, WordAddress) and words.start < 1 << 62:
        stream = words.stream
        check(words.seed, stream, words.step, words.start, 0, plan.stochastic)
        return np.array([words.start, words.step, stream, words.seed], np.uint64), _NO_WORDS
    given = resolve_words(words, q, format_named(q.format), ready.shape)
    if given is None:
        return np.zeros(4, np.uint64), _NO_WORDS
    low = given.astype(np.int64, copy=False) & ((1 << plan.stochastic) - 1)
    return np.zeros(4, np.uint64), np.ascontiguousarray(low, np.int32).reshape(ready.x.shape)
