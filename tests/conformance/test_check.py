"""The assertions: right things pass, wrong things are named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lpref
from lpref.conformance import check, strategies
from lpref.conformance.check import Mismatch
from lpref.ref.errors import LprefError

FORMATS = ["e4m3", "e5m2", "e2m1", "int8", "nf4", "e8m0", "bfloat16"]


@given(
    st.data(), st.sampled_from(FORMATS), st.sampled_from(["nearest_even", "toward_zero", "to_odd", "toward_positive"])
)
def test_definitions_obey_the_laws(data, name, rounding) -> None:
    f = lpref.format(name)
    x = data.draw(strategies.inputs(f))
    x = x[np.isfinite(x)]

    def cast(v):
        return f.decode(f.encode(v, rounding))

    if x.size:
        check.check_is_neighbour(cast(x), x, f)
        check.check_monotone(cast, x)
        check.check_idempotent(cast, x.astype(np.float64))


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (lambda: check.check_codes_equal(np.uint8([1, 2]), np.uint8([1, 3]), format="e2m1", x=np.float32([0.5, 1.5])),
         r"element 1: x = 1.5 \(0x1.8000000000000p\+0, bits 0x3fc00000\): got 0x2 = 0b0_01_0 = 1.0, expected 0x3 = 0b0_01_1 = 1.5"),
        (lambda: check.check_codes_equal(np.uint8([1]), np.uint8([1, 3])), r"codes: shape \(1,\), expected \(2,\)"),
        (lambda: check.check_codes_equal(np.uint8([255]), np.uint8([127]), format="e4m3", canonical_nan=True), "expected 0x7f"),
        (lambda: check.check_values_equal([-0.0], [0.0]), "got -0.0, expected 0.0"),
        (lambda: check.check_is_neighbour([2.0], np.float32([5.9]), "e2m1"), r"became 2.0, its neighbours are 4.0 and 6.0"),
        (lambda: check.check_is_neighbour([-np.inf], np.float32([500]), "e4m3"), "became -inf"),
        (lambda: check.check_idempotent(lambda x: x / 2, np.float32([1.0])), "became 0.5, which became 0.25"),
        (lambda: check.check_monotone(lambda x: -x, np.float32([2.0, 1.0])), r"1.0 .* became -1.0, but 2.0 .* became -2.0"),
    ],
)  # fmt: skip
def test_violations_are_named(law, message) -> None:
    with pytest.raises(Mismatch, match=message) as error:
        law()
    assert isinstance(error.value, AssertionError)
    assert isinstance(error.value, LprefError)


def test_nan_is_a_class_and_overflow_may_saturate_or_not() -> None:
    check.check_codes_equal(np.uint8([0xFF]), np.uint8([0x7F]), format="e4m3")
    check.check_values_equal([np.nan], [np.nan])
    check.check_is_neighbour([448.0, np.inf, np.nan], np.float32([500, 500, 500]), "e4m3")
    check.check_is_neighbour([np.nan], np.float32([np.nan]), "e4m3")


def test_the_smallest_failure_is_shown() -> None:
    with pytest.raises(Mismatch) as error:
        check.check_codes_equal(np.uint8([1, 1, 1]), np.uint8([0, 0, 0]), x=np.float32([np.nan, 3, -2]))
    assert error.value.index == (2,)
