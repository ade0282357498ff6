"""Quantizers without scales, that is casts (``scale.rule: none``): `lpref.ref.quantize.quantize` by the cast kernels, with its bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu import cast, threads
from lpref.accel.cpu.gather import decoded
from lpref.accel.cpu.rows import INFINITY, KERNEL, REST, bits_of
from lpref.ref.formats import format as format_named
from lpref.ref.formats.fixed import FixedFormat
from lpref.ref.quantize import QTensor, Quantizer
from lpref.ref.quantize.elements import overflow_limits
from lpref.ref.quantize.packing import pack
from lpref.ref.quantize.qtensor import matrix_shape
from lpref.ref.quantize.quantize import resolve_words
from lpref.ref.random import WordAddress
from lpref.ref.rounding import is_stochastic


def covered(x: Any, q: Quantizer) -> bool:
    """Casts of float32 that do not refuse NaN."""
    return q.scale.rule == "none" and q.scale.nonfinite != "raise" and getattr(x, "dtype", None) == np.float32


def quantize(x: np.ndarray, q: Quantizer, words: Any, axis: int) -> QTensor:
    """Codes of the cast."""
    fmt, matrix = format_named(q.format), x.reshape(matrix_shape(x.shape))
    codes = cast.encode(matrix, fmt, q.rounding, q.overflow, _words(words, q, x), q.word_bits)
    kept = decoded(q.format, codes)
    return QTensor(pack(codes, fmt.bits), (), np.float32(1), axis, x.shape, q, observed(matrix, kept, q))


def values(x: np.ndarray, q: Quantizer, words: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """What the codes of the cast stand for, in float32 [R, C], and the observations of `quantize`."""
    matrix = x.reshape(matrix_shape(x.shape))
    fmt = format_named(q.format)
    floors = isinstance(fmt, FixedFormat) and q.rounding == "toward_negative" and q.overflow == "saturate" and np.isfinite(matrix).all()
    kept = floored(matrix, fmt) if floors else cast.qdq(matrix, fmt, q.rounding, q.overflow, _words(words, q, x), q.word_bits)
    return kept, observed(matrix, kept, q)


def floored(x: np.ndarray, fmt: Any) -> np.ndarray:
    """Finite x rounded down to a fixed-point format, saturating, in float32: exact in float64, rounded once."""
    wide = np.floor(x.astype(np.float64) * (1 / fmt.unit))
    found: np.ndarray = (np.clip(wide, fmt.min / fmt.unit, fmt.max / fmt.unit) * fmt.unit).astype(np.float32)
    return found


def observed(x: np.ndarray, kept: np.ndarray, q: Quantizer) -> dict[str, Any]:
    """The observations of `lpref.ref.quantize.quantize`; `kept` is what the elements became."""
    low, high = (np.float32(limit) for limit in overflow_limits(q, format_named(q.format)))
    flat, result = np.ascontiguousarray(x).reshape(-1), kept.reshape(-1)
    parts = threads.split(x.size, lambda start, stop: _observe(flat[start:stop], result[start:stop], low, high))
    amax = max(part[0] for part in parts)
    return {
        "amax": np.int32(amax).view(np.float32) if amax <= INFINITY else np.float32(np.nan), "count": x.size,
        "overflowed": int(sum(part[1] for part in parts)), "underflowed": int(sum(part[2] for part in parts)),
    }  # fmt: skip


@njit(**KERNEL)
def _observe(x, kept, low, high):  # type: ignore[no-untyped-def]
    """(bits of the greatest magnitude, finite elements outside low … high, nonzero ones that became zero)."""
    top, over, lost = np.int32(0), np.int32(0), np.int32(0)
    for i in range(x.size):
        magnitude = np.int32(bits_of(x[i]) & REST)
        top = max(top, magnitude)
        over += np.int32(((x[i] > high) | (x[i] < low)) & (magnitude < INFINITY))
        lost += np.int32((kept[i] == 0) & (magnitude != 0))
    return top, over, lost


def _words(words: Any, q: Quantizer, x: np.ndarray) -> Any:
    if isinstance(words, WordAddress) and is_stochastic(q.rounding):
        return words  # made on the way
    return resolve_words(words, q, format_named(q.format), x.shape) if is_stochastic(q.rounding) else None
