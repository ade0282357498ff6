"""Whole training steps under the matrix-unit models: the same weights on the reference and on the cpu backend.

Run: pytest -m identity tests/trainer/test_accumulators.py
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import lpref

CASES = {
    "hopper_bf16": "bf16",
    "hopper_fp16": "fp16_loss_scaled",
    "hopper_fp8_fast": "fp8_delayed",
    "hopper_fp8_promote128": "fp8_delayed",
    "nvfp4 in hopper_bf16": "nvfp4",
}


def weights(folder: Path, recipe: dict, backend: str) -> str:
    off = {"train__eval_every": 0, "train__stats_every": 0, "train__checkpoint_every": 5}
    lpref.train("train/ci_gpt", out=folder, quiet=True, recipe=recipe, backend=backend, numerics="exact", train__steps=5, **off)
    file = sorted(folder.glob("checkpoints/step-*/model.safetensors"))[-1]
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.identity
@pytest.mark.parametrize("name", CASES)
def test_five_steps_have_the_same_weights(name: str, tmp_path: Path) -> None:
    recipe = {"base": CASES[name], "set": {f"linear.{gemm}.accumulate": name.split()[-1] for gemm in ("fprop", "dgrad", "wgrad")}}
    both = {weights(tmp_path / backend, recipe, backend) for backend in ("reference", "cpu")}
    assert len(both) == 1
    plain = {"base": CASES[name]}
    assert weights(tmp_path / "plain", plain, "cpu") not in both  # the model is followed: other bits than without it
