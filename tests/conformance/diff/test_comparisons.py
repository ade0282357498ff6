"""Comparisons through child processes: planted mistakes are found, shrunk, traced; what is right is same."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from lpref.conformance.diff.blocks import compare_blocks
from lpref.conformance.diff.cast import compare_cast
from lpref.conformance.diff.classes import CLASSES, cast_inputs, classify, wide
from lpref.conformance.diff.others import compare_gemm
from lpref.conformance.diff.report import text
from lpref.conformance.diff.shrink import shrink_cast, shrink_matrix
from lpref.conformance.targets.base import CastCase, GemmCase, QuantizeCase
from lpref.conformance.targets.client import Session
from lpref.ref.formats import format as format_of

FOREIGN = str(Path(__file__).parents[1] / "targets" / "foreign.py")
BF16 = CastCase("bfloat16", overflow="to_infinity")


@pytest.mark.parametrize("spec", [f"{FOREIGN}:bfloat16", f"exec:{sys.executable} {FOREIGN}"], ids=["module", "exec"])
def test_a_right_cast_is_same(spec: str) -> None:
    with Session(spec) as session:
        report = compare_cast(session, "", BF16)
    assert report.status == "same", text(report)
    assert report.total > 50000


def test_a_wrong_cast_is_shrunk_and_traced() -> None:
    with Session(f"{FOREIGN}:truncated") as session:
        report = compare_cast(session, "", BF16, trace=True)
    assert report.status == "unexplained"
    assert {c.input_class for c in report.cells} >= {"tie", "near tie", "inside"}
    (example,) = report.examples
    x = example.data["x"]
    assert example.data["expected_code"] == example.data["got_code"] + 1
    fraction = float(np.frexp(x)[0]) * 2**10
    assert fraction == int(fraction)
    assert sum("<- first difference" in line for line in example.trace) == 1
    assert "rounded (nearest_even)" in next(line for line in example.trace if "<- first difference" in line)
    python = next(line for line in example.trace if line.startswith("Python: "))
    import lpref

    made = eval(python.removeprefix("Python: ").partition("  #")[0], {"lpref": lpref, "np": np})
    assert int(made) == example.data["expected_code"]
    assert float.hex(x) in next(line for line in example.trace if line.startswith("C: "))


def test_a_target_that_fails_is_a_report() -> None:
    for name, status in (("raises", "raised"), ("crashes", "crashed"), ("shape", "answer"), ("dtype", "answer")):
        with Session(f"{FOREIGN}:{name}") as session:
            report = compare_cast(session, "", BF16)
        assert (report.status, report.good) == (status, False)


def test_a_wrong_scale_is_found_just_below_powers_of_two() -> None:
    with Session(f"{FOREIGN}:mxfp4_with_logarithm") as session:
        report = compare_blocks(session, "", QuantizeCase("mxfp4"), trace=True)
    wrong = {(c.input_class, c.result) for c in report.cells}
    assert ("just below 2^k", "scale") in wrong
    assert not any(c in ("others", "above max") for c, _ in wrong)
    shown = text(report)
    assert "scale (mx floor, e8m0)" in shown
    assert "<- first difference" in shown


def test_products_are_same_within_the_bound_or_wrong() -> None:
    with Session(f"{FOREIGN}:sequential") as session:
        assert compare_gemm(session, "", GemmCase()).good
        assert compare_gemm(session, "", GemmCase(accumulate="sequential")).status == "same"
    with Session(f"{FOREIGN}:half") as session:
        assert compare_gemm(session, "", GemmCase()).status == "unexplained"


@pytest.mark.parametrize("name", ["e4m3", "e2m1", "e8m0", "int8", "nf4", "e5m2fnuz", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_classes(name: str, dtype: str) -> None:
    f = format_of(name)
    x = cast_inputs(f, dtype)
    classes, names = classify(x, f), list(CLASSES)
    v = wide(x)
    assert (np.isnan(v) == (classes == names.index("NaN"))).all()
    assert (np.isinf(v) == (classes == names.index("infinity"))).all()
    assert set(np.unique(v[classes == names.index("value")])) <= set(f.table()[0])
    at = classes == names.index("tie")
    assert at.any() or name in ("nf4", "int8", dtype)
    assert (f.encode(v[at], "nearest_away") != f.encode(v[at], "nearest_toward_zero")).all()
    near = classes == names.index("near tie")
    assert (f.encode(v[near], "nearest_away") == f.encode(v[near], "nearest_toward_zero")).all()


def test_shrinking() -> None:
    assert shrink_cast(np.float32([1000.3, 77.7]), lambda v: v > 10) == 16
    assert shrink_cast(np.float64([-3.3, np.nan]), lambda v: v < -0.1) == -0.5
    assert np.isnan(shrink_cast(np.float32([np.nan]), np.isnan))
    x = np.arange(64, dtype=np.float32).reshape(2, 32)
    small = shrink_matrix(x, (1, 32), (1, 0), lambda m: bool((m == 40).any()))
    assert small.shape == (1, 32)
    assert small[small != 0].tolist() == [40]
