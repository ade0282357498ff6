"""Stochastic rounding: the exact mean over all words, the bias and variance of every variant, the carry trick, peers' names."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lpref.ref.errors import WordsError
from lpref.ref.formats import format
from lpref.ref.rounding import (
    ROUNDINGS,
    bias,
    default_word_bits,
    lane_words,
    mean_bias,
    probability_up,
    te_stochastic_e2m1,
)

VARIANTS = [name for name, rule in ROUNDINGS.items() if rule.stochastic]
THREE = ("stochastic", "stochastic_b", "stochastic_c")


def ups(x: float, name: str, variant: str, r: int) -> Fraction:
    """The share of the 2^r words that round |x| up."""
    f = format(name)
    words = np.arange(2**r, dtype=np.uint32)
    codes = f.encode(np.full(words.shape, x), variant, words=words, word_bits=r)
    return Fraction(int((codes != f.encode(x, "toward_zero")).sum()), 2**r)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["e2m1", "e4m3", "int8", "bfloat16"])
def test_share_of_up_is_the_stated_probability(variant: str, name: str) -> None:
    for low, high in ((1.0, 1 + 2.0 ** (1 - format(name).precision)),) if name != "int8" else ((1.0, 2.0),):
        for nu in (Fraction(n, 64) for n in range(64)):
            x = float(low + (Fraction(high) - Fraction(low)) * nu)
            assert ups(x, name, variant, 4) == probability_up(variant, nu, 4, odd=name == "int8"), nu


def test_mean_equals_x_on_the_word_grid() -> None:
    """r at least the number of discarded bits: exactly unbiased, also among the subnormals of the target."""
    f = format("e4m3")
    for x in (1 + 3 * 2.0**-8, 2.0**-9 * (1 + 5 / 32), 2.0**-11, -(2.0**-7) * (1 + 13 / 256), 447.0):
        words = np.arange(2**8, dtype=np.uint8)
        y = f.round(np.full(256, x), "stochastic", words=words, word_bits=8)
        assert sum(map(Fraction, y.tolist())) / 256 == Fraction(x)


def test_bias_of_the_variants_enumerated() -> None:
    """Averaged over a grid of nu much finer than 2^-r."""
    r, fine = 3, 2**8
    grid = [Fraction(2 * i + 1, 2 * fine) for i in range(fine)]
    mean = {v: sum(probability_up(v, nu, r) - nu for nu in grid) / fine for v in THREE}
    worst = {v: max(abs(probability_up(v, nu, r) - nu) for nu in grid) for v in THREE}
    assert mean == {"stochastic": Fraction(-1, 2 ** (r + 1)), "stochastic_b": 0, "stochastic_c": 0}
    assert worst["stochastic"] < Fraction(1, 2**r)
    assert max(worst["stochastic_b"], worst["stochastic_c"]) <= Fraction(1, 2 ** (r + 1))


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_bias_over_all_words_and_all_fractions(variant: str, odd: bool) -> None:
    """r words bits, s discarded bits: every fraction i 2^-s with every word, against the closed forms, in E4M3 (s below 1 or 1.125)."""
    f = format("e4m3")
    low = 1.125 if odd else 1.0
    for r, s in ((1, 3), (2, 6), (3, 4), (4, 4), (5, 3), (3, 8)):
        nus = [Fraction(i, 2**s) for i in range(2**s)]
        x = np.repeat([float(low + nu / 8) for nu in nus], 2**r)
        y = f.round(x, variant, words=np.tile(np.arange(2**r, dtype=np.uint32), 2**s), word_bits=r)
        ups = ((y - low) * 8).reshape(2**s, 2**r).sum(1)
        found = [Fraction(float(u)) / 2**r - nu for u, nu in zip(ups, nus, strict=True)]
        assert found == [bias(variant, nu, r, odd) for nu in nus]
        assert sum(found) / 2**s == mean_bias(variant, r, s, odd)
        assert (max(map(abs, found)) == 0) == (r >= s)
        assert max(map(abs, found)) < Fraction(1, 2**r) if variant == "stochastic" else max(map(abs, found)) <= Fraction(1, 2 ** (r + 1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_variance_without_bias(variant: str) -> None:
    """w^2 nu (1 - nu) where the words resolve nu: the second moment over all words, exactly."""
    f = format("e4m3")
    for nu in (Fraction(1, 16), Fraction(3, 8), Fraction(13, 16)):
        for low, w in ((1.0, Fraction(1, 8)), (0.0, Fraction(1, 512)), (-4.0, Fraction(1, 2))):
            x = Fraction(low) + (w if low >= 0 else -w) * nu
            y = f.round(np.full(16, float(x)), variant, words=np.arange(16), word_bits=4)
            assert sum((Fraction(v) - x) ** 2 for v in y.tolist()) / 16 == w**2 * nu * (1 - nu)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "binary16"])
def test_below_the_smallest_subnormal(name: str, variant: str) -> None:
    """nu counts the smallest subnormal: the mean over all words is x itself, and nothing is flushed."""
    f = format(name)
    for nu in (Fraction(1, 32), Fraction(5, 16), Fraction(31, 32)):
        x = float(nu * Fraction(f.min_subnormal))
        y = f.round(np.full(64, x), variant, words=np.arange(64), word_bits=6)
        assert set(y.tolist()) == {0.0, f.min_subnormal}
        assert sum(map(Fraction, y.tolist())) / 64 == Fraction(x)


def test_names_of_gfloat() -> None:
    gfloat = pytest.importorskip("gfloat")
    from gfloat.formats import format_info_ocp_e4m3

    x = np.linspace(-3, 3, 97) * 1.0009765625
    for peer in ("StochasticFastest", "StochasticFast", "Stochastic", "StochasticOdd"):
        for word in range(8):
            mine = format("e4m3").round(x, peer, words=np.full(x.shape, word), word_bits=3)
            theirs = [gfloat.round_float(format_info_ocp_e4m3, v, gfloat.RoundMode[peer], srbits=word, srnumbits=3) for v in x.tolist()]
            assert mine.tolist() == theirs, (peer, word)


def te_exact(x: Fraction, word: int) -> Fraction:
    """The fallback in exact arithmetic."""
    t = abs(x) + Fraction(word, 256) * (Fraction(1, 2) if abs(x) < 2 else 1 if abs(x) < 4 else 2)
    step = Fraction(1, 2) if t < 2 else 1 if t < 4 else 2
    return min(t // step * step, Fraction(6)) * (1 if x >= 0 else -1)


def test_te_fallback_is_variant_a_but_for_one_rounding() -> None:
    bits = np.arange(0x3000, 0x4100, 3, dtype=np.uint32) << 16  # bfloat16 from 2^-31 to 8
    x = bits.view(np.float32)
    f = format("e2m1")
    for word in (0, 1, 77, 128, 254, 255):
        words = np.full(x.shape, word, np.uint32)
        got = te_stochastic_e2m1(x, words)
        assert np.array_equal(got, f.round(x, "stochastic", words=words, word_bits=8))
        assert np.array_equal(te_stochastic_e2m1(-x, words), -got)
        assert got[::50].tolist() == [float(te_exact(Fraction(float(v)), word)) for v in x[::50]]
    close = np.float32(2**-9 - 2**-33)
    assert te_stochastic_e2m1(close, np.uint8(255)) == 0.5
    assert f.round(close, "stochastic", words=np.uint8(255), word_bits=8) == 0.0
    assert te_stochastic_e2m1(np.float32([np.nan, -np.nan, np.inf, -np.inf, 7, -0.0]), np.zeros(6, np.uint8)).tolist() == [6, 6, 6, -6, 6, 0]


@pytest.mark.parametrize(("x", "bias_"), [(1.9, -0.0016), (2.3, -0.0031), (0.3, -0.0012), (3 * 0.5 + 77 / 512, 0.0)])
def test_te_fallback_bias_over_all_words(x: float, bias_: float) -> None:
    """-step frac(256 nu) / 256."""
    v = np.float32(x)
    mean = sum(Fraction(float(y)) for y in te_stochastic_e2m1(np.full(256, v), np.arange(256))) / 256
    step = Fraction(1, 2) if v < 2 else 1
    scaled = Fraction(float(v)) / step * 256
    assert mean - Fraction(float(v)) == -step * (scaled - scaled.__floor__()) / 256
    assert abs(float(mean) - float(v) - bias_) < 5e-5


def test_lanes_of_cvt_rs() -> None:
    rbits = np.uint32([0x44332211, 0xFFEEDDCC])
    words, bits = lane_words(rbits, "e2m1")
    assert bits == 8
    assert words.tolist() == [[0x11, 0x22, 0x33, 0x44], [0xCC, 0xDD, 0xEE, 0xFF]]
    for name in ("e4m3", "e5m2", "e2m3", "e3m2"):  # two lanes share 16 bits, one reads them backwards
        words, bits = lane_words(rbits, name)
        halves = [(int(w) & 0xFFFF, int(w) >> 16) for w in rbits]
        assert bits == 16
        assert words.tolist() == [[w for half in pair for w in (half, int(f"{half:016b}"[::-1], 2))] for pair in halves]
    words, bits = lane_words(np.uint32(0xBEEF1234), "bfloat16")
    assert (words.tolist(), bits) == ([0x1234, 0xBEEF], 16)
    words, bits = lane_words(np.uint32(0xFFFFEABC), "binary16")
    assert (words.tolist(), bits) == ([0x0ABC, 0x1FFF], 13)
    with pytest.raises(WordsError, match="no int8"):
        lane_words(np.uint32(1), "int8")


@pytest.mark.parametrize(("wide", "narrow"), [("e5m5_ieee", "e4m3"), ("e5m4_ieee", "e5m2"), ("e8m9_ieee", "bfloat16"), ("e4m3", "e2m1")])
def test_to_odd_then_nearest_is_nearest(wide: str, narrow: str) -> None:
    """Two bits more and no narrower a range: rounding to odd first is harmless, rounding to nearest first is not."""
    rng, f, g = np.random.default_rng(8), format(narrow), format(wide)
    x = rng.standard_normal(20000) * 2.0 ** rng.integers(-4, 3, 20000)
    values, _ = f.table()
    values = values[(np.abs(values) < 4) & (np.abs(values) > 2.0**-5)]
    middles = (values[1:] + values[:-1]) / 2
    x = np.concatenate([x, middles, np.nextafter(middles, 9.0), np.nextafter(middles, -9.0)])
    direct = f.encode(x)
    assert np.array_equal(f.encode(g.round(x, "to_odd")), direct)
    assert (f.encode(g.round(x)) != direct).sum() > len(middles) // 2


def test_up_and_down_mirror_each_other() -> None:
    x = np.random.default_rng(9).standard_normal(3000)
    for name in ("e4m3", "e2m1", "bfloat16"):
        f = format(name)
        assert np.array_equal(f.round(x, "toward_positive"), -f.round(-x, "toward_negative"))


def test_bfloat16_carry_trick() -> None:
    rng = np.random.default_rng(5)
    u = rng.integers(0, 0x7F000000, 4000, dtype=np.uint32) | (
        rng.integers(0, 2, 4000, dtype=np.uint32) << np.uint32(31)
    )
    words = rng.integers(0, 2**32, 4000, dtype=np.uint32)
    want = (u + (words & np.uint32(0xFFFF))) >> np.uint32(16)
    got = format("bfloat16").encode(u.view(np.float32), "stochastic", words=words, word_bits=16)
    assert np.array_equal(got, want)


def test_monotone_in_x_for_the_same_word() -> None:
    x = np.sort(np.random.default_rng(6).normal(size=2000) * 3)
    for variant in VARIANTS:
        for word in (0, 1, 77, 255):
            y = format("e2m1").round(x, variant, words=np.full(x.shape, word), word_bits=8)
            assert (np.diff(y) >= 0).all()


def test_default_widths() -> None:
    names = ("e2m1", "e3m2", "e4m3", "int8", "bfloat16", "float32")
    assert [default_word_bits(format(n)) for n in names] == [8, 8, 16, 16, 32, 32]
    x, words = np.full(3, 1.2), np.uint32([0, 2**16 - 1, 2**16 + 5])
    f = format("e4m3")
    assert np.array_equal(f.encode(x, "stochastic", words=words), f.encode(x, "stochastic", words=words, word_bits=16))


def test_code_books_use_their_uneven_spacing() -> None:
    f = format("nf4")
    low, high = f.decode([9, 10])
    x = low + (high - low) * 0.25
    share = ups(float(x), "nf4", "stochastic", 8)
    nu = (Fraction(float(x)) - Fraction(float(low))) / (Fraction(float(high)) - Fraction(float(low)))
    assert share == probability_up("stochastic", nu, 8)
