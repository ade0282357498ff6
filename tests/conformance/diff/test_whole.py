"""`lpref diff --exhaustive` on block quantizers: proofs in the report, budgets, slow targets, planted mistakes, what cannot be proved so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count, islice
from typing import Any

import numpy as np
import pytest

from lpref.accel.cpu.cast import encode
from lpref.accel.cpu.quantize import quantize
from lpref.conformance import exhaustive, exhaustive_blocks
from lpref.conformance.diff import whole
from lpref.conformance.diff.report import CaseReport
from lpref.conformance.targets.base import Case, CastCase, GemmCase, QuantizeCase
from lpref.conformance.targets.client import Session, checked

MXFP4 = QuantizeCase("mxfp4")


class InProcess(Session):
    """A session without a process: the function answers here."""

    def __init__(self, function: Callable[[np.ndarray, Any], Any]) -> None:
        super().__init__("mine.py:quantize")
        self.function = function

    def ask(self, case: Case, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The function's arrays, checked as a process's are."""
        got = self.function(arrays["x"], arrays.get("amax"))
        return checked(case, arrays, got if isinstance(got, dict) else {"values": got}, self.spec)


def right(name: str) -> Callable[[np.ndarray, Any], dict[str, np.ndarray]]:
    def answer(x: np.ndarray, amax: Any = None) -> dict[str, np.ndarray]:
        t = quantize(x, name, amax=amax)
        return {"codes": np.array(t.unpacked()), "scales": np.array(t.scales[0])}

    return answer


def wrong_amax(x: np.ndarray, amax: Any = None) -> dict[str, np.ndarray]:
    """One amax, 2^k for one k, gets the scale below."""
    got = right("mxfp4")(x)
    got["scales"] -= (np.max(np.abs(x), axis=1).view(np.uint32) == 0x42000000)[:, None].astype(np.uint8)
    return got


def wrong_element(x: np.ndarray, amax: Any = None) -> dict[str, np.ndarray]:
    """One bfloat16 element is wrong under one scale code."""
    got = right("mxfp4")(x)
    got["codes"] ^= ((got["scales"] == 130) & (x == np.float32(5.03125))).astype(np.uint8)
    return got


def proved(function: Callable[..., Any], case: Case = MXFP4, budget: float | None = None) -> CaseReport:
    with InProcess(function) as session:
        return whole.proved(CaseReport("mine", "", case, {"others": 1}), session, "", case, budget)


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every target is slow, so that the tests are quick."""
    monkeypatch.setattr(exhaustive_blocks, "SLOW", 1e30)


def test_a_slow_target_is_proved_on_the_stratified_set_and_the_report_says_so() -> None:
    report = proved(right("mxfp4"))
    assert report.status == "same"
    assert report.extra["proof"]["passed"]
    assert report.extra["proof"]["mode"] == "stratified"
    assert any("every amax would take" in note for note in report.notes)


@pytest.mark.parametrize(("function", "result", "says"), [
    (wrong_amax, "scale", "amax 32.0"), (wrong_element, "codes", "element 5.03125"),
])  # fmt: skip
def test_a_planted_mistake_is_found(function: Callable[..., Any], result: str, says: str) -> None:
    report = proved(function)
    assert report.status == "unexplained"
    (cell,) = report.cells
    assert (cell.result, cell.known) == (result, "")
    assert cell.count == report.extra["proof"]["failures"]
    assert any(says in note for note in report.notes), report.notes


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
def test_a_mistake_beside_a_known_difference_of_a_cast_is_unexplained(rounding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mistakes: the first that the proof meets is a known difference, the second is not; so the failures are not explained."""
    from lpref.conformance.diff.cast import CastComparison

    case = CastCase("e2m1", rounding=rounding)

    class Casts(InProcess):
        def ask(self, case: Case, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            x = arrays["x"]
            codes = encode(x, "e2m1", rounding, words=arrays.get("words"))
            codes[x == 4] = 1
            codes[x == -4] = 0
            return {"codes": codes}

    label = CastComparison.label

    def explained(self: CastComparison, x: np.ndarray, words: np.ndarray | None) -> Any:
        self.entries = []
        classes, kinds, found, ok, got = label(self, x, words)
        self.entries = [Entry]
        return classes, kinds, np.where((found == 0) & (x == 4), 1, found), ok, got

    class Entry:
        id = "four"

    monkeypatch.setattr(exhaustive, "SLOW", 1e30)
    monkeypatch.setattr(exhaustive, "CHUNK", 64)  # so that the two lie in different chunks of a small set
    monkeypatch.setattr("lpref.conformance.stratified.grid", lambda: np.zeros(1, np.uint32))
    monkeypatch.setattr(CastComparison, "label", explained)
    report = CaseReport("mine", "", case, {"others": 1})
    with Casts(right("mxfp4")) as session:
        report = whole.proved(report, session, "", case, None)
    assert report.extra["proof"]["failures"] == (2 if rounding == "nearest_even" else 10)
    (cell,) = report.cells
    assert (cell.known, report.status) == ("", "unexplained")


def test_a_spent_budget_is_said_and_is_no_difference() -> None:
    report = proved(right("mxfp4"), budget=0.0)
    assert report.status == "same"
    assert not report.extra["proof"]["complete"]
    assert any("not finished" in note and "0 of" in note for note in report.notes)


def test_a_fast_target_gets_every_amax_within_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    points, steps = exhaustive_blocks.stratified_amax, exhaustive_blocks._Run.steps
    monkeypatch.setattr(exhaustive_blocks, "SLOW", 1.0)
    monkeypatch.setattr(exhaustive_blocks, "stratified_amax", lambda d: points(d)[::1000])
    monkeypatch.setattr(exhaustive_blocks._Run, "steps", lambda run: islice(steps(run), 0, None, 100))
    asked = count()
    monkeypatch.setattr(exhaustive_blocks._Run, "spent", lambda run: next(asked) > 30)
    proof = proved(right("mxfp4")).extra["proof"]
    assert proof["mode"] == "all"
    assert 0 < proof["amax_tried"] < proof["amax_total"] == 1 << 31
    assert not proof["complete"]


def test_nvfp4_is_proved_where_the_target_heeds_the_tensor_amax() -> None:
    case = QuantizeCase("nvfp4")
    assert proved(right("nvfp4"), case).extra["proof"]["passed"]
    report = proved(lambda x, amax: right("nvfp4")(x), case)
    assert (report.status, report.extra) == ("same", {})
    assert "does not heed the argument amax" in report.notes[0]


@pytest.mark.parametrize(("function", "case", "says"), [
    (right("fp8_tensor"), QuantizeCase("fp8_tensor"), "by factorisation are for MX and NVFP4"),
    (lambda x, amax: x, MXFP4, "a proof compares codes"),
    (right("mxfp4"), QuantizeCase("mxfp4", layout="cublas_128x4"), "not layout=cublas_128x4"),
    (right("mxfp4"), QuantizeCase("mxfp4", input="float64"), "not input=float64"),
    (right("mxfp4"), CastCase("e4m3", input="bfloat16"), "not input=bfloat16"),
    (right("mxfp4"), GemmCase(), "not gemm"),
])  # fmt: skip
def test_what_cannot_be_proved_is_said(function: Callable[..., Any], case: Case, says: str) -> None:
    report = proved(function, case)
    assert (report.status, report.cells) == ("same", ())
    assert says in report.notes[0]
