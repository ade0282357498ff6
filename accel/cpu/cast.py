"""Casts on the CPU: codes, values, and values rounded in place of codes, with the bits of `lpref.ref.formats`.

`encode(x, ...)` is `Format.encode`, `decode(codes, ...)` is `Format.decode` to float32, `qdq(x, ...)` is `Format.round`;
contract: Bits. float32, float16 and bfloat16 sources run in the kernels of `cast_kernels` and `cast_stochastic`. These casts are the
definition itself, called from here: float64 and integer sources, formats beyond float32's grid (float64, generic ones
with more than 8 exponent bits), and the stochastic roundings of code books and E8M0.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cpu import cast_kernels as kernels
from lpref.accel.cpu import cast_stochastic as stochastic
from lpref.accel.cpu import threads
from lpref.accel.cpu.cast_plan import Plan, plan
from lpref.ref.errors import FormatError, ShapeError
from lpref.ref.formats import FloatFormat, Format, format
from lpref.ref.random import WordAddress
from lpref.ref.rounding import Overflow, Rounding, check_words, default_word_bits
from lpref.ref.rounding import overflow as overflow_of
from lpref.ref.rounding import rounding as rounding_of

KERNELS = {  # kind -> the kernel for arrays within the caches, the one for arrays beyond
    "shift": (kernels.encode_shift, kernels.encode_shift_far),
    "clamp": (kernels.encode_clamp, kernels.encode_clamp_far),
    "any": (kernels.encode_any, kernels.encode_any),
}
STOCHASTIC_KERNELS = {  # kind -> the kernel that is given words, the one that makes them
    "shift": (stochastic.encode_words_shift, stochastic.draw_shift),
    "clamp": (stochastic.encode_words_clamp, stochastic.draw_clamp),
    "any": (stochastic.encode_words_any, stochastic.draw_any),
}
CHUNK = 1 << 16
"""Elements whose codes pass through a buffer at a time: at most 256 KiB, which stays in the second cache."""


def encode(
    x: Any,
    fmt: str | Format,
    rounding: str | Rounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    words: np.ndarray | WordAddress | None = None,
    word_bits: int | None = None,
    *,
    start: int = 0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Reals -> codes, as `Format.encode`.

    words: integers of x's shape, or a WordAddress: element i then takes the words of element start + i, made here.
    out: a contiguous array of x's shape and the format's code dtype to write to.

    Raises: what `Format.encode` raises; ShapeError for an `out` that does not fit.
    """
    f, rule, policy = format(fmt), rounding_of(rounding), overflow_of(overflow)
    x = np.asarray(x)
    out = _output(out, x.shape, f.code_dtype, "encode")
    r = (word_bits or default_word_bits(f)) if rule.stochastic else 0
    source = _float32(x)
    p = plan(f, rule, policy)
    drawn = _drawn(words, r, x.shape, f) if rule.stochastic else None
    if source is None or p.kind == "definition":
        out[...] = f.encode(x, rule, policy, _materialised(drawn, x.shape, r, start), r or None)
        return out
    flat = np.abs(source).reshape(-1) if p.drop_sign else source.reshape(-1)
    bits, codes = flat.view(np.uint32), out.reshape(-1)

    def part(a: int, b: int) -> int:
        if drawn is None:
            return int(_deterministic(p, bits[a:b], codes[a:b]))
        return _stochastic(p, rule, bits[a:b], codes[a:b], drawn, r, start, a)

    if max(threads.split(bits.size, part)) > p.raises_above:
        out[...] = f.encode(x, rule, policy, _materialised(drawn, x.shape, r, start), r or None)
    return out


def decode(codes: Any, fmt: str | Format, *, out: np.ndarray | None = None) -> np.ndarray:
    """Codes -> float32 values, exactly.

    Raises: FormatError for codes outside the format and for formats whose values float32 does not hold.
    """
    f = format(fmt)
    codes = np.ascontiguousarray(codes)
    _check_codes(codes, f)
    out = _output(out, codes.shape, np.dtype(np.float32), "decode")
    flat, values = codes.reshape(-1), out.reshape(-1)
    threads.split(flat.size, lambda a, b: _decode(f, flat[a:b], values[a:b]))
    return out


def qdq(
    x: Any,
    fmt: str | Format,
    rounding: str | Rounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    words: np.ndarray | WordAddress | None = None,
    word_bits: int | None = None,
    *,
    start: int = 0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """x rounded to the format, in float32 (x's own dtype where the definition is called); as `Format.round`."""
    f, rule, policy = format(fmt), rounding_of(rounding), overflow_of(overflow)
    x = np.asarray(x)
    p = plan(f, rule, policy)
    r = (word_bits or default_word_bits(f)) if rule.stochastic else 0
    drawn = _drawn(words, r, x.shape, f) if rule.stochastic else None
    if x.dtype != np.float32 or p.kind == "definition" or not _in_float32(f):
        return f.round(x, rule, policy, _materialised(drawn, x.shape, r, start), r or None)
    out = _output(out, x.shape, np.dtype(np.float32), "qdq")
    flat = np.ascontiguousarray(x).reshape(-1)
    flat = np.abs(flat) if p.drop_sign else flat
    bits, values = flat.view(np.uint32), out.reshape(-1)

    def part(a: int, b: int) -> int:
        top, codes = 0, np.empty(min(CHUNK, b - a), f.code_dtype)
        for i in range(a, b, CHUNK):
            j = min(b, i + CHUNK)
            piece = codes[: j - i]
            if drawn is None:
                top = max(top, int(_deterministic(p, bits[i:j], piece)))
            else:
                top = max(top, _stochastic(p, rule, bits[i:j], piece, drawn, r, start, i))
            _decode(f, piece, values[i:j])
        return top

    if max(threads.split(bits.size, part)) > p.raises_above:
        out[...] = f.round(x, rule, policy, _materialised(drawn, x.shape, r, start), r or None)
    return out


def rounded(x: np.ndarray, format_name: str) -> np.ndarray:
    """The op `cast`: x rounded to nearest even in the named format, overflow to infinity where there is one."""
    f = format(format_name)
    return qdq(x, f, overflow="to_infinity" if f.has_inf else "saturate")


def _deterministic(p: Plan, bits: np.ndarray, codes: np.ndarray) -> Any:
    if p.kind == "steps":
        return kernels.encode_steps(bits, codes, p.thresholds, p.codes, p.specials)
    near, far = KERNELS[p.kind]
    return (near if bits.size < kernels.FAR else far)(bits, codes, p.scalars)


def _stochastic(
    p: Plan, rule: Rounding, bits: np.ndarray, codes: np.ndarray, drawn: np.ndarray | WordAddress, r: int, start: int,
    at: int,
) -> int:  # fmt: skip
    """The part that begins at element `at` of x, which takes the words of element start + at."""
    if rule.name != "stochastic":
        return _variant(rule, bits, codes, p.scalars, drawn, r, start + at if isinstance(drawn, WordAddress) else at)
    given, drawing = STOCHASTIC_KERNELS[p.kind]
    if isinstance(drawn, np.ndarray):
        return int(given(bits, codes, p.scalars, drawn[at : at + bits.size], np.uint32(r)))
    lanes = np.empty(4 * (stochastic.WORDS * r // 128 + 1), np.uint32)
    address = (np.uint64(v) for v in (start + at, drawn.step, drawn.stream, drawn.seed))
    return int(drawing(bits, codes, p.scalars, lanes, lanes.view(f"u{r // 8}"), np.uint32(r), *address))


def _variant(
    rule: Rounding, bits: np.ndarray, codes: np.ndarray, scalars: np.ndarray, drawn: np.ndarray | WordAddress, r: int,
    first: int,
) -> int:  # fmt: skip
    """Variants B and C, in chunks of words."""
    top = 0
    for i in range(0, bits.size, CHUNK):
        n = min(CHUNK, bits.size - i)
        words = drawn.bits(n, r, first + i) if isinstance(drawn, WordAddress) else drawn[first + i : first + i + n]
        kind = 1 if rule.name == "stochastic_b" else 2
        top = max(
            top, int(stochastic.encode_words_bc(bits[i : i + n], codes[i : i + n], scalars, words, np.uint32(r), kind))
        )
    return top


def _drawn(words: Any, r: int, shape: tuple[int, ...], f: Format) -> np.ndarray | WordAddress:
    """The words as a flat uint32 array, or their address (checked: its r must be 8, 16 or 32)."""
    if isinstance(words, WordAddress):
        words.bits(0, r)  # raises for what is no address or no width
        return words
    check_words(words, r, shape, f"{f.name}.encode")
    return np.asarray(words).astype(np.uint32).reshape(-1)


def _materialised(drawn: Any, shape: tuple[int, ...], r: int, start: int) -> np.ndarray | None:
    """The words as an array for the definition."""
    if isinstance(drawn, WordAddress):
        drawn = drawn.bits(math.prod(shape), r, start)
    return None if drawn is None else drawn.reshape(shape)


def _float32(x: np.ndarray) -> np.ndarray | None:
    """x as contiguous float32 where that is exact by its dtype, else None."""
    if x.dtype == np.float32:
        return np.ascontiguousarray(x)
    return x.astype(np.float32) if x.dtype.name in ("float16", "bfloat16") else None


def _output(out: np.ndarray | None, shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> np.ndarray:
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise ShapeError(f"out is {out.dtype}{out.shape}, needed contiguous {dtype}{shape}", where=where)
    return out


def _same_exponent(f: Format) -> bool:
    return isinstance(f, FloatFormat) and f.bias == 127 and f.exponent_bits == 8 and f.specials == "ieee" and f.signed


@cache
def _in_float32(f: Format) -> bool:
    """Are all values of the format float32 values?"""
    if _same_exponent(f):
        return f.bits <= 32
    if f.bits > 16:
        return False
    values = f.table()[0]
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float32), values))


@cache
def _table(f: Format) -> np.ndarray:
    if not _in_float32(f):
        raise FormatError("has values that float32 does not hold", where=f"{f.name}.decode", remedy="use Format.decode")
    table = np.zeros(1 << (8 * f.code_dtype.itemsize), np.float32)
    table[: 2**f.bits] = f.decode(np.arange(2**f.bits))
    return table


def _check_codes(codes: np.ndarray, f: Format) -> None:
    """Codes of the format's dtype whose every value is a code need no look; others are checked."""
    if codes.dtype != f.code_dtype:
        raise FormatError(f"codes are {codes.dtype}, needed {f.code_dtype}", where=f"{f.name}.decode")
    if f.bits < 8 * codes.dtype.itemsize and codes.size and int(codes.max()) >= 2**f.bits:
        raise FormatError(f"code {int(codes.max())} is not in 0 .. {2**f.bits - 1}", where=f"{f.name}.decode")


def _decode(f: Format, codes: np.ndarray, values: np.ndarray) -> None:
    if _same_exponent(f):
        kernels.decode_shift(codes, np.uint32(32 - f.bits), values.view(np.uint32))
    else:
        kernels.decode_table(codes, _table(f), values)
