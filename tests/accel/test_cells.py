"""Casts of every registered format against their definition where a table or a formula could go wrong: all 2^16 upper halves of a float32
with their neighbours, and every step of the cast with its neighbours, under every rounding and overflow policy.

A format that is added to the registry is covered at once.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from lpref.accel.cast_plan import plan
from lpref.accel.cells import Cells, cells, first_where, from_key, neighbours, thresholds, to_key
from lpref.accel.cpu import cast
from lpref.ref.errors import FormatError, NonFiniteError
from lpref.ref.formats import FORMATS, CodebookFormat, IntFormat, format
from lpref.ref.rounding import OVERFLOW, ROUNDINGS, overflow, rounding

NAMES = [n for n, f in FORMATS.items() if f.bits <= 16]
DETERMINISTIC = [n for n, r in ROUNDINGS.items() if not r.stochastic]
NEVER = 0xFFFFFFFF


@lru_cache
def patterns(stride: int) -> np.ndarray:
    """Every stride-th upper half of a float32, with zeros behind it, and the bit patterns next to those."""
    bits = np.arange(0, 1 << 16, stride, dtype=np.uint32) << np.uint32(16)
    return np.concatenate([bits - np.uint32(1), bits, bits + np.uint32(1)]).view(np.float32)


@lru_cache
def steps(name: str, rule: str) -> np.ndarray:
    """The first float32 of every interval of one code, and its neighbours."""
    keys = thresholds(format(name), rounding(rule))
    return from_key(np.unique(np.concatenate([keys - 1, keys, keys + 1])))


def same(name: str, rule: str, policy: str, x: np.ndarray) -> None:
    f = format(name)
    got, want = cast.encode(x, name, rule, policy), f.encode(x, rule, policy)
    assert got.dtype == want.dtype
    wrong = np.flatnonzero(got != want)
    assert wrong.size == 0, [(float(x[i]).hex(), int(got[i]), int(want[i])) for i in wrong[:5]]


@pytest.mark.parametrize("rule", DETERMINISTIC)
@pytest.mark.parametrize("name", NAMES)
def test_all_buckets_and_all_steps(name: str, rule: str) -> None:
    f = format(name)
    x = np.concatenate([patterns(16 if isinstance(f, IntFormat) or rule != "nearest_even" else 1), steps(name, rule)])
    same(name, rule, "saturate", x if f.has_nan else x[~np.isnan(x)])


def under_every_policy(name: str, rule: str) -> None:
    f = format(name)
    x = np.concatenate([patterns(256), steps(name, rule)[:3000], np.float32([np.inf, -np.inf, np.nan])])
    within = x[np.abs(x).astype(np.float64) <= min(f.max, -f.min if f.signed else f.max)]
    for policy in OVERFLOW:
        for data in (x, x[~np.isnan(x)], x[np.isfinite(x)], within, within[within > 0]):
            try:
                f.encode(data, rule, policy)
            except (FormatError, NonFiniteError) as error:
                with pytest.raises(type(error)):
                    cast.encode(data, name, rule, policy)
            else:
                same(name, rule, policy, data)
                break  # the other selections are parts of this one


@pytest.mark.parametrize("rule", ["nearest_even", "toward_negative"])
@pytest.mark.parametrize("name", [n for n in NAMES if not isinstance(FORMATS[n], IntFormat)])
def test_every_policy(name: str, rule: str) -> None:
    under_every_policy(name, rule)


@pytest.mark.deep
@pytest.mark.parametrize("rule", DETERMINISTIC)
@pytest.mark.parametrize("name", NAMES)
def test_every_rounding_and_policy(name: str, rule: str) -> None:
    under_every_policy(name, rule)
    f = format(name)
    x = patterns(1)
    same(name, rule, "saturate", x if f.has_nan else x[~np.isnan(x)])


@pytest.mark.parametrize("rule", [n for n, r in ROUNDINGS.items() if r.stochastic])
@pytest.mark.parametrize("name", NAMES)
def test_stochastic_at_every_step(name: str, rule: str) -> None:
    """Words next to those that decide, at float32 values all over the gaps."""
    f = format(name)
    rng = np.random.default_rng(4)
    x = np.concatenate([patterns(128), steps(name, "nearest_even")[:4000], rng.normal(size=3000).astype(np.float32)])
    x = x if f.has_nan else x[~np.isnan(x)]
    for r in (1, 8, 16, 32):
        words = rng.integers(0, 2**32, x.shape, dtype=np.uint32)
        words[::5], words[1::5] = 2**32 - 1, 0
        for policy in ("saturate", "torch") if r == 8 else ("saturate",):
            try:
                want = f.encode(x, rule, policy, words, r)
            except (FormatError, NonFiniteError):
                continue
            assert np.array_equal(cast.encode(x, name, rule, policy, words, r), want)


def test_wide_cells_hold_any_format() -> None:
    """The layout of 16-bit codes, for formats that the registry serves otherwise."""
    for name in ("e4m3", "binary16", "bfloat16", "nf4"):
        f = format(name)
        table = cells(f, rounding("nearest_even"), overflow("saturate"), NEVER, wide=True)
        assert isinstance(table, Cells)
        x = np.concatenate([patterns(1), steps(name, "nearest_even")])
        x = x if f.has_nan else x[~np.isnan(x)]
        codes = np.empty(x.size, f.code_dtype)
        cast.encode_cells(table, x.view(np.uint32), codes)
        assert np.array_equal(codes, f.encode(x))


def test_a_bucket_with_steps_next_to_each_other() -> None:
    """Values one float32 apart: cells of one pattern."""
    near = [float(np.uint32(0x3F800000 + k).view(np.float32)) for k in (0, 1, 2, 3, 5, 8, 900, 70000)]
    f = CodebookFormat(name="near", bits=3, title="", standard="", source_level="memory", values=tuple(near))
    for rule in DETERMINISTIC:
        assert plan(f, rounding(rule), overflow("saturate")).kind == "cells"
        x = np.concatenate([from_key(0x3F800000 + np.arange(-5, 70010)), patterns(64)[~np.isnan(patterns(64))]])
        assert np.array_equal(cast.encode(x, f, rule), f.encode(x, rule))


def test_neighbours_are_refused_where_the_distance_is_another() -> None:
    class Crooked(CodebookFormat):
        def _locate(self, x):  # type: ignore[no-untyped-def]
            lower, step, at = super()._locate(x)
            return lower, step, type(at)(at.d * at.d, at.w, at.odd, at.tie_up, at.negative)

    crooked = Crooked(name="crooked", bits=2, title="", standard="", source_level="memory", values=(-1, 0, 2, 5))
    straight = CodebookFormat(name="straight", bits=2, title="", standard="", source_level="memory", values=(-1, 0, 2, 5))
    assert neighbours(crooked, overflow("saturate"), NEVER) is None
    assert neighbours(straight, overflow("saturate"), NEVER) is not None


def test_keys() -> None:
    x = np.float32([-np.inf, -1, -1e-45, -0.0, 0.0, 1e-45, 1, np.inf])
    keys = to_key(x)
    assert (np.diff(keys) > 0).all()
    assert np.array_equal(from_key(keys).view(np.uint32), x.view(np.uint32))
    assert first_where(np.array([0, 0]), np.array([10, 10]), lambda k: k >= np.array([4, 99])).tolist() == [4, 10]
