"""Elementary functions: all bfloat16 inputs, specials, and proved bounds against an independent evaluation.

The oracle evaluates the Taylor and Newton series in `decimal` with 50 digits; for the exhaustive tests, where `math` (glibc)
is used, its float64 error of below 2 units in the last place is part of the bound.
"""

import decimal
import math
from decimal import Decimal

import numpy as np
import pytest

from lpref.ref import elementary
from lpref.ref.errors import FormatError

decimal.getcontext().prec = 60
INF, NAN = math.inf, math.nan
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798")

BF16 = (np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)).view(np.float32)


def dec_sin(x):
    x = x - 2 * PI * (x / (2 * PI)).to_integral_value()
    term, total, n = x, x, 1
    while abs(term) > Decimal(10) ** -58:
        term = -term * x * x / ((n + 1) * (n + 2))
        total, n = total + term, n + 2
    return total


def dec_erf(x):
    if abs(x) > 7:
        return Decimal(1).copy_sign(x)
    term, total, n = x, x, 0
    while abs(term) > Decimal(10) ** -58:
        n += 1
        term = term * 2 * x * x / (2 * n + 1)
        total += term
    return 2 / PI.sqrt() * (-x * x).exp() * total


def dec_tanh(x):
    if abs(x) < Decimal("1e-8"):
        return x - x**3 / 3
    u = (2 * x).exp()
    return (u - 1) / (u + 1)


# name -> (oracle in decimal, low, high of the argument, relative bound of the float64 value)
ORACLES = {
    "exp": (lambda x: x.exp(), -700, 700, 2.0**-46),
    "exp2": (lambda x: (x * Decimal(2).ln()).exp(), -1000, 1000, 2.0**-46),
    "log": (lambda x: x.ln(), 1e-30, 8, 2.0**-50),
    "log2": (lambda x: x.ln() / Decimal(2).ln(), 1e-30, 8, 2.0**-50),
    "sin": (dec_sin, -1e5, 1e5, 2.0**-48),
    "cos": (lambda x: dec_sin(x + PI / 2), -1e5, 1e5, 2.0**-48),
    "tanh": (dec_tanh, -8, 8, 2.0**-45),
    "sigmoid": (lambda x: 1 / (1 + (-x).exp()), -80, 80, 2.0**-46),
    "erf": (dec_erf, -5, 5, 2.0**-48),
    "rsqrt": (lambda x: 1 / x.sqrt(), 1e-30, 1e30, 2.0**-51),
}


@pytest.mark.parametrize("name", ORACLES)
def test_float64_within_its_bound(name):
    oracle, low, high, bound = ORACLES[name]
    rng = np.random.default_rng(5)
    x = rng.uniform(low, high, 200)
    x = np.concatenate([x, x[:100] * 2.0 ** rng.integers(-30, 0, 100), [min(high, 1.0), min(high, 1.0 - 2.0**-53)]])
    for v, y in zip(x, getattr(elementary, name)(x), strict=True):
        true = oracle(Decimal(float(v)))
        assert abs(Decimal(float(y)) - true) <= Decimal(bound) * abs(true), (v, y)


@pytest.mark.parametrize("name", ORACLES)
def test_float32_is_the_float64_value_rounded_once(name):
    x = np.random.default_rng(6).normal(size=3000).astype(np.float32) * np.float32(8)
    f = getattr(elementary, name)
    with np.errstate(over="ignore"):
        once = f(x.astype(np.float64)).astype(np.float32)
    y = f(x)
    assert y.dtype == np.float32
    assert y.shape == x.shape
    assert np.array_equal(y, once, equal_nan=True)


def _math(function, x):
    out = []
    with np.errstate(invalid="ignore"):  # signalling NaNs
        x = x.astype(np.float64)
    for v in x:
        try:
            out.append(function(float(v)))
        except OverflowError:
            out.append(INF)
        except ValueError:
            out.append(NAN)
    return np.array(out)


def _math_log(function):
    return lambda v: -INF if v == 0 else function(v)


GLIBC = {
    "exp": math.exp,
    "exp2": math.exp2,
    "log": _math_log(math.log),
    "log2": _math_log(math.log2),
    "tanh": math.tanh,
    "erf": math.erf,
    "rsqrt": lambda v: math.copysign(INF, v) if v == 0 else 1 / math.sqrt(v),
    "sigmoid": lambda v: 0.0 if v < -700 else 1 / (1 + math.exp(-v)),
    "sin": lambda v: math.sin(v) if abs(v) <= 2.0**20 else NAN,
    "cos": lambda v: math.cos(v) if abs(v) <= 2.0**20 else NAN,
}


CLOSE = {"exp": 12, "sigmoid": 256}
"""Inputs within 2^-43 of a midpoint: exp(x) = 1 + x + ..., sigmoid(x) = 1/2 + x/4 - ... for tiny x."""


@pytest.mark.parametrize("name", GLIBC)
def test_all_bfloat16_inputs_are_correctly_rounded(name):
    """Equal bits wherever the float64 truth is at least 2^-43 away from a rounding boundary; few are closer."""
    true = _math(GLIBC[name], BF16)
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = (true * (1 - 2.0**-43)).astype(np.float32), (true * (1 + 2.0**-43)).astype(np.float32)
    y = getattr(elementary, name)(BF16)
    equal = (y.view(np.uint32) == low.view(np.uint32)) | (y.view(np.uint32) == high.view(np.uint32))
    assert np.all(equal | (np.isnan(y) & np.isnan(true))), BF16[~(equal | (np.isnan(y) & np.isnan(true)))][:5]
    assert np.count_nonzero((low != high) & ~np.isnan(true)) <= CLOSE.get(name, 8)


SPECIALS = {
    "exp": [(INF, INF), (-INF, 0.0), (NAN, NAN), (0.0, 1.0), (-0.0, 1.0), (1e30, INF), (-1e30, 0.0)],
    "exp2": [(INF, INF), (-INF, 0.0), (NAN, NAN), (10.0, 1024.0), (-149.0, 2.0**-149), (-150.0, 0.0), (128.0, INF)],
    "log": [(INF, INF), (-INF, NAN), (NAN, NAN), (0.0, -INF), (-0.0, -INF), (1.0, 0.0), (-1.0, NAN)],
    "log2": [(INF, INF), (-1.0, NAN), (NAN, NAN), (0.0, -INF), (2.0**-149, -149.0), (2.0**127, 127.0), (1.0, 0.0)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (NAN, NAN), (2.0**21, NAN)],
    "cos": [(0.0, 1.0), (INF, NAN), (NAN, NAN), (-(2.0**21), NAN)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (2.0**-149, 2.0**-149)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN)],
    "sigmoid": [(0.0, 0.5), (INF, 1.0), (-INF, 0.0), (NAN, NAN), (-200.0, 0.0)],
    "rsqrt": [(0.0, INF), (-0.0, -INF), (INF, 0.0), (-1.0, NAN), (NAN, NAN), (4.0, 0.5)],
}


@pytest.mark.parametrize("name", SPECIALS)
def test_specials(name):
    for x, expected in SPECIALS[name]:
        y = float(getattr(elementary, name)(np.float32(x)))
        assert (math.isnan(y) and math.isnan(expected)) or (
            y == expected and math.copysign(1, y) == math.copysign(1, expected)
        ), x


def test_float64_subnormals_and_ends():
    assert elementary.log(np.float64(5e-324)) == pytest.approx(-744.4400719213812, rel=1e-15)
    assert elementary.exp(np.float64(-745.0)) == 5e-324
    assert elementary.exp(np.float64(709.7)) < INF
    assert elementary.exp(np.float64(709.8)) == INF
    assert elementary.exp2(np.float64(-1074)) == 5e-324
    assert elementary.exp2(np.float64(1023)) == 2.0**1023


@pytest.mark.parametrize("name", ["tanh", "erf", "sin"])
def test_odd_to_the_bit(name):
    f = getattr(elementary, name)
    x = np.random.default_rng(7).normal(size=2000) * 4
    assert np.array_equal(f(-x), -f(x))


@pytest.mark.parametrize("name", ["exp", "exp2", "log", "log2", "tanh", "erf", "sigmoid", "rsqrt"])
def test_monotone_in_float32(name):
    """Over runs of neighbouring float32 values, across every reduction boundary of the sequences."""
    f = getattr(elementary, name)
    sign = -1 if name == "rsqrt" else 1
    for centre in (0.1, 0.34657359, 0.70710678, 1.0, 1.0397208, 1.41421356, 2.0, 5.9, 6.0, 20.0):
        bits = np.float32(centre).view(np.uint32) + np.arange(-500, 500).astype(np.uint32)
        y = sign * f(bits.view(np.float32))
        assert np.all(y[1:] >= y[:-1]), centre


POW = [
    (2.0, 10.0, 1024.0), (2.0, -1.0, 0.5), (0.0, 0.0, 1.0), (NAN, 0.0, 1.0), (1.0, NAN, 1.0), (-1.0, INF, 1.0), (-1.0, NAN, NAN),
    (-2.0, 3.0, -8.0), (-2.0, 2.0, 4.0), (-2.0, 0.5, NAN), (-0.0, 3.0, -0.0), (-0.0, 2.0, 0.0), (-0.0, -3.0, -INF), (0.0, -2.0, INF),
    (-INF, 3.0, -INF), (-INF, 0.5, INF), (-INF, -3.0, -0.0), (0.5, INF, 0.0), (2.0, INF, INF), (2.0, -INF, 0.0), (INF, -1.0, 0.0),
    (3.0, 1.0, 3.0), (10.0, 2.0, 100.0),
]  # fmt: skip


@pytest.mark.parametrize(("x", "y", "expected"), POW)
def test_pow_specials(x, y, expected):
    z = float(elementary.pow(np.float32(x), y))
    assert (math.isnan(z) and math.isnan(expected)) or (
        z == expected and math.copysign(1, z) == math.copysign(1, expected)
    )


def test_pow_within_its_bound():
    rng = np.random.default_rng(8)
    x, y = rng.uniform(1e-3, 50, 300), rng.uniform(-20, 20, 300)
    for a, b, z in zip(x, y, elementary.pow(x, y), strict=True):
        log = Decimal(float(b)) * Decimal(float(a)).ln()
        assert abs(Decimal(float(z)) / log.exp() - 1) <= Decimal(2.0**-46) + abs(log) * Decimal(2.0**-51)


def test_shapes_and_types():
    assert elementary.exp(np.zeros((2, 0, 3), np.float32)).shape == (2, 0, 3)
    assert elementary.exp(np.zeros((4, 3), np.float32).T).shape == (3, 4)
    assert elementary.pow(np.ones((2, 1), np.float32), np.ones((1, 5))).shape == (2, 5)
    big = np.linspace(-5, 5, 20001, dtype=np.float32)
    assert elementary.exp(big)[[0, 8191, 8192, 20000]].tolist() == elementary.exp(big[[0, 8191, 8192, 20000]]).tolist()
    with pytest.raises(FormatError, match="float32 or float64"):
        elementary.exp(np.arange(3))
