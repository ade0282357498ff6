"""A training step of the default model: float32 beside eager torch, NVFP4 beside float32, memory, and the reference backend.

The sides of a ratio take turns in one process with the same number of threads; the figure is the ratio of the medians. Peak memory is
that of a child process that trains the default spec.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

SPEC = "train/default"
THREADS = os.cpu_count() or 1


class Step:
    """Steps of `SPEC` in a recipe on a backend, one after the other."""

    def __init__(self, recipe: str, backend: str = "cpu", data: Any = None) -> None:
        from lpref.trainer.loop import start_state
        from lpref.trainer.setup import prepare
        from lpref.trainer.spec import load_spec

        spec = load_spec(SPEC, [f"recipe={recipe}", f"backend={backend}"])
        self.prepared = prepare(spec, data=data)
        self.state = start_state(self.prepared)

    def __call__(self) -> None:
        from lpref.trainer.data.batches import train_batch
        from lpref.trainer.step import train_step

        p, s = self.prepared, self.prepared.spec.train
        batch = train_batch(p.data, p.length, s.batch, s.seed, self.state.step, 0, s.batch)
        p.bind(self.state)
        self.state, _ = train_step(p.model, self.state, [batch], p.rules, p.context_of(self.state, collect=False))


def medians(sides: list[Callable[[], object]], turns: int = 6, block: int = 6) -> list[float]:
    """Median seconds of each side. The sides take turns of `block` calls; the first of a turn is not counted.

    Call by call they would disturb each other: torch's threads go on spinning for milliseconds after its step.
    """
    times: list[list[float]] = [[] for _ in sides]
    for turn in range(turns):
        for side, kept in zip(sides, times, strict=True):
            for call in range(block):
                started = time.perf_counter()
                side()
                if call and turn:
                    kept.append(time.perf_counter() - started)
    return [statistics.median(kept) for kept in times]


def peak_memory() -> float:
    """GiB of the largest resident set of a child that trains 20 steps of the default in nvfp4."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "lpref.cli", "train", SPEC, "-s", "train.steps=20", "--backend", "cpu", "-o", f"{folder}/run"]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def rows() -> list[dict[str, Any]]:
    fp32 = Step("fp32")
    data = fp32.prepared.data
    tokens = fp32.prepared.tokens_per_step
    others = {recipe: Step(recipe, data=data) for recipe in ("bf16", "nvfp4", "mxfp8", "fp8_current")}
    base, *rest = medians([fp32, *others.values()])
    out: list[dict[str, Any]] = [{"name": "fp32 step", "value": tokens / base, "unit": "tokens/s"}]
    for (recipe, _), seconds in zip(others.items(), rest, strict=True):
        row: dict[str, Any] = {"name": f"{recipe} step, time / fp32", "value": seconds / base, "unit": "x"}
        out.append({**row, "bar": 2.5, "direction": "at most"} if recipe == "nvfp4" else row)
    out += against_torch(fp32)
    out.append({"name": "peak memory of a default run", "value": peak_memory(), "unit": "GiB", "bar": 1.5, "direction": "at most"})
    reference = Step("nvfp4", backend="reference", data=data)
    started = time.perf_counter()
    for _ in range(20):
        reference()
    seconds = time.perf_counter() - started
    out.append({"name": "20 nvfp4 steps on the reference backend", "value": seconds, "unit": "s", "bar": 60, "direction": "at most"})
    return out


def against_torch(ours: Step) -> list[dict[str, Any]]:
    try:
        import torch

        from lpref.trainer.bench.torch_steps import Step as TorchStep
    except ImportError:
        return []
    torch.set_num_threads(THREADS)
    peer = TorchStep(ours.prepared.spec, place="cpu")
    count = sum(p.numel() for p in peer.model.parameters())
    assert count == ours.prepared.model.num_params(), f"not the same model: {count} and {ours.prepared.model.num_params()} parameters"

    def theirs() -> None:
        peer.run()
        peer.loss()

    mine, other = medians([ours, theirs])
    note = f"torch {torch.__version__}"
    return [{"name": "fp32 step, speed / eager torch", "value": other / mine, "unit": "x", "bar": 0.8, "note": note}]
