"""Integers between two ends (rule `minmax`): `lpref.ref.quantize.quantize` and its values in float32, with its bits.

One pass rounds, clamps, counts and decodes. Nearest even and `stochastic` are covered; a tensor that holds NaN or infinity, and one with a block
whose scale is zero or NaN, take the definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lpref.accel.cpu import random, threads
from lpref.accel.cpu.embedded import ONE, Embedded
from lpref.accel.cpu.rows import KERNEL
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import QTensor, Quantizer
from lpref.ref.quantize.elements import overflow_limits
from lpref.ref.quantize.further import further
from lpref.ref.quantize.packing import pack
from lpref.ref.quantize.qtensor import matrix_shape
from lpref.ref.quantize.quantize import check_tail, logical_view, resolve_words
from lpref.ref.random import WordAddress
from lpref.ref.rounding import default_word_bits
from lpref.ref.scaling.minmax import known_ends, spanned
from lpref.ref.scaling.minmax import levels as levels_of
from lpref.ref.scaling.scales import loaded

_NO_WORDS = np.empty(0, np.uint16)


def covered(x: Any, q: Quantizer) -> bool:
    """Whether the kernel may serve this quantizer; the tensor's values may still send it to the definition."""
    known = q.scale.rule == "minmax" and q.rounding in ("nearest_even", "stochastic") and q.scale.nonfinite == "propagate"
    return known and getattr(x, "dtype", None) == np.float32 and x.size > 0


def quantize(x: NDArray, q: Quantizer, state: Mapping[str, Any] | None, words: Any, k_axis: int) -> QTensor | None:
    """Codes, scales and offsets; None where the definition has to serve."""
    view, axis = logical_view(x, k_axis)
    done = _run(view, q, state, words, axis, decode=False)
    if done is None:
        return None
    codes, _, levels, observed = done
    return QTensor(pack(codes, format_named(q.format).bits), levels, np.float32(1), axis, view.shape, q, observed)


def embed(x: NDArray, q: Quantizer, state: Mapping[str, Any] | None, words: Any, k_axis: int) -> Embedded | None:
    """The values of `quantize` as `embedded` gives them."""
    view, axis = logical_view(x, k_axis)
    done = _run(view, q, state, words, axis, decode=True)
    return None if done is None else Embedded(done[1], np.float32(1), axis, q, ONE, done[3], exact=False)


def _run(x: NDArray, q: Quantizer, state: Mapping[str, Any] | None, words: Any, axis: int, decode: bool) -> Any:
    """(codes, values, scale levels, observations)."""
    fmt, shape = format_named(q.format), matrix_shape(x.shape)
    check_tail(shape, axis, q)
    matrix = np.ascontiguousarray(x.reshape(shape))
    block, ends = q.blocks.on(shape, axis), known_ends(q.scale, state)
    if ends is None and block[0] == 1 and q.scale.span == "extremes" and matrix.size:
        ends = _ends(matrix, block)
        low, high = np.min(ends[0]), np.max(ends[1])
    else:
        low, high = np.min(matrix), np.max(matrix)
    if not (np.isfinite(low) and np.isfinite(high)):
        return None
    given, r = _words(words, q, x.shape)
    factor, offset, levels = levels_of(matrix, block, fmt.max, q.scale, ends)
    scales, offsets = (loaded(level, q.scale.format) for level in levels)
    if not np.isfinite(scales).all() or (scales == 0).any():
        return None
    codes, values = np.empty(shape, np.uint16 if fmt.bits > 8 else np.uint8), np.empty(shape if decode else (0, 0), np.float32)
    limits = np.array([0.0, fmt.max, *overflow_limits(q, fmt)], np.float64)
    fixed = (matrix, given, r, *block, factor, offset, scales, offsets, limits, codes, values)
    counts = threads.split(shape[0], lambda a, b: _kernel(*fixed, a, b), 1, max(1, threads.GRAIN // max(shape[1], 1)))
    over, lost = (int(sum(c[i] for c in counts)) for i in (0, 1))
    amax = np.float32(np.maximum(-low, high) + np.float32(0))
    observed = {"amax": amax, "count": matrix.size, "overflowed": over, "underflowed": lost}
    return codes, values, levels, observed | further(matrix, scales, q, axis, state)


def _ends(x: NDArray[np.float32], block: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The range of every block, blocks of one row each."""
    work = max(1, threads.GRAIN // max(x.shape[1], 1))
    parts = threads.split(x.shape[0], lambda a, b: spanned(x[a:b], block, "extremes"), 1, work)
    low, high = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return low, high


def _words(words: Any, q: Quantizer, shape: tuple[int, ...]) -> tuple[NDArray, int]:
    """(one word an element in row-major order, their bits); no words for rounding to nearest."""
    if q.rounding == "nearest_even":
        return _NO_WORDS, 0
    fmt, count = format_named(q.format), int(np.prod(shape, dtype=np.int64))  # exact: integers
    r = q.word_bits or default_word_bits(fmt.bits)
    if isinstance(words, WordAddress):
        return random.packed(words.seed, words.stream, words.step, words.start, count, r), r
    given = resolve_words(words, q, fmt, shape)
    assert given is not None, "stochastic roundings have words"
    return np.ascontiguousarray(given, np.uint32).reshape(-1) & np.uint32((1 << r) - 1), r


@njit(forceinline=True, error_model="numpy")
def _code(wide, word, stochastic, full, limits):  # type: ignore[no-untyped-def]
    """The code of u = `wide`: rounded to nearest even, or up where the fraction and the word carry; clamped."""
    if stochastic:
        a = abs(wide)
        n = np.floor(a)
        n += np.floor((a - n) * full) + word >= full
        n = -n if wide < 0 else n
    else:
        n = np.rint(wide)
    return min(max(n, limits[0]), limits[1])


@njit(**KERNEL)
def _kernel(x, words, r, br, bc, factor, offset, scales, offsets, limits, codes, values, r0, r1):  # type: ignore[no-untyped-def]
    """Rows r0 .. r1; returns (overflowed, underflowed). Blocks of one column have a loop of their own: all scales change in it."""
    columns, decode, full = x.shape[1], values.size > 0, np.float64(np.int64(1) << r)
    over, lost = np.int64(0), np.int64(0)
    for i in range(r0, r1):
        g, at = i // br, i * columns
        if bc == 1:
            for j in range(columns):
                wide = np.float64((x[i, j] - offset[g, j]) * factor[g, j])
                q = _code(wide, np.float64(words[at + j]) if r else 0.0, r > 0, full, limits)
                over += np.int64((wide > limits[3]) | (wide < limits[2]))
                lost += np.int64((q == 0.0) & (x[i, j] != 0))
                codes[i, j] = np.int64(q)
                if decode:
                    values[i, j] = np.float32(q) / scales[g, j] + offsets[g, j]
            continue
        for j0 in range(0, columns, bc):
            h = j0 // bc
            f, low, s, m = factor[g, h], offset[g, h], scales[g, h], offsets[g, h]
            for j in range(j0, min(j0 + bc, columns)):
                wide = np.float64((x[i, j] - low) * f)
                q = _code(wide, np.float64(words[at + j]) if r else 0.0, r > 0, full, limits)
                over += np.int64((wide > limits[3]) | (wide < limits[2]))
                lost += np.int64((q == 0.0) & (x[i, j] != 0))
                codes[i, j] = np.int64(q)
                if decode:
                    values[i, j] = np.float32(q) / s + m
    return over, lost
