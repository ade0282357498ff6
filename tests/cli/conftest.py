"""A small spec, a working folder with it, and two finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from lpref.cli.main import main

TINY: dict[str, Any] = {
    "lpref": 1,
    "name": "tiny",
    "model": {"kind": "gpt", "layers": 1, "d_model": 32, "heads": 1, "ffn": 32, "context": 16},
    "data": {"name": "text:text.txt", "valid_windows": 3},
    "recipe": "mxfp8",
    "optimizer": {"kind": "adamw", "lr": "1e-2"},  # YAML 1.1 reads this as text
    "train": {"steps": 3, "batch": 2, "stats_every": 3, "sample": 8},
    "numerics": "exact",
    "backend": "reference",
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a text, a spec and nothing else."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 80)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY).replace("'1e-2'", "1e-2"))
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs, `a` and `b`, of different recipes."""
    base = tmp_path_factory.mktemp("runs")
    (base / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 80)
    spec = {
        **TINY,
        "data": {**TINY["data"], "name": f"text:{base / 'text.txt'}"},
        "optimizer": {"kind": "adamw", "lr": 0.01},
    }
    (base / "tiny.yaml").write_text(yaml.safe_dump(spec))
    for name, recipe in (("a", "mxfp8"), ("b", "fp32")):
        result = run("train", str(base / "tiny.yaml"), "-s", f"recipe={recipe}", "-o", str(base / name))
        assert result.exit_code == 0, result.output
    return base
