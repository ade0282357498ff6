"""`lpref report`, `compare` and `sweep`: what is written of finished runs."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from .conftest import run


def test_report_contents_and_exports(trained: Path, folder: Path) -> None:
    result = run("report", str(trained / "a"), str(trained / "b"), "-o", "both.html")
    assert result.exit_code == 0, result.output
    page = Path("both.html").read_text()
    for words in (
        "training loss",
        "validation bits per byte",
        "SQNR",
        "overflowed share",
        "underflowed share",
        "Resolved spec",
        "numerics_hash",
    ):
        assert words in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")  # self-contained
    assert "<script" not in page
    assert "element value before scaling" in page  # histograms
    assert run("report", str(trained / "a"), "-o", "both.html").exit_code == 2
    assert run("report", str(trained / "a"), str(trained / "b"), "-o", "f.svg").exit_code == 0
    ElementTree.parse("f.svg")
    assert run("report", str(trained / "a"), "-o", "t.csv").exit_code == 0
    assert Path("t.csv").read_text().startswith("run,recipe,seed,step,key,value\n")


@pytest.mark.parametrize("form", ["png", "pdf"])
def test_figures_are_drawn(trained: Path, folder: Path, form: str) -> None:
    pytest.importorskip("matplotlib")
    for out in (f"one.{form}", f"two.{form}"):
        result = run("report", str(trained / "a"), str(trained / "b"), "-o", out)
        assert result.exit_code == 0, result.output
    drawn = Path(f"one.{form}").read_bytes()
    assert drawn.startswith({"png": b"\x89PNG", "pdf": b"%PDF"}[form])
    assert len(drawn) > 2000
    assert drawn == Path(f"two.{form}").read_bytes()


def test_png_without_matplotlib_is_typed(trained: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("report", str(trained / "a"), "-o", "f.png")
    assert result.exit_code == 2
    assert "pip install 'lpref[report]'" in result.stderr


def test_runs_on_different_data_are_not_mixed(trained: Path, folder: Path) -> None:
    assert run("train", "tiny.yaml", "-s", "train.steps=1", "-o", "mine").exit_code == 0
    Path("text.txt").write_text("other words\n" * 200)
    assert run("train", "tiny.yaml", "-s", "train.steps=1", "-o", "yours").exit_code == 0
    mixed = run("report", "mine", "yours", "-o", "x.html")
    assert mixed.exit_code == 2
    assert "2 different data sets" in mixed.stderr
    assert run("report", "mine", "yours", "-o", "x.html", "--force").exit_code == 0


def test_compare_and_its_resume(folder: Path) -> None:
    line = ["compare", "tiny.yaml", "--recipes", "fp32,mxfp8", "--seeds", "2", "-o", "pair", "-s", "train.steps=2"]
    first = run(*line, "--json")
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    assert [(r["recipe"], r["seeds"]) for r in found["rows"]] == [("fp32", 2), ("mxfp8", 2)]
    fp32, mxfp8 = found["rows"]
    assert (fp32["valid.loss gap"], mxfp8["valid.loss gap"]) == (0.0, mxfp8["valid.loss"] - fp32["valid.loss"])
    assert "(2 seeds)" in Path(found["report"]).read_text()
    assert run(*line).exit_code == 2
    for command in (("report", "pair"), ("train", "--resume", "pair")):
        assert "it holds 4 runs: name them, pair/fp32-" in run(*command).stderr
    again = run(*line, "--resume")
    assert again.exit_code == 0
    assert again.stdout.splitlines()[-1] == "pair/report.html"


def test_sweep_skips_what_is_done(folder: Path) -> None:
    Path("sweep.yaml").write_text("lpref: 1\nbase: tiny.yaml\nset: {train.steps: 1}\ngrid: {recipe: [fp32], train.seed: [1, 2]}\n")
    dry = json.loads(run("sweep", "sweep.yaml", "-o", "grid", "--dry-run", "--json").stdout)
    assert [r["status"] for r in dry] == ["new", "new"]
    first = run("sweep", "sweep.yaml", "-o", "grid", "--json")
    assert first.exit_code == 0, first.output
    stamps = {p: p.stat().st_mtime_ns for p in Path("grid").rglob("model.safetensors")}
    assert len(stamps) == 2
    assert run("sweep", "sweep.yaml", "-o", "grid").exit_code == 0
    assert {p: p.stat().st_mtime_ns for p in Path("grid").rglob("model.safetensors")} == stamps
    Path("bad.yaml").write_text("lpref: 1\nbase: tiny.yaml\ngrid: {train.seeds: [1]}\n")
    assert run("sweep", "bad.yaml").exit_code == 2
