"""Affine integers: `lpref.ref.quantize.quantize` of the rule affine with its bits, and the same operand by its values.

The scales and zero points are the definition's; the element pass is one kernel: scaled, rounded to nearest even or stochastically, shifted by
the zero point, clamped, counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lpref.accel.cpu import threads
from lpref.accel.cpu.embedded import ONE, Embedded
from lpref.accel.cpu.quantize_kernels import OPTIONS
from lpref.accel.cpu.random import bits, check
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import QTensor, Quantizer
from lpref.ref.quantize.elements import element_range, overflow_limits
from lpref.ref.quantize.further import further
from lpref.ref.quantize.packing import code_dtype, pack
from lpref.ref.quantize.qtensor import matrix_shape
from lpref.ref.quantize.quantize import check_tail, logical_view, resolve_words
from lpref.ref.random import WordAddress
from lpref.ref.rounding import default_word_bits, is_stochastic
from lpref.ref.scaling import affine_scales
from lpref.ref.scaling.minmax import known_ends

FAR = 2.0**22
"""No scaled element is farther from zero than codes have integers: it is clamped before it becomes one."""
MOST = np.finfo(np.float32).max
_NO_WORDS = np.empty((0, 0), np.uint16)


def covered(x: Any, q: Quantizer) -> bool:
    """Whether the kernel knows the quantizer; of a tensor with NaN or infinity both functions make nothing."""
    if q.scale.rule != "affine" or getattr(x, "dtype", None) != np.float32 or x.size == 0:
        return False
    word_bits = q.word_bits or default_word_bits(format_named(q.format).bits)
    known = q.rounding == "nearest_even" or (q.rounding == "stochastic" and word_bits in (8, 16))
    return known and q.overflow == "saturate" and format_named(q.format).bits <= 16 and x.ndim == 2


def quantize(x: NDArray, q: Quantizer, words: Any, k_axis: int, state: Mapping[str, Any] | None = None) -> QTensor | None:
    """Codes, scales and zero points."""
    view, axis = logical_view(x, k_axis)
    made = _elements(view, q, words, axis, state)
    if made is None:
        return None
    codes, _, scales, observed = made
    packed, levels = pack(codes, format_named(q.format).bits), (scales.codes, *scales.more)
    return QTensor(packed, levels, scales.tensor_scale, axis, view.shape, q, observed, scales.zero)


def embed(x: NDArray, q: Quantizer, words: Any, k_axis: int, state: Mapping[str, Any] | None = None) -> Embedded | None:
    """The values: code less zero point, times the block scale where there are several."""
    view, axis = logical_view(x, k_axis)
    made = _elements(view, q, words, axis, state)
    if made is None:
        return None
    _, values, scales, observed = made
    if scales.values.size == 1:
        return Embedded(values, np.float32(scales.tensor_scale * scales.values[0, 0]), axis, q, ONE, observed)
    br, bc = q.blocks.on(values.shape, axis)  # type: ignore[arg-type]
    spread = np.repeat(np.repeat(scales.values, br, axis=0)[: values.shape[0]], bc, axis=1)[:, : values.shape[1]]
    values *= spread
    return Embedded(values, scales.tensor_scale, axis, q, scales.values, observed, exact=False)


def _elements(
    x: NDArray, q: Quantizer, words: Any, axis: int, state: Mapping[str, Any] | None
) -> tuple[NDArray, NDArray[np.float32], Any, dict[str, Any]] | None:
    """(codes, code less zero point, scales, observations) of x; None where it holds NaN or infinity."""
    shape, fmt = matrix_shape(x.shape), format_named(q.format)
    check_tail(shape, axis, q)
    matrix = np.ascontiguousarray(x.reshape(shape))
    br, bc = q.blocks.on(shape, axis)
    grid = q.blocks.grid(shape, axis)
    lowest, largest = np.zeros(grid, np.float32), np.zeros(grid, np.float32)
    if not extremes(matrix, br, bc, lowest, largest):
        return None
    amax = np.float32(max(np.max(largest), -np.min(lowest)))
    low, high = element_range(q, fmt)
    scales = affine_scales(*(known_ends(q.scale, state) or (lowest, largest)), float(low), float(high), q.scale)  # type: ignore[call-arg]
    given = _words(words, q, fmt, x.shape)
    zero = np.ascontiguousarray(scales.zero, np.float32)
    codes, values = np.empty(shape, code_dtype(fmt.bits) if fmt.bits >= 8 else np.uint8), np.empty(shape, np.float32)
    limits = np.array([low, high, *overflow_limits(q, fmt)], np.float64)
    head = (matrix, br, bc, scales.factor, zero, scales.operation == "divide", limits, (1 << fmt.bits) - 1, given[0], given[1], codes, values)
    parts = threads.split(shape[0], lambda r0, r1: affine_rows(*head, r0, r1), br if br < shape[0] else 1, max(1, threads.GRAIN // max(shape[1], 1)))
    observed = {"amax": amax, "count": matrix.size, "overflowed": sum(p[0] for p in parts), "underflowed": sum(p[1] for p in parts)}
    return codes, values, scales, observed | further(matrix, scales.values, q, axis, state)


def _words(words: Any, q: Quantizer, fmt: Any, shape: tuple[int, ...]) -> tuple[NDArray[np.uint16], int]:
    """(one word an element [R, C], bits of a word); none for nearest."""
    if not is_stochastic(q.rounding):
        return _NO_WORDS, 0
    r, matrix = q.word_bits or default_word_bits(fmt.bits), matrix_shape(shape)
    if isinstance(words, WordAddress) and words.start < 1 << 62:
        count = matrix[0] * matrix[1]
        check(words.seed, words.stream, words.step, words.start, count, r)
        return bits(words.seed, words.stream, words.step, words.start, count, r).astype(np.uint16, copy=False).reshape(matrix), r
    given = resolve_words(words, q, fmt, shape)
    assert given is not None, "stochastic rounding has words"
    return (given.astype(np.int64) & ((1 << r) - 1)).astype(np.uint16).reshape(matrix), r


@njit(**OPTIONS)
def extremes(x, br, bc, lowest, largest):  # type: ignore[no-untyped-def]
    """min(x, 0) and max(x, 0) of every block, into arrays of zeros; False where an element is not finite."""
    bad = 0
    for r in range(x.shape[0]):
        for first in range(0, x.shape[1], bc):
            low, high = lowest[r // br, first // bc], largest[r // br, first // bc]
            for c in range(first, min(first + bc, x.shape[1])):
                v = x[r, c]
                low, high = min(low, v), max(high, v)
                bad += not abs(v) <= MOST
            lowest[r // br, first // bc], largest[r // br, first // bc] = low, high
    return bad == 0


@njit(**OPTIONS)
def affine_rows(x, br, bc, factors, zeros, divide, limits, mask, words, bits, codes, values, r0, r1):  # type: ignore[no-untyped-def]
    """Rows r0 .. r1 of codes and of values (code less zero point); (overflowed, underflowed)."""
    over, under, whole = 0, 0, np.float64(np.int64(1) << bits)
    for r in range(r0, r1):
        for first in range(0, x.shape[1], bc):
            last = min(first + bc, x.shape[1])
            factor, z = factors[r // br, first // bc], np.float64(zeros[r // br, first // bc])
            for c in range(first, last):
                scaled = np.float64(x[r, c] / factor if divide else x[r, c] * factor)
                shifted = scaled + z
                over += (shifted > limits[3]) | (shifted < limits[2])
                u = min(max(scaled, -FAR), FAR)
                if bits:
                    a = abs(u)
                    n = np.floor(a)
                    n += np.floor((a - n) * whole) + np.float64(words[r, c]) >= whole
                    n = n if u > 0 else -n
                else:
                    n = np.rint(u)
                v = min(max(n + z, limits[0]), limits[1])
                codes[r, c] = np.int64(v) & mask
                values[r, c] = np.float32(v - z)
                under += (v == z) & (x[r, c] != 0)
    return over, under
