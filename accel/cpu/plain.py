"""Quantizers without scales, that is casts (``scale.rule: none``): `lpref.ref.quantize.quantize` by the cast kernels, with its bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cpu import cast
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import QTensor, Quantizer
from lpref.ref.quantize.packing import pack
from lpref.ref.quantize.qtensor import decoded, matrix_shape
from lpref.ref.quantize.quantize import beyond, resolve_words
from lpref.ref.rounding import is_stochastic


def covered(x: Any, q: Quantizer) -> bool:
    """Casts of float32 that do not refuse NaN."""
    return q.scale.rule == "none" and q.scale.nonfinite != "raise" and getattr(x, "dtype", None) == np.float32


def quantize(x: np.ndarray, q: Quantizer, words: Any, axis: int) -> QTensor:
    """Codes of the cast."""
    fmt, matrix = format_named(q.format), x.reshape(matrix_shape(x.shape))
    codes = cast.encode(matrix, fmt, q.rounding, q.overflow, _words(words, q, x), q.word_bits)
    zero = decoded(q.format, codes) == 0
    return QTensor(pack(codes, fmt.bits), (), np.float32(1), axis, x.shape, q, observed(matrix, zero, q))


def values(x: np.ndarray, q: Quantizer, words: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """What the codes of the cast stand for, in float32 [R, C], and the observations of `quantize`."""
    matrix = x.reshape(matrix_shape(x.shape))
    kept = cast.qdq(matrix, format_named(q.format), q.rounding, q.overflow, _words(words, q, x), q.word_bits)
    return kept, observed(matrix, kept == 0, q)


def observed(x: np.ndarray, zero: np.ndarray, q: Quantizer) -> dict[str, Any]:
    """The observations of `lpref.ref.quantize.quantize`; `zero` is where the element became zero."""
    amax = np.float32(np.max(np.abs(x))) if x.size else np.float32(0)
    lost = int(np.count_nonzero(zero & (x != 0)))
    return {"amax": amax, "count": x.size, "overflowed": beyond(x, x, q, format_named(q.format)), "underflowed": lost}


def _words(words: Any, q: Quantizer, x: np.ndarray) -> Any:
    return resolve_words(words, q, format_named(q.format), x.shape) if is_stochastic(q.rounding) else None
