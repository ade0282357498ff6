"""posit, takum, hif8: constants, laws of the bit string, wide members, SoftPosit and Huawei's en_dtypes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from oracle import cases, rounding, tapered

from lpref.ref.errors import FormatError, UnknownNameError
from lpref.ref.formats import FORMATS, format
from lpref.ref.formats.tapered import TaperedFormat
from lpref.ref.rounding import ROUNDINGS

T = 2.0
STRINGS = [n for n, f in FORMATS.items() if isinstance(f, TaperedFormat)]


@pytest.mark.parametrize(("name", "high", "spacing"), [
    ("posit4_1", 16, 1.0), ("posit8_0", 64, T**-5), ("posit8_1", 4096, T**-4), ("posit8_2", T**24, T**-3),
    ("posit16_1", T**28, T**-12), ("posit16_2", T**56, T**-11), ("posit4_0", 4, 0.5), ("posit32_2", T**120, T**-27),
    ("takum8_linear", T**239, T**-3), ("takum16_linear", (2 - T**-4) * T**254, T**-11),
])  # fmt: skip
def test_constants(name: str, high: float, spacing: float) -> None:
    f = format(name)
    one = 2 ** (f.bits - 2)
    assert f.decode(np.array([one, one + 1])).tolist() == [1.0, 1.0 + spacing]
    assert (f.max, f.min, f.nan_code, f.inf_code) == (high, -high, 2 ** (f.bits - 1), None)
    if name.startswith("posit"):
        assert f.min_subnormal == 1 / high
    if f.bits <= 16:
        assert len(f.table()[0]) == 2**f.bits - 1


def test_hif8_constants() -> None:
    f = format("hif8")
    v = f.decode(np.arange(256))
    assert (len(f.table()[0]), f.max, f.min_normal, f.min_subnormal) == (253, 32768.0, T**-15, T**-22)
    assert np.flatnonzero(np.isnan(v)).tolist() == [0x80]
    assert np.flatnonzero(np.isinf(v)).tolist() == [0x6F, 0xEF]
    positive = f.table()[0][f.table()[0] > 0]
    per_binade = np.bincount((np.frexp(positive)[1] + 21).astype(int))
    e = np.arange(-22, 16)
    want = np.select([np.abs(e) <= 3, np.abs(e) <= 7, np.abs(e) <= 15], [8, 4, 2], 1)
    assert per_binade.tolist() == [*want[:-1], 1]  # 1.5 2^15 would be the last one: it is infinity
    assert f.encode([T**-23, -(T**-23), 0.99 * T**-23, 40959.9, 40960.0]).tolist() == [1, 0x81, 0, 0x6E, 0x6E]
    assert f.encode([40960.0, np.inf, -1e9, np.nan], overflow="ocp_nonsat").tolist() == [0x6F, 0x6F, 0xEF, 0x80]
    assert f.encode(40960.0, "toward_zero", "ocp_nonsat") == 0x6E


def test_posits_of_four_bits_in_full() -> None:
    assert format("posit4_1").decode(np.arange(1, 8)).tolist() == [1 / 16, 1 / 4, 1 / 2, 1, 2, 4, 16]
    assert format("posit4_0").decode(np.arange(1, 8)).tolist() == [1 / 4, 1 / 2, 3 / 4, 1, 3 / 2, 2, 4]
    assert format("posit8_0").round([1e-9, 1e9, 48.0]).tolist() == [1 / 64, 64.0, 32.0]


@pytest.mark.parametrize("bits", [12, 13, 16, 20, 24, 32])
def test_the_range_of_takums_does_not_grow_from_12_bits_on(bits: int) -> None:
    f, low = format(f"takum{bits}_linear"), -254 if bits == 12 else -255  # of 12 bits, c = -255 without mantissa is zero
    assert (np.frexp([f.max, f.min_subnormal])[1] - 1).tolist() == [254, low]
    if bits <= 16:
        logarithms = 2 * np.log(format(f"takum{bits}").decode(np.array([1, 2 ** (bits - 1) - 1])))
        assert np.floor(logarithms + 1e-9).tolist() == [low, 254]


@pytest.mark.parametrize("name", STRINGS)
def test_codes_are_ordered_and_negated_as_integers(name: str) -> None:
    f = format(name)
    n = f.bits
    codes = np.arange(-(2 ** (n - 1)) + 1, 2 ** (n - 1))
    v = f.decode(codes % 2**n)
    assert (np.diff(v) > 0).all()
    assert np.array_equal(v, -v[::-1])
    assert np.array_equal(f.encode(-v), (2**n - f.encode(v).astype(int)) % 2**n)


@pytest.mark.parametrize("rule", ROUNDINGS)
@pytest.mark.parametrize("name", STRINGS)
def test_never_to_zero_and_never_to_nar(name: str, rule: str) -> None:
    f, x = format(name), np.array([5e-324, -5e-324, 1e308, -1e308])
    words = np.zeros(4, int)
    assert f.encode(x, rule, words=words).tolist() == [1, 2**f.bits - 1, 2 ** (f.bits - 1) - 1, 2 ** (f.bits - 1) + 1]
    assert f.encode([np.inf, -np.inf, np.nan, 0.0, -0.0], overflow="posit").tolist() == [f.nan_code] * 3 + [0, 0]


def test_midpoints_are_on_the_bit_string() -> None:
    f = format("posit4_1")
    assert f.encode([7.99, 8.0, 8.01, 9.9, 0.125, 0.126]).tolist() == [6, 6, 7, 7, 2, 2]  # 8 is between 4 and 16
    assert f.encode([8.0, 8.0], "nearest_away").tolist() == [7, 7]
    words = np.arange(2**12)
    mean = f.round(np.full(words.shape, 7.0), "stochastic", words=words, word_bits=12).mean()
    assert mean == 7.0  # nu is in value: (7 - 4) / 12 of 2^12 words
    t = tapered.make("posit8_2")
    assert t.middles is not None
    arithmetic = [m == (a[0] + b[0]) / 2 for m, a, b in zip(t.middles, t.values, t.values[1:], strict=False)]
    assert arithmetic.count(False) == 2 * 7  # 0-1, 1-2, 2-3, 3-4 and 124-125, 125-126, 126-127


@pytest.mark.parametrize(
    "name", ["posit32_2", "posit24_1", "posit20_3", "posit17_0", "takum32_linear", "takum20_linear"]
)
@pytest.mark.parametrize("rule", ["nearest_even", "toward_zero", "toward_positive", "to_odd", "stochastic_c"])
def test_wide_members_by_the_string_of_bits(name: str, rule: str) -> None:
    f, rng = format(name), np.random.default_rng(0)
    n = f.bits
    value = tapered.takum_linear if "takum" in name else lambda s: tapered.posit_string(s, f.es)  # type: ignore[attr-defined]
    codes = np.concatenate([[1, 2, 3, 2 ** (n - 1) - 2, 2 ** (n - 2)], rng.integers(1, 2 ** (n - 1) - 1, 60)])
    for c in codes.tolist():
        here, there = (value(f"{p:0{n - 1}b}") for p in (c, c + 1))
        middle = value(f"{c:0{n - 1}b}1")
        assert Fraction(float(f.decode(c))) == here
        for x in (
            float(here),
            float(middle),
            float(np.nextafter(float(middle), 0)),
            float(np.nextafter(float(middle), np.inf)),
        ):
            nu = (Fraction(x) - here) / (there - here)
            side = (Fraction(x) > middle) - (Fraction(x) < middle)
            p = rounding.Place(False, c, c + 1, nu, side)
            word = int(rng.integers(2**32))
            want = c + (nu > 0 and rounding.up(tapered.Table(name, "even", []), p, rule, word, 32))
            assert f.encode(x, rule, words=np.array(word), word_bits=32) == want
            assert f.encode(-x, "nearest_even") == 2**n - int(f.encode(x))


def test_search_by_bits_equals_search_by_table() -> None:
    f = format("posit12_1")
    x = cases.critical(tapered.make("posit12_1"), 7)
    a = np.clip(np.abs(x), f.min_normal, f.max)
    below = f._below(a)  # type: ignore[attr-defined]
    code = np.zeros(a.shape, np.uint64)
    for bit in range(10, -1, -1):
        tried = code | np.uint64(1 << bit)
        code = np.where(f._magnitude(tried, 12) <= a, tried, code)  # type: ignore[attr-defined]
    assert np.array_equal(below, code)


def test_what_a_dtype_cannot_hold_is_an_error_for_inexact_formats_too() -> None:
    f = format("takum8")
    assert f.round(np.float32(3.0)).dtype == np.float32  # the nearest float32 of an irrational value
    with pytest.raises(FormatError):
        f.round(np.float16(6e4))  # 98716


def test_names() -> None:
    assert format("posit8_2") is FORMATS["posit8_2"]
    assert format("hifloat8") is FORMATS["hif8"]
    assert format("takum12").exact is False
    for wrong in ("posit33_2", "posit1_0", "posit8_6", "takum7_linear", "takum17", "takum33_linear"):
        with pytest.raises(FormatError):
            format(wrong)
    with pytest.raises(UnknownNameError):
        format("posit8")


@pytest.mark.peer
@pytest.mark.parametrize(("name", "width"), [("posit8_0", 8), ("posit16_1", 16), ("posit32_2", 32)])
def test_softposit_converts_the_same(name: str, width: int) -> None:
    softposit = pytest.importorskip("softposit")
    f, posit = format(name), getattr(softposit, f"posit{width}")
    rng = np.random.default_rng(0)
    x = np.ldexp(rng.normal(size=10_000), rng.integers(-30, 30, 10_000))
    x = np.concatenate([x, [0.0, 1e-9, 1e9, 48.0, -48.0, f.max, f.min, f.min_subnormal / 3, 1e30, -1e30]])
    if width == 8:
        x = np.concatenate([x, f.table()[0], cases.critical(tapered.make(name))])
        x = x[np.abs(x) < 1e38]
        assert f.round([1e-9, 1e9, 48.0]).tolist() == [1 / 64, 64.0, 32.0]
    theirs = np.array([float(posit(v)) for v in x.tolist()])
    wrong = np.flatnonzero(f.round(x) != theirs)
    assert wrong.size == 0, [(x[i].hex(), f.round(x)[i], theirs[i]) for i in wrong[:5]]


@pytest.mark.peer
def test_en_dtypes_hifloat8() -> None:
    en_dtypes = pytest.importorskip("en_dtypes")
    dtype, f = np.dtype(en_dtypes.hifloat8), format("hif8")
    codes = np.arange(256, dtype=np.uint8)
    assert np.array_equal(f.decode(codes), codes.view(dtype).astype(float), equal_nan=True)
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    assert np.array_equal(f.encode(x, overflow="ocp_nonsat"), x.astype(dtype).view(np.uint8))
    y = np.float32(cases.critical(tapered.hif8()))
    assert np.array_equal(f.encode(y, overflow="ocp_nonsat"), y.astype(dtype).view(np.uint8))
