"""pytest --pyargs lpref.conformance --lpref-impl=…: what passes, what fails, what is a usage error."""

from __future__ import annotations

import pytest

import lpref.conformance.test_impl  # noqa: F401  loaded now: the inner runs forget what they load, and NumPy loads only once

pytest_plugins = ["pytester"]

KERNELS = """
    import numpy as np
    import lpref
    from lpref.conformance.targets.base import CastCase, QuantizeCase, Target
    from lpref.ref.quantize import quantize
    from lpref.ref.linalg import HighPrecision, gemm

    def cast(x):
        return lpref.format("e4m3").encode(x)

    def away(x):
        return lpref.format("e4m3").encode(x, "nearest_away", "ocp_nonsat")

    def random(x, words):
        return lpref.format("e4m3").encode(x, "stochastic", words=words, word_bits=8)

    def mx(x):
        return quantize(x, "mxfp4:scale=rceil")

    def product(a, b):
        return gemm(HighPrecision(a), HighPrecision(b), "pairwise")

    def shape(x):
        return x[:1]

    class Mine(Target):
        name = "mine"

        def cases(self):
            return CastCase("e4m3"), CastCase("e4m3", rounding="to_odd"), CastCase("e5m2", input="bfloat16"), QuantizeCase("mxfp4:scale=rceil")

        def cast(self, x, case, words=None):
            return lpref.format(case.format).encode(x)

        def quantize(self, x, case, amax=None, words=None):
            return mx(x)
"""


def suite(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    pytester.makepyfile(kernels=KERNELS)
    return pytester.runpytest("-p", "lpref.conformance.plugin", "--pyargs", "lpref.conformance", "-p", "no:cacheprovider", "-p", "no:xdist", *options)


@pytest.mark.parametrize(
    "options",
    [
        "--lpref-impl=kernels:cast --lpref-format=e4m3 --lpref-examples=20",
        "--lpref-impl=kernels:away --lpref-format=e4m3 --lpref-rounding=nearest_away --lpref-overflow=ocp_nonsat",
        "--lpref-impl=kernels:cast --lpref-format=e4m3 --lpref-dtype=float64",
        "--lpref-impl=kernels:random --lpref-format=e4m3 --lpref-rounding=stochastic --lpref-word-bits=8",
        "--lpref-impl=kernels:mx --lpref-quantizer=mxfp4:scale=rceil",
        "--lpref-impl=kernels:product --lpref-accumulate=pairwise --lpref-format=e5m2",
    ],
)
def test_what_conforms(pytester: pytest.Pytester, options: str) -> None:
    suite(pytester, *options.split()).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--lpref-impl=kernels:away --lpref-format=e4m3", "*FAILED  midpoints and their neighbours: * of * differ*"),
        ("--lpref-impl=kernels:mx --lpref-quantizer=mxfp4", "*scale of block * the definition gives code *; amax *"),
        ("--lpref-impl=kernels:product --lpref-accumulate=sequential", "*the definition gives*"),
        ("--lpref-impl=kernels:shape --lpref-format=e4m3", "*returned shape*it must keep the shape*"),
        ("--lpref-impl=kernels:cast --lpref-format=e4m33", "*unknown format 'e4m33'; did you mean 'e4m3'*"),
    ],
)
def test_what_does_not(pytester: pytest.Pytester, options: str, message: str) -> None:
    result = suite(pytester, *options.split())
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([message])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--lpref-impl=kernels:none --lpref-format=e4m3", "*has no attribute 'none'*"),
        ("--lpref-impl=kernels --lpref-format=e4m3", "*write module:callable*"),
        ("--lpref-impl=nowhere:cast --lpref-format=e4m3", "*No module named 'nowhere'*"),
        ("--lpref-impl=kernels:cast", "*say what it is an implementation of*"),
        ("--lpref-impl=kernels:Mine --lpref-format=e2m1", "*the target mine has no such case*"),
    ],
)
def test_what_cannot_run(pytester: pytest.Pytester, options: str, message: str) -> None:
    result = suite(pytester, *options.split())
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([message])


def test_a_target_is_tested_case_by_case(pytester: pytest.Pytester) -> None:
    suite(pytester, "--lpref-impl=kernels:Mine").assert_outcomes(passed=2, failed=1, skipped=1)
    suite(pytester, "--lpref-impl=kernels:Mine", "--lpref-quantizer=mxfp4:scale=rceil").assert_outcomes(passed=1)


def test_without_an_implementation_nothing_runs(pytester: pytest.Pytester) -> None:
    suite(pytester).assert_outcomes(skipped=1)
