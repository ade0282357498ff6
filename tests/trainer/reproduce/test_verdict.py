"""Intervals and verdicts."""

from __future__ import annotations

import math

import pytest

from lpref.ref.errors import SpecError
from lpref.trainer.reproduce.experiment import Expectation
from lpref.trainer.reproduce.verdict import T975, interval, judge, overall


def test_the_interval_is_student_s() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.high - 2.0 == pytest.approx(4.303 / math.sqrt(3))
    assert 2.0 - found.low == pytest.approx(4.303 / math.sqrt(3))


def test_quantiles_are_student_s() -> None:
    """The distribution function at each quantile, by Simpson's rule on the density: 0.975 within what three decimals allow."""
    for n, t in enumerate(T975, 1):
        c = math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2)) / math.sqrt(n * math.pi)
        steps = 20000
        ys = [c * (1 + (t * i / steps) ** 2 / n) ** (-(n + 1) / 2) for i in range(steps + 1)]
        area = t / steps / 3 * (ys[0] + ys[-1] + 4 * sum(ys[1:-1:2]) + 2 * sum(ys[2:-1:2]))
        assert 0.5 + area == pytest.approx(0.975, abs=1e-4), n


ORDER = Expectation(less="a", more="b", by=0.5)


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([1.0, 1.1, 1.2], [2.0, 2.1, 2.3], "agrees"),
        ([1.0, 1.1, 1.2], [1.0, 1.2, 1.2], "differs"),
        ([1.0, 1.1, 1.2], [1.0, 2.9, 1.9], "inconclusive"),
        ([1.0, 1.0, 1.0], [math.inf] * 3, "agrees"),
        ([1.0, 1.0, 1.0], [math.inf, 1.1, 1.2], "inconclusive"),
        ([math.inf] * 3, [math.inf] * 3, "differs"),
        ([math.inf] * 3, [1.0, 1.0, 1.0], "differs"),
    ],
)
def test_signs(a: list[float], b: list[float], verdict: str) -> None:
    assert judge(ORDER, {"a": a, "b": b}).verdict == verdict


@pytest.mark.parametrize(("values", "verdict"), [([0.7, 0.75, 0.8], "agrees"), ([0.1, 0.2, 0.3], "differs"), ([0.3, 0.6, 0.7], "inconclusive")])
def test_one_arm_alone_is_compared_with_by(values: list[float], verdict: str) -> None:
    found = judge(Expectation(more="a", by=0.5), {"a": values})
    assert found.verdict == verdict
    assert found.text.startswith("a > 0.5: ")


def test_differences_of_differences_are_in_brackets() -> None:
    sign = Expectation(less="a - b", more="c - d")
    assert judge(sign, {"a": [2.0, 3.0], "b": [1.0, 1.0], "c": [9.0, 9.0], "d": [1.0, 1.0]}).text.startswith("(c - d) - (a - b) > 0: 6.5 [")


def test_ratios_are_compared_by_logarithms() -> None:
    ratio = Expectation(less="a", more="b", by=10, ratio=True)
    found = judge(ratio, {"a": [1.0, 1.0, 1.0], "b": [100.0, 1000.0, 10000.0]})
    assert found.interval.mean == pytest.approx(1000.0)
    assert found.interval.low == pytest.approx(1000.0 / math.exp(4.303 * math.log(10) / math.sqrt(3)))
    assert found.verdict == "inconclusive"


@pytest.mark.parametrize(("values", "verdict"), [([-0.01, 0.0, 0.01], "agrees"), ([0.2, 0.21, 0.22], "differs"), ([-0.3, 0.0, 0.3], "inconclusive")])
def test_zero_is_an_equivalence(values: list[float], verdict: str) -> None:
    assert judge(Expectation(zero="a", within=0.1), {"a": values}).verdict == verdict


def test_an_experiment_agrees_where_every_sign_does() -> None:
    agrees = judge(ORDER, {"a": [1.0, 1.1, 1.2], "b": [2.0, 2.1, 2.3]})
    differs = judge(ORDER, {"a": [1.0, 1.1, 1.2], "b": [1.0, 1.2, 1.2]})
    unclear = judge(ORDER, {"a": [1.0, 1.1, 1.2], "b": [1.0, 2.9, 1.9]})
    assert overall([agrees, agrees]) == "agrees"
    assert overall([agrees, unclear]) == "inconclusive"
    assert overall([agrees, unclear, differs]) == "differs"


@pytest.mark.parametrize("fields", [{}, {"less": "a"}, {"less": "a", "more": "b", "zero": "c"}, {"zero": "a"}, {"more": "a", "ratio": True}])
def test_an_expectation_is_one_sign(fields: dict[str, str]) -> None:
    with pytest.raises(SpecError):
        Expectation(**fields)
