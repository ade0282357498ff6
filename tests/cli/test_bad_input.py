"""What is refused: exit code 2, one typed line, nothing written. Another bad argument or file goes here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import run


def test_an_unknown_report_suffix_is_typed(trained: Path, folder: Path) -> None:
    result = run("report", str(trained / "a"), "-o", "figure.svgz")
    assert result.exit_code == 2
    assert "did you mean 'svg'" in result.output
    assert not Path("figure.svgz").exists()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("spec.yaml", "garbage", "a spec is a mapping"),
        ("spec.yaml", "lpref: 1\nname: a\n", "recipe: missing"),
        ("env.json", '{"a": 1}', "data.sha256"),
        ("env.json", "[]", "data.sha256"),
    ],
)
def test_a_damaged_run_folder_is_typed(trained: Path, folder: Path, file: str, text: str, message: str) -> None:
    shutil.copytree(trained / "a", "damaged")
    (Path("damaged") / file).write_text(text)
    result = run("report", "damaged", "-o", "page.html")
    assert result.exit_code == 2
    assert message in result.output
    assert not Path("page.html").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.batch=99999999999", "2^31 - 1"),
        ("train.batch=2000000000", "GiB"),
        ("model.d_model=1048576", "at most 2147483647"),
        ("train.seed=99999999999999999999", "train.seed"),
        ("recipe.linear.fprop.a.quantiser=mxfp4", "recipe.linear.fprop.a.quantiser"),
    ],
)
def test_huge_and_mistyped_values_are_found_before_anything_is_written(folder: Path, override: str, message: str) -> None:
    result = run("train", "tiny.yaml", "-s", override, "-o", "out")
    assert result.exit_code == 2
    assert message in result.output
    assert not Path("out").exists()


def test_temperature_is_a_number(trained: Path) -> None:
    assert run("generate", str(trained / "a"), "--temperature", "nan").exit_code == 2
