"""Every format of at most 8 bits, exhaustively, and the 16-bit ones by strata, against the Fraction oracle."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from oracle import cases, rounding, table

from lpref.conformance.proves import proves
from lpref.ref.formats import FORMATS, format
from lpref.ref.rounding import ROUNDINGS

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in range(9, 17) if f"{sign}int{bits}" not in ("int16", "uint9")]
WIDE = ["binary16", "bfloat16", "int16", "uint9", "fixed16.8", "posit16_1", "posit16_2", "takum16_linear"]
FAMILIES = [
    "lns6_g4",
    "lns4_g1",
    "lns5_g2_zero",
    "apot5_k2",
    "fixed6.9",
    "ufixed5.3",
]  # members that are not registered
SMALL = [*(n for n, f in FORMATS.items() if f.bits <= 8 and not n.startswith("dynamic8")), *FAMILIES]


@cache
def oracle(name: str) -> table.Table:
    if name.startswith("dynamic8"):  # the values are float32 results of a stated sequence: tested in test_dynamic_tree
        return table.book(name, "down", [Fraction(v) for v in FORMATS[name].decode(np.arange(256)).tolist()])
    return table.make(name)


@cache
def places(name: str, step: int) -> tuple[np.ndarray, list[rounding.Place]]:
    x = cases.critical(oracle(name), step)
    return x, [rounding.place(oracle(name), Fraction(v)) for v in x.tolist()]


@pytest.mark.parametrize("name", [*SMALL, *WIDE])
def test_every_code_decodes_to_the_oracles_value(name: str) -> None:
    f, t = format(name), oracle(name)
    got = f.decode(np.arange(2**f.bits))
    for code in range(2**f.bits):
        want = t.codes[code]
        if isinstance(want, str):
            assert str(got[code]) == want, hex(code)
        else:
            assert Fraction(float(got[code])) == want, hex(code)
    zeros = {c for c, v in t.codes.items() if v == 0}
    assert {c for c in zeros if np.signbit(got[c])} == (t.minus_zeros or {t.minus_zero} & zeros)


@proves("{name}", "oracle")
@proves("{rule}", "oracle")
@pytest.mark.parametrize("name", [*SMALL, *WIDE, *INTEGERS, "dynamic8", "dynamic8_unsigned"])
@pytest.mark.parametrize("rule", rounding.DETERMINISTIC)
def test_encode_is_nearest_by_definition(name: str, rule: str) -> None:
    step = 1 if format(name).bits <= 8 else 1021
    t = oracle(name)
    x, where = places(name, step)
    want = [rounding.finite_code(t, p, rule) for p in where]
    got = format(name).encode(x, rule)
    wrong = np.flatnonzero(got != [c for c, _ in want])
    assert wrong.size == 0, [(x[i].hex(), hex(got[i]), hex(want[i][0])) for i in wrong[:5]]


@pytest.mark.parametrize("name", [*SMALL, *WIDE, "dynamic8"])
@pytest.mark.parametrize("rule", [n for n, r in ROUNDINGS.items() if not r.stochastic])
def test_raise_raises_exactly_where_the_range_is_left(name: str, rule: str) -> None:
    f, t = format(name), oracle(name)
    x, where = places(name, 1 if f.bits <= 8 else 1021)
    left = np.array([rounding.finite_code(t, p, rule)[1] for p in where])
    f.encode(x[~left], rule, "raise")
    marker = f.has_nan or f.has_inf
    if marker:  # the codes of a non-saturating policy show the same boundary
        special = ~np.isfinite(f.decode(f.encode(x, rule, "ml_dtypes")))
        r = ROUNDINGS[rule]
        stops = np.where(x < 0, f.signed and "-" in r.toward_zero_for, "+" in r.toward_zero_for) & (x != 0)
        if rule == "to_odd" and name.startswith("p3109") and name.endswith("ue"):
            stops |= x > 0  # max has the odd code: P3109 sec. 4.7.5
        assert np.array_equal(special, left & ~stops)
    for i in np.flatnonzero(left)[:: max(1, int(left.sum()) // 8)]:
        with pytest.raises(ValueError, match="outside"):
            f.encode(x[i], rule, "raise")


@proves("{rule}", "oracle")
@pytest.mark.parametrize("name", [n for n in SMALL if format(n).bits <= 4] + ["e2m3", "e4m3", "e8m0", "ue4m3", "int8", "posit8_1", "hif8"])
@pytest.mark.parametrize("rule", rounding.STOCHASTIC)
def test_stochastic_follows_the_definition_for_every_word(name: str, rule: str) -> None:
    f, t, r = format(name), oracle(name), 5
    x, where = places(name, 1 if f.bits <= 4 else 17)
    words = np.arange(2**r, dtype=np.uint16)
    got = f.encode(np.repeat(x, 2**r), rule, words=np.tile(words, x.size) + 2**r * 3, word_bits=r).reshape(-1, 2**r)
    for i, p in enumerate(where):
        want = [rounding.finite_code(t, p, rule, int(w), r)[0] for w in words]
        assert got[i].tolist() == want, float(x[i]).hex()


@proves("{name}", "oracle")
@pytest.mark.parametrize("name", ["float32", "tf32", "float64", "binary16", "bfloat16"])
@pytest.mark.parametrize("rule", rounding.DETERMINISTIC)
def test_wide_formats_round_on_their_own_grid(name: str, rule: str) -> None:
    """Without a table: x = S 2^Q with S rounded by Fraction arithmetic at the format's spacing."""
    _, m_bits, bias, _, _ = table.FLOATS[name]
    rng = np.random.default_rng(7)
    x = np.ldexp(1 + rng.random(300), rng.integers(-160, 120, 300)) * rng.choice([-1, 1], 300)
    x = np.concatenate(
        [x, x.astype(np.float32), [0.0, -0.0, 5e-324, 2.0**-1022, 1 + 2.0**-11, 1 + 2.0**-11 + 2.0**-40]]
    )
    f = format(name)
    if name == "binary16":
        x = x[np.abs(x) < 60000]
    got = f.round(x, rule)
    for v, g in zip(x.tolist(), got.tolist(), strict=True):
        exact = abs(Fraction(v))
        q = Fraction(2) ** (max(math.frexp(v)[1] - 1 if v else 1 - bias, 1 - bias) - m_bits)
        s = exact / q
        p = rounding.Place(v < 0, s.__floor__(), s.__floor__() + 1, s - s.__floor__())
        t = table.Table(name, "even", [])
        want = (s.__floor__() + rounding.up(t, p, rule)) * q * (-1 if v < 0 else 1)
        assert Fraction(g) == want, (v.hex(), float(g).hex())
        assert np.signbit(g) == np.signbit(v)
