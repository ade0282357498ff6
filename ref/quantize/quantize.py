r"""`quantize`: a tensor becomes codes and scales.

    1. x as the 2-D logical array ``[R, C]``, float32 (float64 input is rounded once; plain casts read it exactly).
    2. Block scales by the quantizer's rule (the pages of `lpref.ref.scaling`).
    3. u = x / factor or x * factor, then * multiplier, float32, as the rule's page says; u = 0 in a block whose scale is NaN.
       Rules that are no quotient (twn, s2fp8, trit_planes) say u themselves.
    4. Narrow integers: u clamped to +-(2^(b-1) - 1).
    5. code = encode(u) under the quantizer's rounding and overflow; stochastic words are indexed row-major in ``[R, C]``,
       whatever the blocks, the contraction axis or the packing. With zero points: code = clamp(round(u) + z).

Nothing is mutated; what `update_state` needs comes back in `QTensor.observed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import FormatError, ShapeError, WordsError
from lpref.ref.formats import Format, vector_format
from lpref.ref.formats import format as format_named
from lpref.ref.formats.complex_quartic import QuarticFormat
from lpref.ref.formats.integers import integer
from lpref.ref.quantize.block_scales import block_scales, refuse_non_finite, statistics
from lpref.ref.quantize.elements import beyond, element_range, overflow_limits
from lpref.ref.quantize.further import REMEMBER, further
from lpref.ref.quantize.packing import code_dtype, pack
from lpref.ref.quantize.qtensor import QTensor, decoded, matrix_shape
from lpref.ref.quantize.quantizer import Quantizer
from lpref.ref.quantize.registry import lookup
from lpref.ref.random import WordAddress
from lpref.ref.rounding import default_word_bits, is_stochastic
from lpref.ref.scaling import BlockScales, quartic_scales
from lpref.ref.scaling.statistics import blocked, unblocked

__all__ = ["check_tail", "element_range", "logical_view", "overflow_limits", "quantize", "resolve_words"]

WIDE_BITS = 24
"""Integers before their zero point is added: |x / s| is at most 2^16 where s is measured."""


def quantize(
    x: Any,
    q: Quantizer | str,
    *,
    state: Mapping[str, Any] | None = None,
    amax: Any = None,
    words: NDArray | WordAddress | None = None,
    k_axis: int = -1,
) -> QTensor:
    """Codes and scales of `x` under `q`.

    x       array of any shape; leading axes are flattened, the last one is k (``k_axis`` -1), or for matrices also axis 0
    state   what `init_state` and `update_state` return: delayed and learned scales; flexpoint without one settles on x first
    amax    replaces the measured amax: the tensor's for nvfp4, one per block (or a scalar) for amax, te, mx
    words   stochastic rounding: unsigned integers of x's shape, of which the low `word_bits` count, or a `WordAddress`

    Errors: ShapeError (axes, tails, grids), WordsError, NonFiniteError (policy), FormatError, SpecError.

    >>> t = quantize(np.float32([[1, -2, 3, 100]]), "int8_row")
    >>> t.unpacked().astype(np.int8).tolist(), t.scale_values().tolist()
    ([[1, -3, 4, 127]], [[0.787401556968689]])
    """
    q = lookup(q) if isinstance(q, str) else q
    if q.scale.rule == "quartic":
        return quantize_quartic(x, q, k_axis)
    x, axis = logical_view(x, k_axis)
    shape, fmt = matrix_shape(x.shape), format_named(q.format)
    matrix = x.reshape(shape)
    check_tail(shape, axis, q)
    words = resolve_words(words, q, fmt, x.shape)
    if q.scale.rule == "none":
        return _plain_cast(matrix, x.shape, axis, q, fmt, words)
    matrix = np.ascontiguousarray(matrix, np.float32)
    block = q.blocks.on(shape, axis)
    found, tensor_amax = statistics(matrix, block, q)
    scales = block_scales(matrix, found, tensor_amax, q, fmt, axis, state, amax)
    codes, values, overflowed = _cast(matrix, scales, block, q, fmt, words)
    lost = (values == 0) & (matrix != 0)
    observed = {"amax": tensor_amax, "count": matrix.size, "overflowed": overflowed}
    if scales.residual is not None:
        second = _second_plane(matrix, scales.residual, block, q, fmt, axis, x.shape)
        lost &= second.element_values() == 0
    else:
        second = None
    vanished, dead = scales.values == 0, np.isnan(scales.values)
    if vanished.any():
        lost |= _spread(vanished, matrix, block) & (matrix != 0)
    if dead.any():  # what decodes to NaN did not become zero
        lost &= ~_spread(dead, matrix, block)
    observed["underflowed"] = int(np.count_nonzero(lost))
    if q.scale.rule in REMEMBER:
        observed |= further(matrix, scales.values, q, axis, state)
    if q.scale.rule == "flexpoint":
        observed["top"] = int(np.max(np.abs(values), initial=0))
    levels = () if q.scale.rule == "s2fp8" else (scales.codes, *scales.more)
    return QTensor(pack(codes, fmt.bits), levels, scales.tensor_scale, axis, x.shape, q, observed, scales.zero, second, scales.aux)


def _spread(grid: NDArray, x: NDArray, block: tuple[int, int]) -> NDArray:
    """A value per block as one per element."""
    return unblocked(np.broadcast_to(grid[:, None, :, None], blocked(x, block).shape), x.shape)


def _cast(
    x: NDArray[np.float32], scales: BlockScales, block: tuple[int, int], q: Quantizer, fmt: Format, words: NDArray | None
) -> tuple[NDArray, NDArray, int]:
    """Steps 3 to 5: (codes, element values without zero point, overflowed elements)."""
    u = scaled_elements(x, scales, block, q.scale.multiplier) if scales.elements is None else scales.elements
    if scales.zero is not None:
        return _cast_shifted(u, x, _spread(scales.zero, x, block), q, fmt, words)
    overflowed = beyond(u, x, q, fmt)
    low, high = element_range(q, fmt)
    if q.narrow and fmt.min < low:
        u = np.clip(u, low, high)
    codes = fmt.encode(u, q.rounding, q.overflow, words, q.word_bits)
    return codes, decoded(q.format, codes), overflowed


def _cast_shifted(
    u: NDArray[np.float32], x: NDArray, zero: NDArray, q: Quantizer, fmt: Format, words: NDArray | None
) -> tuple[NDArray, NDArray, int]:
    """Integers with zero points: rounded first, then shifted, then clamped."""
    wide, bits = integer(WIDE_BITS), q.word_bits or default_word_bits(fmt.bits)
    whole = wide.decode(wide.encode(u, q.rounding, q.overflow, words, bits)) + zero
    overflowed = beyond(u.astype(np.float64) + zero, x, q, fmt)
    inside = np.clip(whole, *element_range(q, fmt))
    codes = inside.astype(np.int64) & ((1 << fmt.bits) - 1)  # whole numbers within the range: two's complement
    return codes.astype(code_dtype(fmt.bits)), inside - zero, overflowed


def _second_plane(
    x: NDArray[np.float32], scales: BlockScales, block: tuple[int, int], q: Quantizer, fmt: Format, axis: int, shape: tuple[int, ...]
) -> QTensor:  # fmt: skip
    """The tensor that is added to the first one."""
    codes, _, _ = _cast(x, scales, block, q, fmt, None)
    return QTensor(pack(codes, fmt.bits), (scales.codes,), scales.tensor_scale, axis, shape, q)


def quantize_quartic(x: Any, q: Quantizer, k_axis: int) -> QTensor:
    """A complex tensor: codes of the four units, and the scales of its real and its imaginary class as two levels of one value each."""
    x = np.asarray(x)
    if x.dtype.kind != "c":
        raise FormatError(f"x is {x.dtype}, not complex", where=f"quantize {q.name or q.format}", remedy="pass complex64: real + 1j * imaginary")
    _, axis = logical_view(np.empty(x.shape, np.float32), k_axis)
    matrix = np.ascontiguousarray(x.reshape(matrix_shape(x.shape)), np.complex64)
    units = vector_format(q.format)
    assert isinstance(units, QuarticFormat), "the consistency of quantizers"
    codes = units.classify(matrix)
    levels = quartic_scales(matrix, codes, q.scale.eps)
    with np.errstate(over="ignore"):
        top = np.maximum(np.max(np.abs(matrix.real), initial=0), np.max(np.abs(matrix.imag), initial=0))
    observed = {"amax": np.float32(top), "count": matrix.size, "overflowed": 0, "underflowed": 0}
    return QTensor(pack(codes, 2), levels, np.float32(1), axis, x.shape, q, observed)


def logical_view(x: Any, k_axis: int) -> tuple[NDArray, int]:
    """x as an array of floats, and its contraction axis (0 or 1) in the 2-D logical array.

    Errors: FormatError for anything but reals, ShapeError for an axis that the flattening does not keep.
    """
    x = np.asarray(x)
    if x.dtype.kind not in "fiubV" or x.dtype.names is not None:
        raise FormatError(f"cannot quantize {x.dtype}", where="quantize", remedy="pass an array of floats")
    if x.dtype not in (np.float32, np.float64):
        x = x.astype(np.float64 if x.dtype.kind in "iu" else np.float32)
    last = max(x.ndim - 1, 0)
    if k_axis in (-1, last):
        return x, 1
    if x.ndim == 2 and k_axis in (0, -2):
        return x, 0
    raise ShapeError(
        f"k_axis {k_axis} of an array of shape {x.shape}", where="quantize",
        remedy="contract over the last axis, or over axis 0 of a matrix; transpose or flatten others",
    )  # fmt: skip


def check_tail(shape: tuple[int, int], k_axis: int, q: Quantizer) -> None:
    """Raise ShapeError where `tail` is error and a block does not divide its axis."""
    if q.tail != "error" or q.scale.rule == "none":
        return
    for axis, (size, block) in enumerate(zip(shape, q.blocks.on(shape, k_axis), strict=True)):
        if size % block:
            raise ShapeError(
                f"axis {axis} is {size}, not a multiple of the block of {block}", where=f"quantize {q.name or q.format}",
                remedy=f"pad to {-(-size // block) * block}, or use tail pad_zero or partial",
            )  # fmt: skip


def resolve_words(words: NDArray | WordAddress | None, q: Quantizer, fmt: Format, shape: tuple[int, ...]) -> NDArray | None:
    """One word per element of the logical array ``[R, C]``, or None for deterministic roundings."""
    if not is_stochastic(q.rounding):
        return None
    if words is None:
        raise WordsError(f"rounding {q.rounding!r} needs random words", where="quantize", remedy="pass words: an array or a WordAddress")
    matrix = matrix_shape(shape)
    if isinstance(words, WordAddress):
        return words.bits(matrix[0] * matrix[1], q.word_bits or default_word_bits(fmt.bits)).reshape(matrix)
    words = np.asarray(words)
    if words.shape not in (shape, matrix) or words.dtype.kind not in "ui":
        raise WordsError(f"words {words.dtype}{list(words.shape)} for elements {list(shape)}", where="quantize", remedy="one integer per element")
    return words.reshape(matrix)


def scaled_elements(x: NDArray[np.float32], scales: BlockScales, block: tuple[int, int], multiplier: float) -> NDArray[np.float32]:
    """u: every element by its block's factor, float32; 0 in blocks whose scale is NaN."""
    x4, factor = blocked(x, block), scales.factor[:, None, :, None]
    with np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
        u = x4 / factor if scales.operation == "divide" else x4 * factor
        if multiplier != 1.0:
            u = u * np.float32(multiplier)
    dead = np.isnan(scales.values)
    if dead.any():
        u = np.where(dead[:, None, :, None], np.float32(0), u)
    return unblocked(u, x.shape)


def _plain_cast(x: NDArray, shape: tuple[int, ...], axis: int, q: Quantizer, fmt: Format, words: NDArray | None) -> QTensor:
    if q.scale.nonfinite == "raise":
        refuse_non_finite(x, q)
    codes = fmt.encode(x, q.rounding, q.overflow, words, q.word_bits)
    with np.errstate(over="ignore", invalid="ignore"):
        amax = np.float32(np.max(np.abs(x))) if x.size else np.float32(0)
    overflowed = beyond(x, x, q, fmt)
    lost = int(np.count_nonzero((decoded(q.format, codes) == 0) & (x != 0)))
    observed = {"amax": amax, "count": x.size, "overflowed": overflowed, "underflowed": lost}
    return QTensor(pack(codes, fmt.bits), (), np.float32(1), axis, shape, q, observed)
