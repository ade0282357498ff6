"""run_suite: every definition passes against itself, every planted mistake is found and named."""

from __future__ import annotations

import numpy as np
import pytest

import lpref
from lpref.conformance import run_suite
from lpref.ref.errors import ShapeError
from lpref.ref.formats import FORMATS
from lpref.ref.rounding import ROUNDINGS

E4M3 = lpref.format("e4m3")


@pytest.mark.parametrize("name", FORMATS)
def test_the_definition_passes_against_itself(name: str) -> None:
    report = run_suite(FORMATS[name].encode, format=name)
    assert report.passed, report
    assert report.cases > 30_000


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("overflow", ["saturate", "ocp_nonsat", "raise"])
def test_every_rounding_and_policy(rounding: str, overflow: str) -> None:
    def cast(x, words=None):
        return E4M3.encode(x, rounding, overflow, words, None if words is None else 16)

    report = run_suite(cast, format="e4m3", rounding=rounding, overflow=overflow)
    assert report.passed, report
    assert any(o.refused for o in report.outcomes) == (overflow == "raise")


def rounds_to_float32_first(x):
    with np.errstate(over="ignore"):
        return E4M3.encode(x.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_input_dtypes(dtype) -> None:
    assert run_suite(E4M3.encode, format="e4m3", dtype=dtype)
    assert not run_suite(rounds_to_float32_first, format="e4m3", dtype=np.float64)


def round_values(x, **how):
    return E4M3.round(x, **how)


def flushed(x):
    return np.where(np.abs(x) < E4M3.min_normal, np.copysign(np.float32(0), x), E4M3.round(x))


def through_bfloat16(x):
    return E4M3.encode(lpref.format("bfloat16").round(x))


def early_overflow(x):
    return np.where(np.abs(x) > 448, np.float32(np.nan), E4M3.round(x))


def no_negative_zero(x):
    return E4M3.round(x) + np.float32(0)


def nan_is_max(x):
    return np.where(np.isnan(x), np.float32(448), E4M3.round(x))


def one_code_wrong(x):
    codes = E4M3.encode(x)
    return np.where(codes == 0x3B, np.uint8(0x3A), codes)


def one_input_wrong(x):
    return np.where(x == np.nextafter(np.float32(1.0625), np.float32(2)), np.uint8(0x38), E4M3.encode(x))


def stray_code(x):
    return np.where(x == 0.75, np.uint16(0x1FF), E4M3.encode(x).astype(np.uint16))


PLANTED = {
    "ties away": lambda x: E4M3.encode(x, "nearest_away"),
    "truncates": lambda x: E4M3.encode(x, "toward_zero"),
    "flushes subnormals": flushed,
    "rounds twice": through_bfloat16,
    "saturates NaN": nan_is_max,
    "overflow threshold": early_overflow,
    "loses -0": no_negative_zero,
    "one wrong code": one_code_wrong,
    "one wrong input": one_input_wrong,
    "a code that is none": stray_code,
    "other format": lambda x: lpref.format("e4m3fnuz").round(x),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_planted_mistakes_are_found(mistake: str) -> None:
    report = run_suite(PLANTED[mistake], format="e4m3")
    assert not report
    assert "the definition gives 0x" in report.counterexample
    assert "failed" in str(report)
    assert "bits 0x" in report.counterexample


def test_right_values_pass_however_they_are_returned() -> None:
    for cast in (
        round_values,
        lambda x: E4M3.round(x).astype(np.float64).tolist(),
        lambda x: E4M3.encode(x).astype(np.uint32),
    ):
        assert run_suite(cast, format="e4m3"), run_suite(cast, format="e4m3")


def test_nan_codes_are_a_class_unless_asked() -> None:
    def other_nan(x):
        codes = E4M3.encode(x)
        return np.where(codes == 0x7F, np.uint8(0xFF), codes)

    assert run_suite(other_nan, format="e4m3")
    assert not run_suite(other_nan, format="e4m3", canonical_nan=True)


def test_the_counterexample_is_the_smallest() -> None:
    report = run_suite(PLANTED["ties away"], format="e4m3")
    assert report.counterexample == (
        "x = 0.0009765625 (0x1.0000000000000p-10, bits 0x3a800000): got 0x01 = 0b0_0000_001 = 0.001953125, "
        "the definition gives 0x00 = 0b0_0000_000 = 0.0 (x lies between 0.0 and 0.001953125)"
    )


def test_order_is_checked() -> None:
    report = run_suite(lambda x: np.where((x > 1.3) & (x < 1.31), np.float32(1), E4M3.round(x)), format="e4m3")
    assert not {o.name: o for o in report.outcomes}["monotone"].passed


def test_wrong_words_are_found() -> None:
    def high_bits(x, words):
        return E4M3.encode(x, "stochastic", words=(words << np.uint32(1)) & np.uint32(0xFFFF), word_bits=16)

    assert not run_suite(high_bits, format="e4m3", rounding="stochastic")
    assert not run_suite(
        lambda x, w: E4M3.encode(x, "stochastic_b", words=w, word_bits=16), format="e4m3", rounding="stochastic"
    )


def test_hypothesis_examples_on_request() -> None:
    assert [o.name for o in run_suite(E4M3.encode, format="e4m3", examples=20).outcomes][-1] == "Hypothesis"
    assert not run_suite(PLANTED["ties away"], format="e4m3", examples=50).outcomes[-1].passed


def test_a_cast_must_keep_the_shape() -> None:
    with pytest.raises(ShapeError, match="returned shape"):
        run_suite(lambda x: x[:1], format="e4m3")
