"""The laws that every format obeys: fixed points, order, symmetry, and identities between formats."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.formats import FORMATS, FloatFormat, exmy, format
from lpref.ref.rounding import ROUNDINGS

T = 2.0

TINY = [n for n, f in FORMATS.items() if f.bits <= 16]

SMALL = [n for n, f in FORMATS.items() if f.bits <= 8]
FLOATS = [n for n, f in FORMATS.items() if isinstance(f, FloatFormat) and f.signed and f.bits <= 16]


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("rule", list(ROUNDINGS))
def test_values_are_fixed_points(name: str, rule: str) -> None:
    f = format(name)
    values, codes = f.table()
    words = np.full(values.shape, 2**16 - 1)
    assert np.array_equal(f.encode(values, rule, "raise", words=words), codes)
    assert np.array_equal(f.decode(codes), values)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("rule", list(ROUNDINGS))
def test_idempotent_and_monotone(name: str, rule: str) -> None:
    f = format(name)
    rng = np.random.default_rng(3)
    x = np.sort(np.concatenate([rng.normal(size=600) * f.max / 2, rng.normal(size=600) * f.min_normal, [0.0]]))
    words = np.full(x.shape, 77)
    y = f.round(x, rule, words=words)
    assert (np.diff(y) >= 0).all()
    assert np.array_equal(f.round(y, rule, words=words), y)


@pytest.mark.parametrize("name", FLOATS)
def test_symmetry_and_code_order(name: str) -> None:
    f = format(name)
    x = np.random.default_rng(4).normal(size=2000) * f.max / 2
    for rule in ("nearest_even", "nearest_away", "toward_zero"):
        assert np.array_equal(f.round(-x, rule), -f.round(x, rule))
    assert np.array_equal(f.round(x, "toward_positive"), -f.round(-x, "toward_negative"))
    positive = f.decode(np.arange(f.max_code + 1))
    assert (np.diff(positive) > 0).all()
    inside = x[np.abs(x) <= f.max]
    ulp = np.ldexp(1.0, np.maximum(np.frexp(np.abs(inside))[1] - 1, f.emin) - f.trailing_bits)
    assert (np.abs(f.round(inside) - inside) <= ulp / 2).all()


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "bfloat16", "e2m3"])
def test_to_odd_with_two_more_bits_is_safe(name: str) -> None:
    """Round to odd at P + 2 bits, then nearest even at P: equal to nearest even at once. Nearest even twice is not."""
    f = format(name)
    wide = exmy("w", f.exponent_bits + 1, f.trailing_bits + 2, specials="none", bias=f.bias + 2 ** (f.exponent_bits - 1),
                title="", standard="", source_level="memory")  # fmt: skip
    # aim at midpoints, where double rounding goes wrong
    mids = (f.table()[0][1:] + f.table()[0][:-1]) / 2
    mids = np.random.default_rng(0).choice(mids, 2000)
    x = mids * (1 + np.random.default_rng(1).choice([-1, 1], 2000) * T**-24)
    same_range = exmy("s", f.exponent_bits, f.trailing_bits + 2, specials="none", bias=f.bias,
                      title="", standard="", source_level="memory")  # fmt: skip
    for middle in (wide, same_range):
        assert np.array_equal(f.encode(middle.round(x, "to_odd")), f.encode(x))
        assert not np.array_equal(f.encode(middle.round(x)), f.encode(x))


# -- facts that the pages state ----------------------------------------------------------------------------------------
def patterns() -> np.ndarray:
    """float32 bit patterns: 2^12 apart with their neighbours, the ties of bfloat16 and TF32 among them."""
    u = np.arange(0, 2**32, 2**12, dtype=np.int64)
    return (np.concatenate([u - 1, u, u + 1]) & 0xFFFFFFFF).astype(np.uint32)


def test_bfloat16_is_the_integer_addition() -> None:
    u = patterns()
    x = u.view(np.float32)
    wide = u.astype(np.uint64)
    added = ((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16).astype(np.uint16)
    got, nan = format("bfloat16").encode(x, overflow="to_infinity"), np.isnan(x)
    assert np.array_equal(got[~nan], added[~nan])
    assert np.isnan(format("bfloat16").decode(got)).tolist() == nan.tolist()
    assert np.isnan(format("bfloat16").decode(((wide >> 16) | 0x40).astype(np.uint16)[nan])).all()
    assert not np.isnan(format("bfloat16").decode(added[nan])).all()  # the addition alone loses NaN


def test_tf32_conversions_are_integer_operations_and_differ_on_ties_only() -> None:
    f, u = format("tf32"), patterns()
    u = u[np.isfinite(u.view(np.float32))]
    x = u.view(np.float32)
    away = ((u.astype(np.uint64) + 0x1000) >> 13).astype(np.uint32)
    assert np.array_equal(f.encode(x, "nearest_away", "to_infinity"), away)
    assert np.array_equal(f.encode(x, "toward_zero"), u >> 13)
    differ = f.encode(x, "nearest_even", "to_infinity") != away
    assert np.array_equal(differ, (u & 0x3FFF) == 0x1000)  # the bits behind are 1000...: a tie; the one before is 0: even


def test_sums_of_ones_stall() -> None:
    for name, where in [("bfloat16", 256.0), ("binary16", 2048.0), ("e5m2", 8.0)]:
        f = format(name)
        assert f.round(where + 1) == where
        assert f.round(where - 1 + 1) == where


def test_fnuz_is_the_ocp_pattern_with_one_more_bias() -> None:
    ocp, fnuz = (format(n).decode(np.arange(256)) for n in ("e4m3", "e4m3fnuz"))
    both = np.isfinite(ocp) & np.isfinite(fnuz)
    assert both.sum() == 253
    assert np.array_equal(fnuz[both], ocp[both] / 2)
    assert format("e4m3fnuz").encode([-0.0, -1e-9, 0.0]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "bfloat16", "binary16", "e4m3fnuz"])
def test_just_below_powers_of_two_the_exponent_is_the_lower_one(name: str) -> None:
    """Where floor(log2 x) in floating point gives k for the float next below 2^k."""
    f = format(name)
    for k in range(f.emin + 1, f.emax + 1):
        for below in (np.nextafter(np.float32(T**k), np.float32(0)), np.nextafter(T**k, 0)):
            assert f.round(np.float64(below), "toward_zero") == T**k - T ** (k - 1 - f.trailing_bits)
            assert f.round(np.float64(below)) == T**k


def test_int8_products_that_fit_int32() -> None:
    longest = (2**31 - 1) // 127**2
    assert longest == 133144
    assert (2**31 - 1) // 128**2 == 131071
