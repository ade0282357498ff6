"""Fixed point: integers in units of a power of two."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lpref.ref.errors import FormatError, NonFiniteError
from lpref.ref.formats import format


# -- fixed point -----------------------------------------------------------------------------------------------------
def test_fixed_point_is_an_integer_in_units() -> None:
    f, i = format("fixed16.8"), format("int16")
    x = np.random.default_rng(2).normal(size=500) * 60
    for rule in ("nearest_even", "nearest_away", "toward_zero", "toward_positive", "to_odd"):
        assert np.array_equal(f.encode(x, rule), i.encode(x * 256, rule))
    assert (f.min, f.max, f.min_subnormal) == (-128.0, 128 - 2.0**-8, 2.0**-8)  # Q(8, 8): -2^(IL-1) .. 2^(IL-1) - eps
    assert f.encode([128.0, -129.0, 1e300, -np.inf]).tolist() == [0x7FFF, 0x8000, 0x7FFF, 0x8000]
    assert format("fixed7.0").encode([-3.5, 70.0]).tolist() == format("int7").encode([-3.5, 70.0]).tolist()
    assert format("ufixed8.4").encode([-1.0, 2.03125, 99.0]).tolist() == [0, 32, 255]
    with pytest.raises(NonFiniteError):
        f.encode(np.nan)


def test_fixed_point_stochastic_rounding_has_the_mean_x() -> None:
    f, r = format("fixed8.4"), 6
    words = np.arange(2**r)
    for x in (
        Fraction(37, 1024),
        Fraction(-37, 1024),
        Fraction(5, 1),
        Fraction(-1001, 1024),
    ):  # on the grid of the words
        mean = sum(
            Fraction(v) for v in f.round(np.full(2**r, float(x)), "stochastic", words=words, word_bits=r).tolist()
        )
        assert mean / 2**r == x


@pytest.mark.parametrize("name", ["fixed1.0", "fixed33.2", "ufixed0.0", "fixed8.65"])
def test_fixed_points_that_make_no_format(name: str) -> None:
    with pytest.raises(FormatError):
        format(name)


def test_mxint8_element() -> None:
    f = format("mxint8_element")
    assert f.name == "fixed8.6"
    assert (f.max, f.min, f.min_subnormal, len(f.table()[0])) == (127 / 64, -2.0, 2.0**-6, 256)
