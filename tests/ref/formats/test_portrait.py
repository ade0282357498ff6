"""What a format looks like: neighbours and the error profile against a search through the values; pages of every format."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lpref.ref.errors import FormatError
from lpref.ref.formats import FORMATS, format
from lpref.ref.formats.portrait import error_profile, html, layout, neighbours, number_line, octave_line

SMALL = [n for n, f in FORMATS.items() if f.bits <= 8]


@pytest.mark.parametrize("name", ["e4m3", "e8m0", "posit8_1", "lns8_g8", "nf4", "int4", "hif8"])
def test_the_error_profile_bounds_what_rounding_does_and_is_reached(name: str) -> None:
    f = format(name)
    for binade in error_profile(f):
        x = np.ldexp(1 + np.arange(1 << 12) / 2.0**12, binade.exponent)
        x = np.append(x, np.nextafter(2 * x[0], 0))
        x = x[(x <= f.max) & (x >= f.min_subnormal)]
        if x.size < 2:
            continue
        error = np.abs(f.decode(f.encode(x)) - x) / x
        assert error.max() <= binade.max_relative_error * (1 + 1e-12)
        assert error.max() >= binade.max_relative_error - 2.0**-10 or x.size < 4000


def test_regular_formats_have_the_textbook_error() -> None:
    profile = {b.exponent: b for b in error_profile(format("e4m3"))}
    assert profile[0].values == 8
    assert profile[0].max_relative_error == pytest.approx(2**-4 / (1 + 2**-4), rel=1e-15)
    assert sum(b.values for b in profile.values()) == 126
    with pytest.raises(FormatError, match="2\\^32 values"):
        error_profile(format("float32"))


def test_neighbours() -> None:
    f = format("e4m3")
    assert neighbours(f, 449.0)["upper"] is None
    assert neighbours(f, -500.0)["lower"] is None
    assert neighbours(f, float("nan")) | {"x": 0} == {"x": 0, "lower": None, "upper": None, "nu": None}
    at = neighbours(f, 1.0)
    assert at["lower"] == at["upper"] == {"value": 1.0, "code": 0x38}
    assert at["nu"] == 0
    assert neighbours(f, 1.03125)["nu"] == 0.25


@pytest.mark.parametrize("name", SMALL)
def test_every_small_format_has_a_page(name: str) -> None:
    f = format(name)
    text = html(f)
    assert f.name in text
    assert len(re.findall("<td><code>[0-9a-f]+</code> ", text)) == 2**f.bits
    assert text.count("<line ") == len(f.table()[0])
    assert layout(f)
    if len(f.table()[0]) > 1:
        for line in (number_line(f), octave_line(f)):
            strokes, ends = line.split("\n")
            assert len(strokes) == len(ends) == 96
            assert strokes[0] != " "
