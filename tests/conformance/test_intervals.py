"""The intervals of the prover against the oracle (rational numbers, one input at a time) and against `Format.encode`."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from oracle.rounding import DETERMINISTIC, STOCHASTIC, finite_code, place
from oracle.table import FLOATS, make

from lpref.conformance.intervals import ANY_NAN, PATTERNS, REFUSED, intervals, pattern_above
from lpref.ref.errors import LprefError, SpecError
from lpref.ref.formats import FORMATS, format
from lpref.ref.random import words
from lpref.ref.rounding import OVERFLOW

SMALL = [n for n, f in FORMATS.items() if f.bits <= 8 and not n.startswith(("int", "uint"))]
SMALL += ["int1", "int8", "uint4", "p3109_5p1ue", "p3109_6p3uf", "posit6_0"]
ORACLE = [*(n for n in FLOATS if FORMATS[n].bits <= 8), "e8m0", "int1", "int4", "uint4", "nf4", "bnb_fp4"]


def borders(runs, most: int) -> np.ndarray:
    """Patterns on both sides of every border, thinned out to about `most`, and some at random."""
    points = (runs.starts[:, None] + np.arange(-2, 3)).reshape(-1)
    points = np.concatenate([runs.starts[[0, 1, -2]], points[:: 1 + points.size // most], words(0, 9, 0, 0, 64).astype(np.int64)])
    return np.unique(points[(points >= 0) & (points < PATTERNS)]).astype(np.uint32)


@pytest.mark.parametrize("name", ORACLE)
@pytest.mark.parametrize("rule", [*DETERMINISTIC, *STOCHASTIC])
def test_intervals_are_the_oracle_s(name: str, rule: str) -> None:
    table = make(name)
    for word in (0, 100) if rule in STOCHASTIC else (0,):
        runs = intervals(format(name), rule, "saturate", word, 8)
        p = borders(runs, 40)
        p = p[np.isfinite(p.view(np.float32))]
        x = p.view(np.float32).astype(np.float64)
        p, x = p[x != 0], x[x != 0]
        want = [finite_code(table, place(table, Fraction(float(v))), rule, word, 8)[0] for v in x]
        assert runs.expected(p).tolist() == want, (rule, word)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("overflow", [n for n in OVERFLOW if n not in ("ocp_sat", "posit")])
def test_intervals_are_those_of_encode(name: str, overflow: str) -> None:
    f = format(name)
    rule = "to_odd" if overflow == "saturate" else "nearest_even"
    runs = intervals(f, rule, overflow)
    p = borders(runs, 30)
    nan = np.isnan(f.decode(np.arange(2**f.bits)))
    for pattern, want in zip(p, runs.expected(p).tolist(), strict=True):
        try:
            got = int(f.encode(pattern.view(np.float32), rule, overflow))
        except LprefError:
            got = REFUSED
        assert got == want or (want == ANY_NAN and nan[got]), hex(pattern)


@pytest.mark.parametrize("name", ["binary16", "posit16_2", "takum16_linear"])
def test_formats_of_sixteen_bits(name: str) -> None:
    f = format(name)
    for rule in ("nearest_even", "to_odd") if name == "binary16" else ("nearest_even",):
        runs = intervals(f, rule, "saturate")
        p = borders(runs, 4000)
        p = p[runs.expected(p) >= 0]
        assert np.array_equal(f.encode(p.view(np.float32), rule), runs.expected(p))


def test_runs_cover_everything_once() -> None:
    runs = intervals(format("e5m2"), "nearest_even", "to_infinity")
    assert runs.starts[0] == 0
    assert runs.starts[-1] == PATTERNS
    assert (np.diff(runs.starts) > 0).all()
    assert runs.refused == 0
    bounds, codes = runs.between(0x3F000000, 0x3F900000)
    p = np.arange(0x3F000000, 0x3F900000, dtype=np.uint32)
    assert np.array_equal(np.repeat(codes, np.diff(bounds)), runs.expected(p))
    assert intervals(format("e2m1"), "nearest_even", "saturate").refused == 2 * (2**23 - 1)


def test_roots_and_rationals() -> None:
    for number, root in ((Fraction(2), 2), (Fraction(9, 4), 2), (Fraction(1, 3), 1), (Fraction(5, 2**149), 1), (Fraction(1, 2**300), 1)):
        k = pattern_above(number, root, strict=False)
        at, below = (Fraction(float(np.uint32(v).view(np.float32))) for v in (k, max(k - 1, 0)))
        assert below**root < number <= at**root
        exact = at**root == number
        assert pattern_above(number, root, strict=True) == k + exact


def test_wide_formats_are_refused() -> None:
    with pytest.raises(SpecError, match="float32 has 32 bits"):
        intervals(format("float32"), "nearest_even", "saturate")
