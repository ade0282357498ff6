"""Stochastic rounding: the exact mean over all words, the bias of the three variants, the carry trick."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lpref.ref.formats import format
from lpref.ref.rounding import default_word_bits, probability_up

VARIANTS = ("stochastic", "stochastic_b", "stochastic_c")


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
            assert ups(x, name, variant, 4) == probability_up(variant, nu, 4), nu


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
    mean = {v: sum(probability_up(v, nu, r) - nu for nu in grid) / fine for v in VARIANTS}
    worst = {v: max(abs(probability_up(v, nu, r) - nu) for nu in grid) for v in VARIANTS}
    assert mean == {"stochastic": Fraction(-1, 2 ** (r + 1)), "stochastic_b": 0, "stochastic_c": 0}
    assert worst["stochastic"] < Fraction(1, 2**r)
    assert max(worst["stochastic_b"], worst["stochastic_c"]) <= Fraction(1, 2 ** (r + 1))


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
