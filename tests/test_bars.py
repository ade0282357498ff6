"""The table of bars: what stands in bench/results/h200.json and in docs/gpu.md is what bench/bars.py makes of the other results."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def script(name: str) -> ModuleType:
    """bench/NAME.py, which is in no package."""
    spec = importlib.util.spec_from_file_location(f"lpref_bench_{name}", ROOT / "bench" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bars() -> ModuleType:
    return script("bars")


def test_the_table_and_the_page_are_what_the_results_say(bars: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bars.main(["--check"]) == 0, capsys.readouterr().out + "run: PYTHONPATH=src python bench/bars.py"


def test_every_figure_says_where_it_comes_from(bars: ModuleType) -> None:
    rows = json.loads(bars.TABLE.read_text(encoding="utf-8"))["rows"]
    assert len({(row["part"], row["name"]) for row in rows}) == len(rows)
    for row in rows:
        assert (ROOT / row["script"]).is_file() or row["figure"] is None, row
        if row["figure"] is not None:
            assert all((row["commit"], row["date"], row["versions"]["device"])), row


CASES = [(1.0, False, False, True), (0.5, False, False, True), (2.0, False, False, False), (1.0, True, False, True), (1.0, True, True, False)]


@pytest.mark.parametrize(("least", "most", "strict", "met"), [*CASES, (2.0, True, True, True)])
def test_what_meets_a_bar(bars: ModuleType, least: float, most: bool, strict: bool, met: bool) -> None:
    row = bars.entry(bars.Bar("part", "name", least, "s", "start", lambda: (1.0, [{"commit": "abc"}]), most, strict))
    assert (row["met"], row["figure"], row["commit"]) == (met, 1.0, "abc")


def test_what_was_not_measured_is_not_met(bars: ModuleType) -> None:
    row = bars.entry(bars.Bar("part", "name", 1.0, "s", "start", bars.share("start", name="nothing")))
    assert (row["figure"], row["met"]) == (None, False)


def test_newer_results_take_the_place_of_those_that_measure_the_same() -> None:
    take = script("take")
    old = {"about": {"commit": "a", "date": "1", "device": "x"}, "rows": [{"name": "one", "us": 1}, {"name": "two", "us": 2}]}
    new = {"about": {"commit": "b", "date": "2", "device": "x"}, "rows": [{"name": "two", "us": 3}, {"name": "two", "source": "float32", "us": 4}]}
    found = take.taken(old, new)
    assert found["about"] == new["about"]
    assert [(one["name"], one["us"], one["commit"]) for one in found["rows"]] == [("one", 1, "a"), ("two", 3, "b"), ("two", 4, "b")]
    steps = {"about": {}, "figures": [{"spec": "s", "recipe": "r", "commit": "c"}, {"spec": "s", "recipe": "q", "commit": "d"}]}
    assert take.taken({}, steps)["figures"] == steps["figures"]
    for commit in "efgh":
        steps = take.taken(steps, {"figures": [{"spec": "s", "recipe": "r", "commit": commit}]})
    assert [(one["recipe"], one["commit"]) for one in steps["figures"]] == [("q", "d"), ("r", "f"), ("r", "g"), ("r", "h")]


def test_a_ratio_of_steps_is_of_the_newest_commit_that_has_both_sides(bars: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("nvfp4", "a", 3.0), ("bf16", "a", 2.0), ("nvfp4", "b", 5.0), ("bf16", "b", 4.0), ("bf16", "c", 7.0)]
    figures = [{"spec": "bench/s", "recipe": recipe, "commit": commit, "queued_ms": ms} for recipe, commit, ms in rows]
    monkeypatch.setattr(bars, "held", lambda source: {"figures": figures})
    assert bars.over("s", "nvfp4", "bf16")()[0] == 1.25
    with pytest.raises(bars.Absent):
        bars.over("s", "whole_step", "bf16")()
    with pytest.raises(bars.Absent):
        bars.over("s", "nvfp4", "bf16", "peak_gib")()
