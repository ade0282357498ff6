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
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.accel.cpu import plain, quantize_kernels, table_kernels, threads
from lpref.accel.cpu.cast_plan import float_fields
from lpref.accel.cpu.hadamard import hadamard
from lpref.accel.cpu.rht_kernels import LANES, along_rows, down_columns
from lpref.ref import quantize as ref
from lpref.ref import scaling
from lpref.ref.errors import ShapeError
from lpref.ref.formats import FloatFormat, Format, IntFormat
from lpref.ref.formats import format as format_named
from lpref.ref.linalg import hadamard as ref_hadamard
from lpref.ref.quantize import QTensor, Quantizer
from lpref.ref.quantize.packing import code_dtype, row_bytes
from lpref.ref.quantize.qtensor import matrix_shape
from lpref.ref.quantize.quantize import (
    block_scales,
    check_tail,
    element_range,
    logical_view,
    overflow_limits,
    resolve_words,
)
from lpref.ref.random import WordAddress
from lpref.ref.rounding import OVERFLOW, default_word_bits, is_stochastic
from lpref.ref.scaling.nvfp4 import global_encode_scale

Hadamard = tuple[int, str, NDArray | None]
"""(size, axis "k" or "other", signs or None)"""


@dataclass(frozen=True, eq=False)
class Embedded:
    """A quantized operand by its values: x^ = values x tensor_scale.

    values        float32 [R, C]: element x block scale, one rounding where the product has more than 24 bits (float32 scales)
    tensor_scale  float32; with one scale for the whole tensor the values are the bare elements and this is the scale
    grid          float32 block scales that are part of the values; [[1]] where the tensor scale has the only one
    exact         whether every value is the exact product
    """

    values: NDArray[np.float32]
    tensor_scale: np.float32
    k_axis: int
    quantizer: Quantizer
    grid: NDArray[np.float32]
    observed: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = True

    @property
    def logical_shape(self) -> tuple[int, int]:
        rows, columns = self.values.shape
        return rows, columns

    @property
    def block(self) -> tuple[int, int]:
        """As `QTensor.block`."""
        return self.quantizer.blocks.on(self.logical_shape, self.k_axis)

    def scale_values(self) -> NDArray[np.float32]:
        """The block scales of `grid`; times `tensor_scale` they are what elements are multiplied with."""
        return self.grid

    def dequantize(self, dtype: Any = np.float32) -> NDArray:
        """The values, tensor scale included: the product in float64, rounded once to `dtype`."""
        return (self.values.astype(np.float64) * np.float64(self.tensor_scale)).astype(dtype)

    def transpose(self) -> Embedded:
        """As `QTensor.transpose`; the values are not copied."""
        if self.quantizer.scale.rule != "none" and not self.quantizer.blocks.transpose_closed:
            raise ShapeError("the blocks are not transpose-closed", where="Embedded.transpose", remedy="quantize the transposed tensor")
        return replace(self, values=self.values.T, grid=self.grid.T)


@dataclass(frozen=True)
class Plan:
    """The constants of a quantizer's kernels."""

    bits: int
    stochastic: int
    target: float
    limits: NDArray[np.float32]
    fields: NDArray[np.int32]
    mx: tuple[int, int, int, np.float32]
    table: table_kernels.Table | None = None


DEFINED = frozenset({"affine", "double", "flexpoint", "quartic", "s2fp8", "trit_planes", "twn"})
"""Rules without a kernel: they take the definition."""


@cache
def plan_of(q: Quantizer) -> Plan | None:
    """The plan, or None where the kernels do not cover the quantizer."""
    if q.scale.rule in DEFINED:
        return None
    fmt = format_named(q.format)
    if q.scale.rule == "none" or not 1 <= fmt.bits <= 16:
        return None
    stochastic = (q.word_bits or default_word_bits(fmt.bits)) if is_stochastic(q.rounding) else 0
    if stochastic not in (0, 8, 16):
        return None
    low, high = element_range(q, fmt)
    limits = np.array([low, high, *overflow_limits(q, fmt)], np.float32)
    target = fmt.max if q.scale.target is None else q.scale.target
    precision = fmt.precision or 1
    mx = _mx(q.scale.mode, target, precision)
    fields = _fields(q, fmt)
    if fields is not None:
        return Plan(fmt.bits, stochastic, target, limits, fields, mx)
    table = table_kernels.table_of(q, stochastic)
    return None if table is None else Plan(fmt.bits, stochastic, target, limits, np.zeros(5, np.int32), mx, table)


def _mx(mode: str, target: float, precision: int) -> tuple[int, int, int, np.float32]:
    """What `quantize_kernels.mx_grid` is told of a mode: its number, emax, the threshold of the fraction, and the target."""
    if mode in ("rceil", "tetrajet"):
        return (1, 0, 1, np.float32(1) / np.float32(target)) if mode == "rceil" else (2, 0, 1, np.float32(target))
    mantissa, exponent = math.frexp(target)
    threshold = {"floor": 1 << 23, "even": (1 << 23) - (1 << max(23 - precision, 0)), "ceil": 1, "midmax": math.ceil(math.ldexp(mantissa, 23))}
    return 0, exponent - 1, threshold[mode], np.float32(1)


def _fields(q: Quantizer, fmt: Format) -> NDArray[np.int32] | None:
    """What the rounding by arithmetic is told (`quantize_kernels.run`); None where there is a table at best."""
    if q.rounding not in ("nearest_even", "stochastic") or OVERFLOW.get(q.overflow) != OVERFLOW["saturate"] or not fmt.signed or fmt.bits < 2:
        return None
    if isinstance(fmt, IntFormat) and fmt.min_subnormal == 1:
        return np.array([(126 + fmt.bits) << 23, (24 - fmt.bits) << 23, fmt.bits - 1, fmt.bits, 1], np.int32)
    if isinstance(fmt, FloatFormat) and fmt.zero == "signed" and float_fields(fmt) is not None:
        trailing = fmt.trailing_bits
        return np.array([(127 + fmt.emin) << 23, (23 - trailing) << 23, trailing, fmt.bits, 0], np.int32)
    return None


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the passes share: the 2-D operand (transformed), its blocks, and the scales of the grid."""

    x: NDArray[np.float32]
    shape: tuple[int, ...]
    axis: int
    block: tuple[int, int]
    amax: np.float32
    scales: scaling.BlockScales


def quantize(
    x: Any, q: Quantizer | str, *, state: Mapping[str, Any] | None = None, amax: Any = None, words: Any = None, k_axis: int = -1
) -> QTensor:
    """`lpref.ref.quantize.quantize`, with its bits."""
    q = ref.lookup(q) if isinstance(q, str) else q
    if plain.covered(x, q):
        view, axis = logical_view(x, k_axis)
        return plain.quantize(view, q, words, axis)
    plan = plan_of(q)
    ready = None if plan is None else prepare(x, q, plan, state=state, amax=amax, k_axis=k_axis)
    if plan is None or ready is None:
        return ref.quantize(x, q, state=state, amax=amax, words=words, k_axis=k_axis)
    rows, columns = matrix_shape(ready.shape)
    codes = np.empty((rows, row_bytes(columns, plan.bits)), code_dtype(plan.bits))
    counts = run(ready, plan, q, words, values=_NO_VALUES, codes=codes.reshape(ready.x.shape[0], -1))
    observed = _observed(ready, counts)
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
    ready = None if plan is None else prepare(x, q, plan, state=state, amax=amax, k_axis=k_axis, transforms=transforms)
    if plan is None or ready is None:
        x, axis = logical_view(x, k_axis)
        for size, kind, signs in transforms:
            x = hadamard(np.asarray(x, np.float32), size, axis=axis if kind == "k" else 1 - axis, signs=signs)
        if plain.covered(x, q):
            cast, seen = plain.values(x, q, words)
            return Embedded(cast, np.float32(1), axis, q, _ONE, seen)
        return embedded(ref.quantize(x, q, state=state, amax=amax, words=words, k_axis=k_axis))
    single = ready.scales.values.size == 1
    values = ready.x if ready.x is not x and transforms else np.empty(ready.x.shape, np.float32)
    counts = run(ready, plan, q, words, values=values, codes=None, bare=single)
    tensor_scale = np.float32(ready.scales.tensor_scale * ready.scales.values[0, 0]) if single else ready.scales.tensor_scale
    observed = _observed(ready, counts)
    grid = _ONE if single else ready.scales.values.reshape(_grid(ready, q))
    exact = single or q.scale.format != "float32"
    return Embedded(values.reshape(matrix_shape(ready.shape)), tensor_scale, ready.axis, q, grid, observed, exact)


def embedded(t: QTensor) -> Embedded:
    """The embedding of a `QTensor`."""
    if not t.linear:
        return Embedded(matrix_of(t), np.float32(1), t.k_axis, t.quantizer, _ONE, t.observed, exact=False)
    scale = t.scale_values()
    if scale.size == 1:
        return Embedded(t.element_values().astype(np.float32), np.float32(t.tensor_scale * scale[0, 0]), t.k_axis, t.quantizer, _ONE, t.observed)
    br, bc = t.block
    spread = np.repeat(np.repeat(scale, br, axis=0)[: t.shape[0]], bc, axis=1)[:, : t.shape[1]]
    with np.errstate(over="ignore", invalid="ignore"):
        values = (t.element_values() * spread).astype(np.float32)
    return Embedded(values, t.tensor_scale, t.k_axis, t.quantizer, scale, t.observed, exact=t.quantizer.scale.format != "float32")


def matrix_of(t: QTensor) -> NDArray[np.float32]:
    """The values [R, C], rounded once to float32."""
    return np.asarray(t.dequantize(np.float32)).reshape(t.shape)


_ONE = np.ones((1, 1), np.float32)
_NO_VALUES, _NO_WORDS = np.empty((0, 0), np.float32), np.empty((0, 0), np.int32)


def _grid(ready: Prepared, q: Quantizer) -> tuple[int, int]:
    return q.blocks.grid(matrix_shape(ready.shape), ready.axis)


def _observed(ready: Prepared, counts: tuple[int, int]) -> dict[str, Any]:
    return {"amax": ready.amax, "count": ready.x.size, "overflowed": counts[0], "underflowed": counts[1]}


def prepare(
    x: Any, q: Quantizer, plan: Plan, *, state: Mapping[str, Any] | None, amax: Any, k_axis: int, transforms: tuple[Hadamard, ...] = ()
) -> Prepared | None:
    """Transform, amax of every block, scales; None where the tensor is empty or holds NaN or infinity."""
    x, axis = logical_view(x, k_axis)
    shape = matrix_shape(x.shape)
    check_tail(shape, axis, q)
    matrix = np.ascontiguousarray(x.reshape(shape), np.float32)
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
    scales = _grid_scales(matrix, top, tensor_amax, q, plan, axis, state, amax)
    if np.isnan(scales.tensor_scale) or not np.isfinite(scales.factor).all():
        return None
    flat = _reshaped(matrix, block)
    if flat is not matrix:
        cells = (flat.shape[0] // block[0], flat.shape[1] // block[1])
        scales = replace(scales, values=scales.values.reshape(cells), factor=scales.factor.reshape(cells))
        matrix = flat
    return Prepared(matrix, x.shape, axis, block, np.float32(tensor_amax), scales)


def _reshaped(x: NDArray, block: tuple[int, int]) -> NDArray:
    """A few long rows as many shorter ones, where blocks are runs inside a row: threads and caches then have rows to work on."""
    (rows, columns), (br, bc) = x.shape, block
    unit = math.lcm(bc, 8)  # packed rows end on whole bytes
    width = unit * max(1, 1024 // unit)
    if br != 1 or rows >= 64 or columns % width or columns == width:
        return x
    return x.reshape(rows * (columns // width), width)


def _amax_pass(
    x: NDArray[np.float32], axis: int, block: tuple[int, int], grid: tuple[int, int], transform: Hadamard | None
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """(x after `transform`, magnitude bits of the largest element of every block), in one pass."""
    rows, columns = x.shape
    br, bc = block
    target, size, first, signs = x, 1, True, _NO_VALUES
    if transform is not None:
        size, kind, given = transform
        first = (axis if kind == "k" else 1 - axis) == 0
        signs = _checked_signs(given, size, rows if first else columns)
        target = np.empty(x.shape, np.float32)
    norm = np.float32(1.0 / math.sqrt(size))
    whole = br >= rows  # one row of blocks: every part measures its own, the maximum of all is taken
    align = math.lcm(1 if whole else br, size if transform is not None and first else LANES)
    top = np.zeros(grid, np.int32)

    def work(r0: int, r1: int) -> NDArray[np.int32]:
        if transform is not None:
            (down_columns if first else along_rows)(x, target, signs, size, norm, r0, r1)
        mine = np.zeros((1, grid[1]), np.int32) if whole else top
        quantize_kernels.amax_rows(target, br, bc, mine, r0, r1, 0)
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


def has_grid_kernel(scale: scaling.Scale) -> bool:
    """Whether the scales of the block grid have a kernel here: the modes of mx, and NVFP4 after TransformerEngine."""
    if scale.rule == "mx":
        return True
    return scale.rule == "nvfp4" and scale.apply == "te_nvfp4" and scale.select == "none"


def _grid_scales(
    x: NDArray[np.float32], top: NDArray[np.int32], tensor_amax: np.float32, q: Quantizer, plan: Plan, axis: int,
    state: Mapping[str, Any] | None, amax: Any,
) -> scaling.BlockScales:  # fmt: skip
    """The rule's page on the grid: kernels for the two rules with small blocks, the definition itself for the others."""
    rule = q.scale.rule
    if not has_grid_kernel(q.scale) or (amax is not None and rule == "mx"):
        return block_scales(x, top.view(np.float32), tensor_amax, q, format_named(q.format), axis, state, amax)
    values, factors = np.empty(top.shape, np.float32), np.empty(top.shape, np.float32)
    codes = np.empty(top.shape, np.uint8)
    flat = [a.reshape(-1) for a in (top, codes, values, factors)]
    if rule == "mx":
        mode, emax, threshold, inverse = plan.mx
        quantize_kernels.mx_grid(flat[0], np.int32(mode), np.int32(emax), np.int32(threshold), inverse, *flat[1:])
        return scaling.BlockScales(codes, values, factors, "multiply", np.float32(1) / np.float32(q.scale.multiplier))
    chosen = tensor_amax if amax is None else np.float32(amax)
    encode = global_encode_scale(chosen, plan.target)
    with np.errstate(over="ignore", under="ignore"):
        mult, inverse = encode * (np.float32(1) / np.float32(plan.target)), np.float32(1) / encode
    quantize_kernels.nvfp4_grid(flat[0], mult, inverse, *flat[1:])
    return scaling.BlockScales(codes, values, factors, "multiply", np.float32(chosen / np.float32(448 * plan.target)))


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
    head = (x, br, bc, s.factor, shown, s.operation == "divide", np.float32(q.scale.multiplier), plan.limits)

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
        words.bits(0, plan.stochastic)  # raises for an address out of range
        return np.array([words.start, words.step, words.stream, words.seed], np.uint64), _NO_WORDS
    given = resolve_words(words, q, format_named(q.format), ready.shape)
    if given is None:
        return np.zeros(4, np.uint64), _NO_WORDS
    low = given.astype(np.int64, copy=False) & ((1 << plan.stochastic) - 1)
    return np.zeros(4, np.uint64), np.ascontiguousarray(low, np.int32).reshape(ready.x.shape)
