"""lns, pot, apot, radix4_fp4, floatsd8, af4, ternary, binary: what their pages state beyond values and midpoints."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from oracle import cases, rounding, table

from lpref.ref.errors import FormatError, NonFiniteError
from lpref.ref.formats import CodebookFormat, format
from lpref.ref.formats.floatsd import GROUPS, MANTISSAS
from lpref.ref.formats.lns import lns, multiply
from lpref.ref.formats.pot import magnitudes
from lpref.ref.formats.radix4 import two_phase


# -- lns -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["lns8_g8", "lns6_g4", "lns4_g1", "lns5_g2_zero"])
def test_lns_relative_error_is_uniform(name: str) -> None:
    """|log2(y / x)| <= 1 / (2 gamma) for the true value y of the code: x^(2 gamma) lies between 2^-(2k+1) and 2^-(2k-1)."""
    f = format(name)
    rng = np.random.default_rng(0)
    x = np.exp2(-rng.random(300) * (2 ** (f.bits - 1) - 2) / f.gamma) * rng.choice([-1, 1], 300)
    for v, code in zip(x.tolist(), f.encode(x).tolist(), strict=True):
        k, power = code % 2 ** (f.bits - 1), Fraction(abs(v)) ** (2 * f.gamma)
        assert Fraction(1, 2 ** (2 * k + 1)) < power
        assert power < Fraction(2, 4**k)
        assert (code >= 2 ** (f.bits - 1)) == (v < 0)


def test_lns_products_are_exact_in_codes() -> None:
    f = lns(8, 8)
    a, b = (c.ravel() for c in np.meshgrid(np.arange(0, 256, 5), np.arange(0, 256, 3)))
    got = multiply(f, a, b)
    k, sign = (a % 128) + (b % 128), (a // 128) ^ (b // 128)
    assert np.array_equal(got, np.minimum(k, 127) + 128 * sign)
    inside = k <= 127
    error = np.abs(f.decode(got) / (f.decode(a) * f.decode(b)) - 1)[inside]
    assert error.max() <= 4 * 2.0**-53  # three values rounded to float64, one product: the codes are exact
    z = lns(8, 8, zero=True)
    assert multiply(z, [127, 127, 5, 255], [0, 130, 255, 4]).tolist() == [127, 255, 255, 255]


def test_lns_zero_and_what_is_below_the_range() -> None:
    plain, zero = format("lns8_g8"), format("lns8_g8_zero")
    smallest = plain.min_normal
    assert smallest == 2.0**-15 * 2.0 ** (-7 / 8) or abs(smallest / 2 ** (-127 / 8) - 1) < 2**-52
    for rule in ("nearest_even", "toward_zero", "toward_positive", "to_odd"):
        assert plain.encode([0.0, -0.0, 1e-30, -1e-30], rule).tolist() == [127, 127, 127, 255]
    edge = 2.0 ** (-253 / 16)  # where 126 changes over to 127
    assert zero.round([0.0, 1e-30, edge * 0.9999, edge * 1.0001, -edge]).tolist()[:3] == [0.0, 0.0, 0.0]
    assert zero.encode([edge * 1.0001, -edge * 1.0001, -edge * 0.9999, -0.0]).tolist() == [126, 254, 255, 255]
    with pytest.raises(FormatError):
        plain.encode(1.01, overflow="raise")
    with pytest.raises(NonFiniteError):
        plain.encode(math.nan)


@pytest.mark.parametrize(("bits", "gamma"), [(2, 1), (17, 8), (8, 3), (8, 0), (16, 16), (8, 256)])
def test_lns_parameters_that_make_no_format(bits: int, gamma: int) -> None:
    with pytest.raises(FormatError):
        lns(bits, gamma)


def test_lns_wide_members_keep_their_octaves() -> None:
    f = format("lns16_g128")
    v = f.decode(np.arange(0, 2**15, 128))
    assert np.array_equal(v, 2.0 ** -np.arange(256.0))
    assert (np.diff(f.decode(np.arange(2**15))) < 0).all()


def test_rounding_in_log_space_is_not_nearest_in_value() -> None:
    f = format("lns8_g8")
    x = 0.958
    assert f.round(x) == 1.0
    assert abs(x - 2 ** (-1 / 8)) < abs(x - 1)


# -- powers of two ---------------------------------------------------------------------------------------------------
def published_sets(width: int) -> list[list[Fraction]]:
    """The loops of the published code, in fractions."""
    a, b, c = [Fraction(0)], [Fraction(0)], [Fraction(0)]

    def p(i: int) -> Fraction:
        return Fraction(1, 2**i)

    for i in range(3):
        if width == 2:
            a.append(p(i + 1))
        elif width == 4:
            a.append(p(2 * i + 1))
            b.append(p(2 * i + 2))
        elif width == 6:
            a.append(p(3 * i + 1))
            b.append(p(3 * i + 2))
            c.append(p(3 * i + 3))
        elif width == 3:
            (a if i < 2 else b).append(p(i + 1))
            if i == 2:
                a.append(p(i + 2))
        else:
            (a if i < 2 else c).append(p(2 * i + 1))
            (b if i < 2 else a).append(p(2 * i + 2))
            if i == 2:
                b.append(p(2 * i + 3))
    return [a, b, c]


@pytest.mark.parametrize("width", [2, 3, 4, 5, 6])
def test_apot_levels_are_the_published_ones(width: int) -> None:
    sums = {x + y + z for x, y, z in product(*published_sets(width))}
    assert len(sums) == 2**width
    assert magnitudes(width, 2) == sorted(v / max(sums) for v in sums)


def test_apot_is_finer_next_to_zero_than_uniform_and_pot_is_its_coarsest_member() -> None:
    f, uniform = format("apot5_k2"), format("apot5_k1")
    assert np.array_equal(uniform.decode(np.arange(16)), np.array([float(Fraction(i, 15)) for i in range(16)]))
    steps = np.diff(f.decode(np.arange(16)))
    assert steps[0] < 1 / 15 < steps[-1]
    for bits in (3, 4, 5):
        p, a = format(f"pot{bits}"), format(f"apot{bits}_k{bits - 1}")
        assert p.values == a.values
        assert a.exact
    assert not format("apot4_k2").exact
    assert format("pot4").round([0.7, 0.75, 0.76, -3.0, 2.0**-7, 1.1 * 2.0**-7]).tolist() == [
        0.5,
        0.5,
        1.0,
        -1.0,
        0.0,
        2.0**-6,
    ]


@pytest.mark.parametrize("name", ["pot1", "pot9", "apot5_k3", "apot4_k0", "apot9_k2"])
def test_powers_of_two_that_make_no_format(name: str) -> None:
    with pytest.raises(FormatError):
        format(name)


# -- radix 4 ---------------------------------------------------------------------------------------------------------
def test_radix4_is_the_published_formula_inside_its_range() -> None:
    """4^floor(log4(1.6 x)): the exponent by comparisons in fractions."""
    f, odd = format("radix4_fp4"), format("radix4_fp4_odd")
    x = np.concatenate(
        [
            2.0 ** np.linspace(-6, 6, 400),
            2.5 * 4.0 ** np.arange(-3.0, 3),
            np.nextafter(2.5 * 4.0 ** np.arange(-3.0, 3), 0),
        ]
    )
    for v in x.tolist():
        e = max(e for e in range(-9, 9) if Fraction(4) ** e <= Fraction(v) * Fraction(8, 5))
        assert f.round(v) == 4.0**e
        assert odd.round(2 * v) == 2 * 4.0**e
    assert f.max / f.min_normal == 2.0**12
    assert format("e2m1").max / format("e2m1").min_subnormal == 12
    assert f.round([2.49, 2.51, 4.0**-3 / 2, np.nextafter(4.0**-3 / 2, 0)]).tolist() == [1.0, 4.0, 4.0**-3, 0.0]


def test_radix4_spans_2_to_the_12_where_e2m1_spans_12() -> None:
    spans = [format(n).max / format(n).min_subnormal for n in ("radix4_fp4", "radix4_fp4_odd", "e2m1")]
    assert spans == [2.0**12, 2.0**12, 12.0]
    assert format("radix4_fp4").round([2.49, 2.51]).tolist() == [1.0, 4.0]


def test_two_phases_err_on_different_sides() -> None:
    x = np.linspace(0.25, 16, 63001)[1:-1]
    even, odd = two_phase(x)
    opposite = (even - x) * (odd - x) < 0
    assert opposite.mean() > 0.7
    assert np.abs((even + odd) / 2 - x).mean() < min(np.abs(even - x).mean(), np.abs(odd - x).mean())
    assert set(np.log2(even / odd).round(9)) == {-1.0, 1.0}  # they differ by a factor of two, always
    log_mid = np.where(x >= 2.0 ** (2 * np.floor(np.log2(x) / 2) + 1), 4.0, 1.0) * 4.0 ** np.floor(np.log2(x) / 2)
    assert (log_mid - x).mean() > 0.3 > abs((even - x).mean())  # the midpoint in log space rounds up too often


# -- FloatSD8 --------------------------------------------------------------------------------------------------------
def test_floatsd8_mantissas() -> None:
    assert len(MANTISSAS) == 31
    assert MANTISSAS == tuple([*range(-18, -13), *range(-10, 11), *range(14, 19)])
    assert all(abs(d) & (abs(d) - 1) == 0 for group in GROUPS for d in group)  # one nonzero digit: a power of two
    f = format("floatsd8")
    values = f.decode(np.arange(256))
    for v in values.tolist():
        assert any(v == (4 * a + b) * 2.0 ** (e - 9) for a, b in product(*GROUPS) for e in range(8))
    assert (f.max, f.min_normal) == (18 * 2.0**-2, 2.0**-9)
    gap = f.round(np.arange(10.0, 14.01, 0.5) * 2.0**-2)
    assert (gap / 2.0**-2).tolist() == [10, 10, 10, 10, 14, 14, 14, 14, 14]


# -- AF4 -------------------------------------------------------------------------------------------------------------
def normal_cdf(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def absmax_scaled_cdf(x: float, block: int = 64) -> float:
    """P(z / absmax <= x) for an element of a block of standard normal numbers: Simpson's rule over the maximum m."""
    m = np.linspace(1e-9, 9, 8001)
    half = 2 * normal_cdf(m) - 1
    density = block * half ** (block - 1) * 2 * np.exp(-m * m / 2) / math.sqrt(2 * math.pi)
    inside = (normal_cdf(m * x) - normal_cdf(-m)) / half
    weight = np.where(np.arange(m.size) % 2 == 1, 4.0, 2.0)
    weight[[0, -1]] = 1
    continuous = float((inside * density * weight).sum() * (m[1] - m[0]) / 3)
    return 1 / (2 * block) + (block - 1) / block * continuous


def test_af4_codes_are_medians_of_their_cells() -> None:
    """The definition the values were computed from. 2e-8: eight printed decimals, cells of two halves, density below 1.2."""
    f = format("af4")
    codes = f.decode(np.arange(16)).tolist()
    middles = [(a + b) / 2 for a, b in pairwise(codes)]
    for i in (*range(1, 7), *range(8, 15)):
        here = absmax_scaled_cdf(codes[i])
        low, high = (
            (0.0 if i == 8 else middles[i - 1]),
            (0.0 if i == 6 else middles[i]),
        )  # next to 0 the cell ends there
        left, right = here - absmax_scaled_cdf(low), absmax_scaled_cdf(high) - here
        assert abs(left - right) < 2e-8, (i, left, right)
    assert [codes[0], codes[7], codes[15]] == [-1.0, 0.0, 1.0]
    assert np.array_equal(f.encode(middles), np.arange(15))  # ties go down
    assert f.values != format("nf4").values


# -- few values ------------------------------------------------------------------------------------------------------
def test_ternary_is_rint_and_clamp_and_binary_is_the_sign() -> None:
    x = np.concatenate(
        [np.linspace(-3, 3, 241), [0.5, -0.5, np.nextafter(0.5, 1), np.nextafter(-0.5, -1), 1e-300, -1e-300]]
    )
    ternary, binary = format("ternary"), format("binary")
    assert np.array_equal(ternary.round(x), np.clip(np.rint(x), -1, 1))
    assert np.array_equal(ternary.encode(x), np.clip(np.rint(x), -1, 1) + 1)
    for rule in ("nearest_even", "toward_zero", "toward_negative", "to_odd"):
        assert np.array_equal(binary.round(x, rule), np.where(x >= 0, 1, -1))
    assert binary.round([0.0, -0.0, np.inf, -np.inf]).tolist() == [1.0, 1.0, 1.0, -1.0]
    assert math.log2(3) == pytest.approx(1.585, abs=1e-3)


def test_ternary_has_a_spare_code() -> None:
    f = format("ternary")
    assert f.nan_code == 3
    assert np.isnan(f.decode(3))
    assert len(f.table()[0]) == 3


# -- families against the oracle, members that are not in the registry -----------------------------------------------
@pytest.mark.parametrize("name", ["lns7_g8", "lns9_g16", "fixed9.12"])
def test_more_members_round_by_definition(name: str) -> None:
    f, t = format(name), table.make(name)
    x = cases.critical(t, 7)
    want = [rounding.finite_code(t, rounding.place(t, Fraction(v)), "nearest_even")[0] for v in x.tolist()]
    assert f.encode(x).tolist() == want
    assert isinstance(f, CodebookFormat) or f.precision == 8
