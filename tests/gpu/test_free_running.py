"""Grade fast on the GPU learns as well as on the CPU: the mean validation loss of five seeds differs by less than two standard errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpref.trainer.api import train
from lpref.trainer.data import load_data

SEEDS = range(1, 6)


def losses(place: str, recipe: str, folder: Path, data: Any) -> np.ndarray:
    settings = {"recipe": recipe, "backend": place, "numerics": "fast", "train__eval_every": 0, "train__checkpoint_every": 0, "train__stats_every": 0}
    runs = [
        train("train/ci_gpt", out=folder / f"{place}{seed}", quiet=True, data=data, train__seed=seed, data__valid_windows=256, **settings)
        for seed in SEEDS
    ]
    return np.array([run.last("valid.loss") for run in runs])


@pytest.mark.parametrize("recipe", ["bf16", "nvfp4", "fp8_current"])
def test_validation_loss(recipe: str, tmp_path: Path) -> None:
    data = load_data("stdlib")
    cuda, cpu = (losses(place, recipe, tmp_path, data) for place in ("cuda", "cpu"))
    error = np.sqrt((cuda.var(ddof=1) + cpu.var(ddof=1)) / len(SEEDS))
    print(f"{recipe}: cuda {cuda.mean():.4f}, cpu {cpu.mean():.4f}, standard error of the difference {error:.4f}")
    assert abs(cuda.mean() - cpu.mean()) < 2 * error
