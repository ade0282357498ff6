"""Bit-identical training: `pytest -m identity` (minutes; two processes at a time).

For specs/train/ci_gpt.yaml (grade exact) and each executable recipe, the SHA-256 of the weights after the last step is the same for
the `reference` backend, the `cpu` backend, a run that stops half-way and is resumed, and a run that is killed with SIGKILL again and
again at seeded random moments and resumed each time. The default suite runs the same test with few steps on three recipes.

RECIPES_THAT_DIFFER names recipes whose weights cannot be equal, with the operation that breaks them. It is empty.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lpref.trainer import checkpoint

ROOT = Path(__file__).resolve().parents[1]
SPEC = "train/ci_gpt"
RECIPES = [
    "fp32", "bf16", "fp16_loss_scaled", "fp8_delayed", "fp8_current", "fp8_block", "mxfp8", "mxfp4", "nvfp4",
    "int8_switchback", "bitnet_b158", "lsq",
]  # fmt: skip
RECIPES_THAT_DIFFER: dict[str, str] = {}


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def command(recipe: str, backend: str, folder: Path, steps: int) -> list[str]:
    settings = [f"recipe={recipe}", f"train.steps={steps}", f"train.checkpoint_every={max(1, steps // 8)}", "train.eval_every=0", "train.keep=9"]
    sets = [part for setting in settings for part in ("-s", setting)]
    return [sys.executable, "-m", "lpref.cli", "train", SPEC, "--backend", backend, "-o", str(folder), *sets]


def run(line: list[str]) -> None:
    done = subprocess.run(line, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(line)}\n{done.stdout}{done.stderr}"


def resume(folder: Path) -> list[str]:
    return [sys.executable, "-m", "lpref.cli", "train", "--resume", str(folder)]


def weights(folder: Path, steps: int) -> str:
    """SHA-256 over the names and bytes of the weights after `steps` steps."""
    found, damaged = checkpoint.newest(folder / "checkpoints")
    assert found is not None, f"{folder} has no whole checkpoint"
    assert not damaged, damaged
    assert found.step == steps
    digest = hashlib.sha256()
    for name in sorted(found.params):
        digest.update(name.encode() + found.params[name].tobytes())
    return digest.hexdigest()


def train(recipe: str, backend: str, folder: Path, steps: int) -> str:
    run(command(recipe, backend, folder, steps))
    return weights(folder, steps)


def train_resumed(folder: Path, copy: Path, steps: int) -> str:
    """The run in `folder` taken up again, in a copy, from the checkpoint half-way."""
    shutil.copytree(folder, copy)
    later = [path for path in (copy / "checkpoints").iterdir() if int(path.name.removeprefix("step-")) > steps // 2]
    assert later
    for path in later:
        shutil.rmtree(path)
    run(resume(copy))
    return weights(copy, steps)


def train_killed(recipe: str, folder: Path, steps: int, kills: int, seed: int) -> str:
    """SIGKILL at `kills` random moments of the whole run, start-up included; resumed each time, then left to finish."""
    moments = random.Random(seed)
    line, took = command(recipe, "cpu", folder, steps), 3.0
    for _ in range(kills):
        started = time.monotonic()
        process = subprocess.Popen(line, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=moments.uniform(0.1, took))
            took = max(1.0, time.monotonic() - started)  # it came to its end: kill earlier next time
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if (folder / "spec.yaml").exists():
            line = resume(folder)
    run(line)
    return weights(folder, steps)


def all_equal(recipe: str, tmp_path: Path, steps: int, kills: int) -> None:
    assert recipe not in RECIPES_THAT_DIFFER, RECIPES_THAT_DIFFER[recipe]
    with ThreadPoolExecutor(2) as pool:
        jobs = {
            "reference": pool.submit(train, recipe, "reference", tmp_path / "reference", steps),
            "killed": pool.submit(train_killed, recipe, tmp_path / "killed", steps, kills, seed=steps),
            "cpu": pool.submit(train, recipe, "cpu", tmp_path / "cpu", steps),
        }
        jobs["cpu"].result()
        jobs["resumed"] = pool.submit(train_resumed, tmp_path / "cpu", tmp_path / "resumed", steps)
        digests = {name: job.result() for name, job in jobs.items()}
    assert len(set(digests.values())) == 1, digests


@pytest.mark.identity
@pytest.mark.parametrize("recipe", RECIPES)
def test_weights_are_equal(recipe: str, tmp_path: Path) -> None:
    all_equal(recipe, tmp_path, steps=200, kills=20)


@pytest.mark.parametrize("recipe", ["fp8_delayed", "nvfp4", "lsq"])
def test_weights_are_equal_in_few_steps(recipe: str, tmp_path: Path) -> None:
    all_equal(recipe, tmp_path, steps=20, kills=2)
