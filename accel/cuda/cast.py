"""Casts of CuPy arrays: codes, values, and values rounded in place of codes, with the bits of `lpref.ref.formats`.

Every format of at most 16 bits, TF32 and float32; every rounding, policy and word source that has integers or a table
(`lpref.accel.cast_plan` derives both from the definition); the rest is a `BackendError`. Sources: float32, bfloat16, float16.
A cast that may raise (NaN in a format without one) waits for the device to say whether it does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cast_plan import BASES, FIELDS, NEVER, VARIANTS, Plan, in_float32, outcomes, plan, same_exponent
from lpref.accel.cells import Cells
from lpref.accel.cuda import device, doubt, feed
from lpref.ref.errors import BackendError, FormatError, WordsError
from lpref.ref.formats import FixedFormat, Format, IntFormat, format
from lpref.ref.random import WordAddress
from lpref.ref.rounding import Overflow, Rounding, default_word_bits
from lpref.ref.rounding import overflow as overflow_of
from lpref.ref.rounding import rounding as rounding_of

HOW = ("plan", "stochastic", "bc", "cells", "neighbours", "whole")
Kinds = {"shift", "clamp", "any"}


@dataclass(frozen=True, eq=False)
class Launch:
    """A cast as the kernels take it: `array` is the uint64 array of code.cuh on the device; `held` keeps what it points to."""

    array: Any
    held: tuple[Any, ...]
    plan: Plan


def encode(
    x: Any, fmt: str | Format, rounding: str | Rounding = "nearest_even", overflow: str | Overflow = "saturate",
    words: Any = None, word_bits: int | None = None, *, start: int = 0,
) -> Any:  # fmt: skip
    """Reals -> codes, as `Format.encode`; words: integers of x's shape (CuPy or NumPy), or a WordAddress.

    Raises: what `Format.encode` raises; BackendError for what has no kernel.
    """
    f = format(fmt)
    shape = x.shape
    x, kind, launch = _prepared(x, f, rounding, overflow, words, word_bits, start)
    cp = device.cupy()
    out, top = cp.empty(shape, f.code_dtype), cp.zeros(1, np.uint64)
    run = device.function("cast", "encode", (("LP_IN", kind),))
    run((device.blocks_for(x.size),), (device.THREADS,), (x, x.size, launch.array, out, np.int32(f.code_dtype.itemsize), top))
    _raise_if(x, f, rounding, overflow, words, word_bits, start, launch, top)
    return out


def qdq(
    x: Any, fmt: str | Format, rounding: str | Rounding = "nearest_even", overflow: str | Overflow = "saturate",
    words: Any = None, word_bits: int | None = None, *, start: int = 0,
) -> Any:  # fmt: skip
    """x rounded to the format, in x's dtype, as `Format.round`."""
    f = format(fmt)
    given, shape = x.dtype, x.shape
    fours = _fours(x, f, rounding_of(rounding), overflow_of(overflow))
    if fours is not None:
        return fours
    x, kind, launch = _prepared(x, f, rounding, overflow, words, word_bits, start)
    table, up = values(f)
    cp = device.cupy()
    out, top = cp.empty(shape, np.float32), _unread() if launch.plan.raises_above == NEVER else cp.zeros(1, np.uint64)
    run = device.function("cast", "round_to", (("LP_IN", kind),))
    run((device.blocks_for(x.size),), (device.THREADS,), (x, x.size, launch.array, table, np.int32(up), out, top))
    _raise_if(x, f, rounding, overflow, words, word_bits, start, launch, top)
    if given == np.float32:
        return out
    bits = out.view(np.uint32)  # CuPy's own float kernels flush subnormals, so bits are compared
    narrow = out.astype(given) if given == np.float16 else (bits >> np.uint32(16)).astype(np.uint16).view(given)
    back = narrow.astype(np.float32).view(np.uint32) if given == np.float16 else bits & np.uint32(0xFFFF0000)
    lost = (back != bits) & ((bits & np.uint32(0x7FFFFFFF)) <= np.uint32(0x7F800000))
    if bool(lost.any()):
        raise FormatError(f"{float(out[lost][0])!r} is not a value of {given}", where=f"{f.name}.round", remedy="pass a wider dtype")
    return narrow


def _fours(x: Any, f: Format, rule: Rounding, policy: Overflow) -> Any:
    """`qdq` of float32 arrays whose elements come in aligned fours, by a deterministic formula that refuses nothing; None for others."""
    if rule.stochastic or not device.on_device(x) or x.dtype != np.float32 or not x.size or x.size % 4:
        return None
    if not x.flags.c_contiguous or x.data.ptr % 16:
        return None
    made, held = formula(f, rule, policy)
    if held is None or made.raises_above != NEVER:
        return None
    (table, up), out = values(f), device.cupy().empty(x.shape, np.float32)
    run = device.function("cast", "round_fours", (("LP_IN", 0),))
    run((device.blocks_for(x.size // 8),), (device.THREADS,), (x, x.size // 4, *held, table, np.int32(up), out))
    return out


def decode(codes: Any, fmt: str | Format) -> Any:
    """Codes -> float32 values, exactly.

    Raises: FormatError for codes outside the format and for formats whose values float32 does not hold.
    """
    f = format(fmt)
    table, up = values(f)
    cp = device.cupy()
    if codes.dtype != f.code_dtype:
        raise FormatError(f"codes are {codes.dtype}, needed {f.code_dtype}", where=f"{f.name}.decode")
    shape, codes = codes.shape, cp.ascontiguousarray(codes)
    whole = f.bits == 8 * codes.itemsize
    out, top = cp.empty(shape, np.float32), _unread() if whole else cp.zeros(1, np.uint64)
    run = device.function("cast", "decode", (("LP_IN", 0),))
    run((device.blocks_for(codes.size),), (device.THREADS,), (codes, codes.size, np.int32(codes.itemsize), table, np.int32(up), out, top))
    if not whole and int(top[0]) >= 2**f.bits:
        raise FormatError(f"code {int(top[0])} is not in 0 .. {2**f.bits - 1}", where=f"{f.name}.decode")
    return out


@feed.lasting
def _unread() -> Any:
    """Where kernels write what nobody asks."""
    return device.cupy().zeros(1, np.uint64)


@feed.lasting
def values(f: Format) -> tuple[Any, int]:
    """(float32 bits by code, -1); (an unused array, left shift) for formats with float32's exponent, (the same, below -1) for wide integers."""
    cp = device.cupy()
    if same_exponent(f):
        return cp.zeros(1, np.uint32), 32 - f.bits
    if isinstance(f, IntFormat) and f.signed and 16 < f.bits <= 32:
        return cp.zeros(1, np.uint32), -2 - (f.bits << 8 | (f.fraction_bits if isinstance(f, FixedFormat) else 0))
    if f.bits > 16 or not in_float32(f):
        raise FormatError("has values that float32 does not hold", where=f"{f.name}.decode", remedy="use Format.decode on the host")
    table = np.zeros(1 << (8 * f.code_dtype.itemsize), np.float32)
    table[: 2**f.bits] = f.decode(np.arange(2**f.bits))
    return cp.asarray(table.view(np.uint32)), -1


@feed.lasting
def exact_values(f: Format) -> Any:
    """float64 values by code of a format that has some that float32 does not hold; 0 for others."""
    if f.bits > 16 or same_exponent(f):
        return 0
    table = f.decode(np.arange(2**f.bits)).astype(np.float64)
    with np.errstate(over="ignore"):
        return 0 if np.array_equal(table.astype(np.float32), table, equal_nan=True) else device.cupy().asarray(table)


def _prepared(x: Any, f: Format, rounding: Any, overflow: Any, words: Any, word_bits: int | None, start: int) -> tuple[Any, int, Launch]:
    if not device.on_device(x):
        raise BackendError(f"a {type(x).__name__} is no CuPy array", where="cuda", remedy="pass cupy.from_dlpack(x), or copy it to the host")
    cp = device.cupy()
    kind = device.source_kind(x, f"{f.name}.encode")
    made = launch(f, rounding_of(rounding), overflow_of(overflow), words, word_bits, x.shape, start)
    return cp.ascontiguousarray(x), kind, made


def launch(f: Format, rule: Rounding, policy: Overflow, words: Any, word_bits: int | None, shape: tuple[int, ...], start: int = 0) -> Launch:
    """The cast as the kernels take it.

    Raises: WordsError for words that do not fit; BackendError where there is neither a formula nor a table.
    """
    if not rule.stochastic:
        return _without_words(f, rule, policy)
    p, fixed, held = _fixed(f, rule, policy)
    r = word_bits or default_word_bits(f)
    if p.neighbours is not None and r > p.neighbours.word_bits:
        raise _missing(f, rule, f"with {r}-bit words")
    given, step, address = None, None, (0, 0, 0, 0)
    if isinstance(words, WordAddress):
        address_of = replace(words, start=words.start + start)
        address_of.bits(0, r)  # raises
        step = feed.word(address_of.step)
        address = (address_of.start, step.data.ptr, address_of.stream, address_of.seed)
    else:
        given = _words(words, r, shape, f)
    row = np.array([*fixed, 0 if given is None else given.data.ptr, r, VARIANTS.get(rule.name, 0), *address], np.uint64)
    return Launch(feed.upload(feed.same, row), (*held, given, step), p)


@cache
def formula(f: Format, rule: Rounding, policy: Overflow) -> tuple[Plan, tuple[np.uint32, ...] | None]:
    """The plan of a deterministic cast, and its scalars as parameters (LP_PLAN); None in their place where the cast is no formula."""
    p, numbers, _ = _fixed(f, rule, policy)
    return p, tuple(np.uint32(v) for v in p.scalars) if HOW[numbers[0]] == "plan" else None


@feed.lasting
def _without_words(f: Format, rule: Rounding, policy: Overflow) -> Launch:
    """`launch` of a deterministic rounding, taken to the device once."""
    p, fixed, held = _fixed(f, rule, policy)
    return Launch(device.cupy().asarray(np.array([*fixed, *[0] * 7], np.uint64)), held, p)


@feed.lasting
def _fixed(f: Format, rule: Rounding, policy: Overflow) -> tuple[Plan, tuple[int, ...], tuple[Any, ...]]:
    """(plan, the first eight numbers of the array, what they point to)."""
    p = _whole(f, rule, policy) or plan(f, rule, policy)
    if p.kind in ("definition", "binary64") or f.bits > 32:
        raise _missing(f, rule, f"overflow {policy}")
    cp = device.cupy()
    scalars = cp.asarray(p.scalars)
    tables: tuple[Any, ...] = ()
    if p.cells is not None:
        tables = tuple(cp.asarray(t) for t in as_cells(p.cells))
    elif p.neighbours is not None:
        tables = tuple(cp.asarray(t) for t in p.neighbours.table)
    way = "cells" if p.cells else "neighbours" if p.neighbours else "whole" if p.kind == "whole" else "plan"
    if rule.stochastic and p.kind in Kinds:
        way = "bc" if VARIANTS[rule.name] else "stochastic"
    pointers = [t.data.ptr for t in tables] + [0] * (5 - len(tables))
    half = p.neighbours.table[2].size // 2 if p.neighbours else 0
    return p, (HOW.index(way), scalars.data.ptr, *pointers, half), (scalars, *tables)


def _whole(f: Format, rule: Rounding, policy: Overflow) -> Plan | None:
    """The plan of a deterministic cast to an integer of 25 to 32 bits (`lp_encode_whole` of core/cast.h); None for others."""
    units = f.fraction_bits if isinstance(f, FixedFormat) else 0
    if not isinstance(f, IntFormat) or not 24 < f.bits <= 32 or rule.name not in BASES or units > 126 or not f.signed:
        return None
    found, raises_above = outcomes(f, rule, policy)
    base, c_odd, c_neg = BASES[rule.name]
    fields = found | {
        "shift": 0, "emin": 150 - units, "limit_pos": int(f.max * 2**units), "limit_neg": int(-f.min * 2**units), "sign": 0, "sign_of_zero": 0,
        "flip": 0xFFFFFFFF, "one": 1, "mask": 2**f.bits - 1, "base": base, "c_odd": c_odd, "c_neg": c_neg, "use_sign": 1,
    }  # fmt: skip
    return Plan("whole", np.array([fields[name] for name in FIELDS], np.uint32), raises_above)


def as_cells(c: Cells) -> tuple[np.ndarray, np.ndarray]:
    """(first, entries), buckets written as cells."""
    if c.first.size:
        return c.first, c.entries
    place, behind, before = (c.entries >> np.uint32(s) & np.uint32(m) for s, m in ((16, 0xFFFF), (8, 0xFF), (0, 0xFF)))
    entries = place.astype(np.uint64) << np.uint64(32) | behind.astype(np.uint64) << np.uint64(16) | before.astype(np.uint64)
    return np.arange(1 << 16, dtype=np.uint32) << np.uint32(5) | np.uint32(16), entries


def _missing(f: Format, rule: Rounding, more: str) -> BackendError:
    return BackendError(
        f"no kernel casts to {f.name} by {rule.name} ({more})", where="cuda",
        remedy="formats of at most 16 bits, TF32 and float32; deterministic roundings and stochastic, _b, _c; or use the host",
    )  # fmt: skip


def _words(words: Any, r: int, shape: tuple[int, ...], f: Format) -> Any:
    """Given words, uint32 on the device."""
    where = f"{f.name}.encode"
    if words is None:
        raise WordsError("stochastic rounding needs random words", where=where, remedy="pass words: an array or a WordAddress")
    if not 1 <= r <= 32:
        raise WordsError(f"word_bits is {r}, not in 1 .. 32", where=where)
    array = words if device.on_device(words) else feed.upload(feed.same, np.asarray(words))
    if array.dtype.kind not in "ui" or array.shape != shape:
        raise WordsError(f"words {array.dtype}{list(array.shape)} for elements {list(shape)}", where=where, remedy="one integer per element")
    return device.cupy().ascontiguousarray(array.astype(np.uint32))


def _raise_if(x: Any, f: Format, rounding: Any, overflow: Any, words: Any, word_bits: int | None, start: int, made: Launch, top: Any) -> None:
    """Where something may raise, ask the definition about the elements in question; it raises, or they were fine."""
    limit = made.plan.raises_above
    if limit == NEVER or not doubt.above(top, limit):
        return
    flat = x.astype(np.float32).reshape(-1)
    doubtful = flat[(flat.view(np.uint32) & np.uint32(0x7FFFFFFF)) > np.uint32(limit)].get()
    rule = rounding_of(rounding)
    f.encode(doubtful, rule, overflow, np.zeros(doubtful.shape, np.uint32) if rule.stochastic else None, word_bits)
