"""The training step on the GPU: ms a step, eager, replayed with a wait each, replayed back to back; what the kernels of a replay take.

Run: PYTHONPATH=src python bench/step_device.py OUT.json [SPEC:RECIPE …]. Kernel times are CUPTI's, through torch's profiler where torch is there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cupy as cp
import numpy as np

from lpref.accel.cuda import device
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.device_step import DeviceStep
from lpref.trainer.loop import start_state
from lpref.trainer.setup import prepare
from lpref.trainer.spec import load_spec

CASES = [f"{name}:{recipe}" for name in ("train/default", "bench/micro", "bench/nano", "bench/gpt2_163m") for recipe in ("bf16", "nvfp4")]
ROUNDS = 12


def measured(name: str, recipe: str) -> dict[str, Any]:
    """Figures of one spec under one recipe, grade fast."""
    run = prepare(load_spec(name, ["backend=cuda", "numerics=fast", f"recipe={recipe}"]), data=load_data("stdlib"))
    by, state, s = DeviceStep(run), start_state(run), run.spec.train
    batches = [train_batch(run.data, run.length, s.batch, s.seed, i, 0, s.batch) for i in range(2 * ROUNDS + 8)]
    tokens = batches[0].tokens

    def steps(count: int, together: int = 1) -> float:
        nonlocal state
        times = []
        for _ in range(count):
            started = time.perf_counter()
            done = by.steps(state, together, lambda step: [batches[step % len(batches)]])
            state = done[-1][0]
            times.append((time.perf_counter() - started) / len(done))
        return float(np.median(times)) * 1e3

    by.eager = True
    steps(2)
    out: dict[str, Any] = {"spec": name, "recipe": recipe, "tokens": tokens, "parameters": run.model.num_params(), "eager_ms": steps(3)}
    by.eager = False
    started = time.perf_counter()
    steps(2)
    out["capture_ms"] = (time.perf_counter() - started) * 1e3
    steps(3)
    out["synchronised_ms"] = steps(ROUNDS)
    out["queued_ms"] = steps(4, 16)
    out["pool_mib"] = by.facts()["step_mib"]
    (kind,) = by.kinds.values()
    graph = kind.captured.graph
    out["nodes"] = graph.debug_dot_str().count("KERNEL") if hasattr(graph, "debug_dot_str") else 0
    begin, end = cp.cuda.Event(), cp.cuda.Event()
    graph.launch()
    begin.record()
    for _ in range(ROUNDS):
        graph.launch()
    end.record()
    end.synchronize()
    out["replay_ms"] = cp.cuda.get_elapsed_time(begin, end) / ROUNDS
    out["tokens_per_s"] = tokens / out["synchronised_ms"] * 1e3
    out["kernels"] = kernels(graph.launch)
    return out


def kernels(launch: Any) -> list[tuple[str, int, float]]:
    """(name, launches a step, µs a step) of what runs in a replay, longest first."""
    try:
        from torch.profiler import ProfilerActivity, profile
    except ImportError:
        return []
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(2):
            launch()
        cp.cuda.get_current_stream().synchronize()
    rows = [(e.key[:60], e.count // 2, e.device_time_total / 2) for e in seen.key_averages() if e.device_time_total]
    return sorted(rows, key=lambda row: -row[2])


def main(out: str, *chosen: str) -> None:
    """Everything, printed and written."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    results: dict[str, Any] = {"device": device.describe(), "commit": commit, "figures": []}
    for case in chosen or CASES:
        try:
            found = measured(*case.split(":"))
        except Exception as error:  # one figure that cannot be made does not cost the others
            print(f"{case}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            continue
        results["figures"].append(found)
        print({key: round(v, 3) if isinstance(v, float) else v for key, v in found.items() if key != "kernels"}, flush=True)
        for row in found["kernels"][:28]:
            print(f"   {row[2]:9.1f} us {row[1]:5d} x {row[0]}", flush=True)
        cp.get_default_memory_pool().free_all_blocks()
        Path(out).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
