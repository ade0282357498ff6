"""Casts on the CPU: codes, values, and values rounded in place of codes, with the bits of `lpref.ref.formats`.

`encode(x, ...)` is `Format.encode`, `decode(codes, ...)` is `Format.decode` to float32, `qdq(x, ...)` is `Format.round`;
contract: Bits. float32, float16 and bfloat16 sources run in the kernels of `cast_kernels` and `cast_stochastic`. These casts are the
definition itself, called from here: float64 and integer sources, infinities and NaN in float64, formats of more than 16
bits beyond float32's grid, and stochastic roundings of formats whose distances float64 does not hold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cast_plan import VARIANTS, Plan, in_float32, plan, same_exponent
from lpref.accel.cells import Cells
from lpref.accel.cpu import cast_kernels as kernels
from lpref.accel.cpu import cast_stochastic as stochastic
from lpref.accel.cpu import threads
from lpref.accel.cpu.random import check
from lpref.ref.errors import FormatError, ShapeError
from lpref.ref.formats import Format, format
from lpref.ref.random import WordAddress
from lpref.ref.rounding import Overflow, Rounding, check_words, default_word_bits
from lpref.ref.rounding import overflow as overflow_of
from lpref.ref.rounding import rounding as rounding_of

CHUNK = 1 << 16
"""Elements whose codes pass through a buffer at a time: at most 256 KiB of codes, which stay in the second cache."""


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
    x = np.asarray(x)
    how = _Cast.of(fmt, rounding, overflow, words, word_bits, x.shape, start)
    out = _output(out, x.shape, how.format.code_dtype, "encode")
    source = _float32(x)
    if source is None or how.plan.kind == "definition":
        out[...] = how.definition(how.format.encode, x)
        return out
    bits, codes = source.reshape(-1).view(np.uint32), out.reshape(-1)
    if max(threads.split(bits.size, lambda a, b: how.codes(bits[a:b], codes[a:b], a))) > how.plan.raises_above:
        out[...] = how.definition(how.format.encode, x)
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
    x = np.asarray(x)
    how = _Cast.of(fmt, rounding, overflow, words, word_bits, x.shape, start)
    f = how.format
    if x.dtype != np.float32 or how.plan.kind == "definition" or not in_float32(f):
        return how.definition(f.round, x)
    out = _output(out, x.shape, np.dtype(np.float32), "qdq")
    bits, values = np.ascontiguousarray(x).reshape(-1).view(np.uint32), out.reshape(-1)

    def part(a: int, b: int) -> int:
        if how.plan.kind == "shift" and how.words is None:
            return int(kernels.round_shift(bits[a:b], values.view(np.uint32)[a:b], how.plan.scalars))
        top, codes = 0, np.empty(min(CHUNK, b - a), f.code_dtype)
        for i in range(a, b, CHUNK):
            j = min(b, i + CHUNK)
            top = max(top, how.codes(bits[i:j], codes[: j - i], i))
            _decode(f, codes[: j - i], values[i:j])
        return top

    if max(threads.split(bits.size, part)) > how.plan.raises_above:
        out[...] = how.definition(f.round, x)
    return out


def rounded(x: np.ndarray, format_name: str) -> np.ndarray:
    """The op `cast`: x rounded to nearest even in the named format, overflow to infinity where there is one."""
    f = format(format_name)
    return qdq(x, f, overflow="to_infinity" if f.has_inf else "saturate")


@dataclass(frozen=True, eq=False)
class _Cast:
    """A cast with its arguments resolved. words: flat uint32, the address of element 0's word, or None where the rounding takes none."""

    format: Format
    rounding: Rounding
    overflow: Overflow
    word_bits: int
    words: np.ndarray | WordAddress | None
    plan: Plan

    @classmethod
    def of(cls, fmt: Any, rounding: Any, overflow: Any, words: Any, word_bits: int | None, shape: tuple[int, ...], start: int) -> _Cast:
        """Raises: WordsError for words that do not fit the shape, or an address of another width than 8, 16 or 32 bits."""
        f, rule, policy = format(fmt), rounding_of(rounding), overflow_of(overflow)
        r = 0
        drawn: np.ndarray | WordAddress | None = None
        if rule.stochastic:
            r = word_bits or default_word_bits(f)
            if isinstance(words, WordAddress):
                drawn = replace(words, start=words.start + start)
                check(drawn.seed, drawn.stream, drawn.step, drawn.start, 0, r)
            else:
                check_words(words, r, shape, f"{f.name}.encode")
                drawn = np.asarray(words).astype(np.uint32).reshape(-1)
        p = plan(f, rule, policy)
        if p.neighbours is not None and r > p.neighbours.word_bits:
            p = replace(p, kind="definition")
        return cls(f, rule, policy, r, drawn, p)

    def definition(self, function: Any, x: np.ndarray) -> Any:
        """`Format.encode` or `Format.round` itself."""
        words = self.words.bits(x.size, self.word_bits) if isinstance(self.words, WordAddress) else self.words
        return function(x, self.rounding, self.overflow, None if words is None else words.reshape(x.shape), self.word_bits or None)

    def codes(self, bits: np.ndarray, codes: np.ndarray, at: int) -> int:
        """codes <- the codes of the part `bits` of x that begins at element `at`; the largest magnitude bits seen."""
        p = self.plan
        if p.kind == "binary64":
            with np.errstate(invalid="ignore"):  # a signalling NaN: the definition says what becomes of it
                codes[...] = bits.view(np.float32).astype(np.float64).view(np.uint64)
            return int(np.max(bits & np.uint32(0x7FFFFFFF), initial=0))
        if self.words is not None:
            return self._stochastic(bits, codes, at)
        if p.cells is not None:
            return encode_cells(p.cells, bits, codes)
        near, far = DETERMINISTIC[p.kind]
        return int((near if bits.size < kernels.FAR else far)(bits, codes, p.scalars))

    def _stochastic(self, bits: np.ndarray, codes: np.ndarray, at: int) -> int:
        p, r, words = self.plan, np.uint32(self.word_bits), self.words
        q, table = p.scalars, NO_TABLE if p.neighbours is None else p.neighbours.table
        kind, variant = "bc" if VARIANTS[self.rounding.name] and p.neighbours is None else p.kind, VARIANTS[self.rounding.name]
        if isinstance(words, WordAddress):
            lanes = stochastic.buffer(self.word_bits)
            address = (np.uint64(v) for v in (words.start + at, words.step, words.stream, words.seed))
            drawn = (lanes, lanes.view(f"u{self.word_bits // 8}"), r, variant, *address)
            return int(stochastic.encode_drawn(KINDS.index(kind), bits, codes, q, table, *drawn))
        assert words is not None
        given = words[at : at + bits.size]
        if kind == "neighbours":
            return int(stochastic.encode_words_table(bits, codes, table, given, r, variant))
        return int(GIVEN[kind](bits, codes, q, given, r, *((variant,) if kind == "bc" else ())))


DETERMINISTIC = {  # kind -> the kernel for arrays within the caches, the one for arrays beyond
    "shift": (kernels.encode_shift, kernels.encode_shift_far),
    "clamp": (kernels.encode_clamp, kernels.encode_clamp_far),
    "any": (kernels.encode_any, kernels.encode_any),
}
KINDS = ("shift", "clamp", "any", "bc", "neighbours")  # as `encode_words` counts them
GIVEN: dict[str, Any] = {  # kind -> the stochastic kernel that is given words
    "shift": stochastic.encode_words_shift,
    "clamp": stochastic.encode_words_clamp,
    "any": stochastic.encode_words_any,
    "bc": stochastic.encode_words_bc,
}
NO_TABLE = tuple(np.empty(0, dtype) for dtype in ("u4", "u8", "f8", "f8", "u2"))


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


def encode_cells(table: Cells, bits: np.ndarray, codes: np.ndarray) -> int:
    """codes <- those of the float32 `bits`; the largest magnitude bits."""
    if table.first.size:
        return int(kernels.encode_cells(bits, codes, table.first, table.entries))
    return int(kernels.encode_buckets(bits, codes, table.entries))


@cache
def _table(f: Format) -> np.ndarray:
    if not in_float32(f):
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
    if same_exponent(f):
        kernels.decode_shift(codes, np.uint32(32 - f.bits), values.view(np.uint32))
    else:
        kernels.decode_table(codes, _table(f), values)
