"""Any ExMy format, any float64, any rounding: equal to the oracle."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from oracle import rounding, table

from lpref.ref.formats import exmy, format
from lpref.ref.rounding import ROUNDINGS


@st.composite
def rows(draw: st.DrawFn) -> tuple[int, int, int, bool, str]:
    specials = draw(st.sampled_from(["ieee", "fn", "fnuz", "none"]), label="specials")
    e = draw(st.integers(2, 5), label="E")
    m = draw(st.integers(1 if specials == "ieee" else 0, 4), label="M")
    signed = specials == "fnuz" or draw(st.booleans(), label="signed")
    return e, m, draw(st.integers(2, 20), label="bias"), signed, specials


@given(row=rows(), data=st.data())
def test_any_format_rounds_by_definition(row: tuple[int, int, int, bool, str], data: st.DataObject) -> None:
    e, m, bias, signed, specials = row
    f = exmy("any", e, m, bias=bias, signed=signed, specials=specials, title="", standard="", source_level="memory")
    t = table.float_table("any", row)
    values = [v for v, _ in t.values]
    near = st.builds(lambda v, ulps: float(v) * (1 + ulps * 2.0**-52), st.sampled_from(values), st.integers(-2, 2))
    middle = st.integers(0, len(values) - 2).map(lambda i: float((values[i] + values[i + 1]) / 2))
    x = data.draw(st.one_of(near, middle, st.floats(allow_nan=False, allow_infinity=False)), label="x") + 0.0
    rule = data.draw(st.sampled_from(list(ROUNDINGS)), label="rounding")
    r = data.draw(st.integers(1, 32), label="r")
    word = data.draw(st.integers(0, 2**r - 1), label="word")
    got = f.encode(x, rule, words=np.array(word), word_bits=r)
    assert got == rounding.finite_code(t, rounding.place(t, Fraction(x)), rule, word, r)[0]


@given(
    x=st.floats(width=32, allow_nan=False, allow_infinity=False),
    y=st.floats(width=32, allow_nan=False, allow_infinity=False),
)
def test_monotone_everywhere(x: float, y: float) -> None:
    low, high = sorted((x, y))
    for name in ("e4m3", "e5m2", "e2m1", "int8", "nf4", "bfloat16", "dynamic8", "ue4m3"):
        a, b = format(name).round([low, high])
        assert a <= b
