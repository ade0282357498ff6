r"""`quantize`: a tensor becomes codes and scales.

    1. x as the 2-D logical array ``[R, C]``, float32 (float64 input is rounded once; plain casts read it exactly).
    2. Block scales by the quantizer's rule (the pages of `lpref.ref.scaling`).
    3. u = x / factor or x * factor, then * multiplier, float32, as the rule's page says; u = 0 in a block whose scale is NaN.
    4. Narrow integers: u clamped to +-(2^(b-1) - 1).
    5. code = encode(u) under the quantizer's rounding and overflow; stochastic words are indexed row-major in ``[R, C]``,
       whatever the blocks, the contraction axis or the packing.

Nothing is mutated; what `update_state` needs comes back in `QTensor.observed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import FormatError, NonFiniteError, ShapeError, SpecError, WordsError
from lpref.ref.formats import Format
from lpref.ref.formats import format as format_named
from lpref.ref.quantize.packing import pack
from lpref.ref.quantize.qtensor import QTensor, decoded, matrix_shape
from lpref.ref.quantize.quantizer import Quantizer
from lpref.ref.quantize.registry import lookup
from lpref.ref.random import WordAddress
from lpref.ref.rounding import default_word_bits, is_stochastic
from lpref.ref.scaling import (
    BlockScales,
    absmean_scales,
    amax_scales,
    from_encode_scale,
    given_scales,
    mx_scales,
    nvfp4_scales,
    te_scales,
)
from lpref.ref.scaling.statistics import block_absmean, block_amax, blocked, unblocked


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
    state   what `init_state` and `update_state` return: delayed and learned scales
    amax    replaces the measured amax: the tensor's for nvfp4, one per block (or a scalar) for amax, te, mx
    words   stochastic rounding: unsigned integers of x's shape, of which the low `word_bits` count, or a `WordAddress`

    Errors: ShapeError (axes, tails, grids), WordsError, NonFiniteError (policy), FormatError, SpecError.

    >>> t = quantize(np.float32([[1, -2, 3, 100]]), "int8_row")
    >>> t.unpacked().astype(np.int8).tolist(), t.scale_values().tolist()
    ([[1, -3, 4, 127]], [[0.787401556968689]])
    """
    q = lookup(q) if isinstance(q, str) else q
    x, axis = logical_view(x, k_axis)
    shape, fmt = matrix_shape(x.shape), format_named(q.format)
    matrix = x.reshape(shape)
    check_tail(shape, axis, q)
    words = resolve_words(words, q, fmt, x.shape)
    if q.scale.rule == "none":
        return _plain_cast(matrix, x.shape, axis, q, fmt, words)
    matrix = np.ascontiguousarray(matrix, np.float32)
    block = q.blocks.on(shape, axis)
    found, tensor_amax = _statistics(matrix, block, q)
    scales = block_scales(matrix, found, tensor_amax, q, fmt, axis, state, amax)
    u = scaled_elements(matrix, scales, block, q.scale.multiplier)
    overflowed = beyond(u, matrix, q, fmt)
    low, high = element_range(q, fmt)
    if q.narrow and fmt.min < low:
        u = np.clip(u, low, high)
    codes = fmt.encode(u, q.rounding, q.overflow, words, q.word_bits)
    lost = (decoded(q.format, codes) == 0) & (matrix != 0)
    if (scales.values == 0).any():
        lost |= (unblocked(np.broadcast_to((scales.values == 0)[:, None, :, None], blocked(matrix, block).shape), shape)) & (matrix != 0)
    observed = {"amax": tensor_amax, "count": matrix.size, "overflowed": overflowed, "underflowed": int(np.count_nonzero(lost))}
    return QTensor(pack(codes, fmt.bits), (scales.codes,), scales.tensor_scale, axis, x.shape, q, observed)


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


def element_range(q: Quantizer, fmt: Format) -> tuple[np.float32, np.float32]:
    """Smallest and largest element value: the format's, without the lone most negative integer where `narrow`."""
    lone = q.narrow and fmt.signed and fmt.min < -fmt.max
    return np.float32(-fmt.max if lone else fmt.min), np.float32(fmt.max)


def overflow_limits(q: Quantizer, fmt: Format) -> tuple[float, float]:
    """Beyond these a scaled element counts as overflowed: half a step outside the largest values (code books: the values themselves)."""
    low, high = element_range(q, fmt)
    step = 0.0 if fmt.precision is None else 2.0 ** (fmt.emax - fmt.precision + 1)
    return float(low) - (step / 2 if fmt.signed else 0.0), float(high) + step / 2


def beyond(u: NDArray, x: NDArray, q: Quantizer, fmt: Format) -> int:
    """Number of finite x whose scaled value u overflows."""
    low, high = overflow_limits(q, fmt)
    with np.errstate(invalid="ignore"):
        return int(np.count_nonzero(((u > high) | (u < low)) & np.isfinite(x)))


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
        _raise_non_finite(x, q)
    codes = fmt.encode(x, q.rounding, q.overflow, words, q.word_bits)
    with np.errstate(over="ignore", invalid="ignore"):
        amax = np.float32(np.max(np.abs(x))) if x.size else np.float32(0)
    overflowed = beyond(x, x, q, fmt)
    lost = int(np.count_nonzero((decoded(q.format, codes) == 0) & (x != 0)))
    observed = {"amax": amax, "count": x.size, "overflowed": overflowed, "underflowed": lost}
    return QTensor(pack(codes, fmt.bits), (), np.float32(1), axis, shape, q, observed)


def _raise_non_finite(x: NDArray, q: Quantizer) -> None:
    bad = int(x.size - np.count_nonzero(np.isfinite(x)))
    if bad:
        raise NonFiniteError(f"{bad} of {x.size} elements are NaN or infinite", where=f"quantize {q.name or q.format}",
                             remedy="use scale.nonfinite propagate or ignore")  # fmt: skip


def _statistics(x: NDArray[np.float32], block: tuple[int, int], q: Quantizer) -> tuple[NDArray[np.float32], np.float32]:
    """amax of every block, and of the tensor, under the policy for NaN and infinity."""
    if q.scale.nonfinite == "raise":
        _raise_non_finite(x, q)
    found = block_amax(x, block, finite_only=q.scale.nonfinite == "ignore")
    return found, np.max(found) if found.size else np.float32(0)


def block_scales(
    x: NDArray[np.float32], found: NDArray[np.float32], tensor_amax: np.float32, q: Quantizer, fmt: Format, axis: int,
    state: Mapping[str, Any] | None, amax: Any,
) -> BlockScales:  # fmt: skip
    """Step 2: the rule's page, on the statistics that it reads."""
    rule, grid = q.scale.rule, found.shape
    target = q.scale.target if q.scale.target is not None else fmt.max
    if amax is not None:
        if rule == "nvfp4":
            tensor_amax = np.float32(amax)
        elif rule in ("amax", "te", "mx") and q.scale.history == "current" and np.size(amax) in (1, found.size):
            found = np.broadcast_to(np.asarray(amax, np.float32).reshape(grid if np.size(amax) == found.size else (1, 1)), grid)
        else:
            raise ShapeError(f"amax of shape {np.shape(amax)} for rule {rule!r} and {grid[0]} x {grid[1]} blocks", where="quantize",
                             remedy="give a scalar, or one amax per block; delayed, learned, constant and absmean scales read none")  # fmt: skip
    if rule == "amax":
        return amax_scales(found, target, q.scale)
    if rule == "te":
        if q.scale.history == "delayed":
            return from_encode_scale(np.full(grid, _state_scale(state, q), np.float32), q.scale.format)
        return te_scales(found, target, q.scale)
    if rule == "mx":
        return mx_scales(found, target, (fmt.precision or 1) - 1, q.scale)
    if rule == "nvfp4":
        return nvfp4_scales(found, tensor_amax, target)
    if rule == "absmean":
        mean = block_absmean(np.where(np.isfinite(x), x, np.float32(0)) if q.scale.nonfinite == "ignore" else x, q.blocks.on(x.shape, axis))
        return absmean_scales(mean, q.scale)
    step = state["scale"] if rule == "learned" and state and "scale" in state else q.scale.value
    return given_scales(step, grid, q.scale)


def _state_scale(state: Mapping[str, Any] | None, q: Quantizer) -> np.float32:
    if state is None or "scale" not in state:
        raise SpecError(["scale.history: 'delayed' needs a state"], where=f"quantize {q.name or q.format}",
                        remedy="pass state=init_state(q), then update_state's")  # fmt: skip
    return np.float32(state["scale"])
