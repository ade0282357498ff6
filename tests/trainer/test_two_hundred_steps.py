"""Every recipe that trains from scratch: 200 steps of specs/train/gpt_tiny.yaml end in a finite loss below the one they begin with.

Minutes on many cores, or on a GPU (`backend: auto` takes it): `python3 -m pytest -m deep tests/trainer/test_two_hundred_steps.py -n 12 -s`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lpref.ref.recipes import GEMMS
from lpref.specs import recipe
from lpref.trainer.api import train
from lpref.trainer.catalog import spec_names

NAMES = [name for name in spec_names("recipes") if recipe(name).trains == "from_scratch"]
QUIET = {"train.steps": 200, "train.eval_every": 0, "train.checkpoint_every": 0, "train.stats_every": 0, "train.sample": 0, "train.log_every": 1}


def grade(name: str) -> str:
    """exact where grade fast refuses: accumulators with coarser sums than float32's."""
    made = recipe(name)
    gemms = [linear.gemm(gemm) for linear in (made.linear, *made.variants.values()) for gemm in GEMMS]
    return "fast" if all(gemm.accumulate.float32_sums for gemm in gemms) else "exact"


@pytest.mark.deep
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls(name: str, tmp_path: Path) -> None:
    settings = {"recipe": name, "numerics": grade(name), **QUIET}
    train("train/gpt_tiny", out=tmp_path / "run", quiet=True, **{path.replace(".", "__"): value for path, value in settings.items()})
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    print(f"{name}: {losses[0]:.3f} -> {losses[-1]:.3f}")
    assert len(losses) == 200
    assert all(map(math.isfinite, losses))
    assert sum(losses[-10:]) < sum(losses[:10])
