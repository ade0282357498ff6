"""Exact dot products against `fractions.Fraction`, rounded by definition."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpref.ref.errors import FormatError
from lpref.ref.linalg.exact_dot import exact_dot, grid_of, odd_add


def round_float32(x):
    """The float32 nearest to a Fraction, ties to even, by comparison with the neighbours."""
    c = np.float32(float(x))  # within one unit: Fraction -> float64 rounds correctly
    best = min(
        (np.nextafter(c, np.float32(-np.inf)), c, np.nextafter(c, np.float32(np.inf))),
        key=lambda v: (abs(Fraction(float(v)) - x), int(v.view(np.uint32)) & 1),
    )
    return float(best) + 0.0


def oracle(a, b):
    return [
        [round_float32(sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(r, s, strict=True))) for s in b]
        for r in a
    ]


def draw(rng, shape, bits, low, high):
    """Values of `bits` significant bits and exponents in [low, high)."""
    significand = rng.integers(-(2**bits) + 1, 2**bits, shape).astype(np.float64)
    return np.ldexp(significand, rng.integers(low, high, shape))


CASES = {
    "e2m1": (2, -1, 2), "e4m3": (4, -9, 5), "e5m2": (3, -16, 14), "int8": (7, 0, 1), "int16": (15, 0, 1), "binary16": (11, -24, 6),
    "bfloat16_wide": (8, -60, 60), "float32_wide": (24, -110, 30),
}  # fmt: skip


@pytest.mark.parametrize("a_kind", CASES)
@pytest.mark.parametrize("b_kind", ["e4m3", "e5m2", "float32_wide"])
@pytest.mark.parametrize("depth", [1, 2, 33])
def test_equals_fractions(a_kind, b_kind, depth):
    rng = np.random.default_rng(depth)
    a, b = draw(rng, (4, depth), *CASES[a_kind]), draw(rng, (5, depth), *CASES[b_kind])
    assert exact_dot(a, b).tolist() == oracle(a, b)


@given(st.integers(0, 2**32 - 1))
def test_ties_and_near_ties(seed):
    """Dots that are a float32 midpoint, or a midpoint plus or minus the smallest product: the last bit decides."""
    rng = np.random.default_rng(seed)
    kept = int(rng.integers(2**23, 2**24))
    nudge = [0.0, 2.0**-32, -(2.0**-32)][seed % 3]
    a = np.array([[float(kept), 0.5, nudge and 2.0**-16]])
    b = np.array([[1.0, 1.0, nudge * 2.0**16]])
    assert exact_dot(a, b).tolist() == oracle(a, b)
    assert exact_dot(a, b, (-16, 24), (-16, 24)).tolist() == oracle(a, b)


def test_cancellation_leaves_the_smallest_product():
    a = np.array([[57344.0, -57344.0, 2.0**-16]])
    b = np.array([[57344.0, 57344.0, 2.0**-16]])
    assert exact_dot(a, b, (-16, 16), (-16, 16)).tolist() == [[2.0**-32]]


def test_subnormal_results_are_rounded_once():
    a = np.array([[2.0**-75 * 1.5, 2.0**-100]])
    b = np.array([[2.0**-75, 2.0**-100]])
    assert exact_dot(a, b).tolist() == oracle(a, b)
    assert exact_dot(np.array([[2.0**-75]]), np.array([[2.0**-75]])).tolist() == [[0.0]]
    assert exact_dot(a[:, :1], b[:, :1]).tolist() == [[2.0**-149]]


def test_zero_is_plus_zero_and_specials_propagate():
    z = exact_dot(np.array([[-0.0, 1.0], [np.nan, 0.0], [np.inf, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert not np.signbit(z[0]).any()
    assert np.isnan(z[1]).all()
    assert z[2, 0] == np.inf
    assert np.isnan(z[2, 1])
    assert exact_dot(np.zeros((2, 0)), np.zeros((3, 0))).tolist() == [[0.0] * 3] * 2


def test_odd_add():
    one, tiny = np.array([1.0]), np.array([2.0**-80])
    assert odd_add(one, one).tolist() == [2.0]
    assert odd_add(one, tiny).tolist() == [1 + 2.0**-52]
    assert odd_add(one, -tiny).tolist() == [1 - 2.0**-53]
    assert odd_add(-one, tiny).tolist() == [-1 + 2.0**-53]
    assert odd_add(np.array([np.inf]), one).tolist() == [np.inf]


def test_grid_of():
    assert grid_of(np.array([6.0, -0.5, 0.0, np.nan])) == (-1, 3)
    assert grid_of(np.zeros(3)) == (0, 0)
    assert grid_of(np.array([1.0])) == (0, 1)


def test_too_wide_raises():
    with pytest.raises(FormatError, match="slices"):
        exact_dot(np.array([[1e-120, 1e120]]), np.array([[1.0, 1.0]]))
