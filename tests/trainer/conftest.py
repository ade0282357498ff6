"""A run small enough to train in a second."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """2000 words of a small language."""
    path = tmp_path / "text.txt"
    path.write_text(" ".join(f"the {'quick' if i % 3 else 'lazy'} fox jumps over {i % 7} dogs" for i in range(300)))
    return path


@pytest.fixture
def tiny(text_file: Path) -> dict[str, Any]:
    """A spec as a mapping: one block, six steps, a checkpoint every second one, the definitions as backend."""
    return {
        "name": "tiny",
        "model": {"kind": "gpt", "layers": 1, "d_model": 32, "heads": 1, "ffn": 32, "context": 16},
        "data": {"name": f"text:{text_file}", "valid_windows": 3},
        "recipe": "mxfp8",
        "optimizer": {"kind": "adamw", "lr": 1e-2},
        "train": {"steps": 6, "batch": 2, "eval_every": 3, "checkpoint_every": 2, "stats_every": 3, "sample": 8},
        "numerics": "exact",
        "backend": "reference",
    }


@pytest.fixture
def tiny_file(tiny: Mapping[str, Any], tmp_path: Path) -> Path:
    """The same as a file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"lpref": 1, **tiny}))
    return path


def lpref(*arguments: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """``lpref …`` in a process of its own, as a user would start it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lpref.cli", *arguments]
    return subprocess.Popen(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
