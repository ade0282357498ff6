"""The training step on the GPU: ms a step, eager, replayed with a wait each, replayed back to back; memory; what the kernels of a replay take.

Run: PYTHONPATH=src python bench/step_device.py OUT.json [SPEC:RECIPE or SPEC:PEER …]; a peer is a way of `lpref bench --peer`, timed in this process
after the same number of steps. Cases that OUT.json holds already and that are not run again stay, with the commit that they were measured at. Kernel
times are CUPTI's, through torch's profiler where torch is there; `noprofile` as a case leaves them out.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import cupy as cp
import numpy as np
from where import about, stamp

from lpref.cli.bench import PEERS
from lpref.models import model
from lpref.trainer.bench.models import memory
from lpref.trainer.bench.run import peer_rows
from lpref.trainer.bench.timing import free_memory
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.device_step import DeviceStep
from lpref.trainer.loop import start_state
from lpref.trainer.setup import prepare
from lpref.trainer.spec import load_spec

CASES = [f"{name}:{recipe}" for name in ("train/default", "bench/micro", "bench/nano", "bench/gpt2_163m") for recipe in ("bf16", "nvfp4")]
CASES += [f"bench/{name}:whole_step" for name in ("micro", "nano", "gpt2_163m")]
CASES += [f"bench/gpt2_163m:{recipe}" for recipe in ("fp8_delayed", "fp8_current")]
CASES += ["bench/micro:compile_graphs", *(f"bench/{name}:jax" for name in ("micro", "nano"))]
ROUNDS = 12
QUEUES, QUEUE, LONG = 6, 16, 2000
"""Queues that are timed together, steps of each, and milliseconds beyond which there are fewer queues."""


def quick(spec: Any, seed: int) -> Any:
    """First values by NumPy's generator: those of the model's own words, 163 M of them, take longer than all that is timed."""
    drawn = np.random.default_rng(seed).standard_normal(spec.shape, np.float32) if spec.std is not None else np.float32(spec.value)
    return np.broadcast_to(drawn * np.float32(spec.std or 1), spec.shape).copy()


def measured(name: str, recipe: str, profiled: bool) -> dict[str, Any]:
    """Figures of one spec under one recipe, grade fast, or of a peer."""
    if recipe in PEERS:
        (row,) = peer_rows(load_spec(name, ["recipe=bf16"]), [recipe], ROUNDS)
        keys = {"parameters": "parameters", "synchronised_ms": "ms", "queued_ms": "queued ms", "peak_gib": "peak GiB", "device_gib": "device GiB"}
        return {"spec": name, "recipe": recipe, "peer": row["recipe"], **{key: row[old] for key, old in keys.items() if old in row}}
    model.initial, free = quick, free_memory()
    run = prepare(load_spec(name, ["backend=cuda", "numerics=fast", f"recipe={recipe}"]), data=load_data("stdlib"))
    by, state, s = DeviceStep(run), start_state(run), run.spec.train
    batches = [train_batch(run.data, run.length, s.batch, s.seed, i, 0, s.batch) for i in range(2 * ROUNDS + 8)]
    tokens, made = batches[0].tokens, 0  # made: steps that were done, which may be fewer than were asked for together

    def steps(count: int, together: int = 1) -> float:
        nonlocal state, made
        times = []
        for _ in range(count):
            started = time.perf_counter()
            done = by.steps(state, together, lambda step: [batches[step % len(batches)]])
            state = done[-1][0]
            made += len(done)
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
    steps(1, 4)
    queues = max(1, min(QUEUES, int(LONG / (QUEUE * out["synchronised_ms"]))))
    started, before = time.perf_counter(), made
    steps(queues, QUEUE)
    out["queued_ms"] = (time.perf_counter() - started) * 1e3 / (made - before)
    out["pool_mib"] = by.facts()["step_mib"]
    out |= {key.lower().replace(" ", "_"): value for key, value in memory(by, free).items()}
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
    out["tokens_per_s"] = tokens / out["queued_ms"] * 1e3
    out["kernels"] = kernels(graph.launch) if profiled else []
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
    profiled, cases = "noprofile" not in chosen, [case for case in chosen if case != "noprofile"] or CASES
    kept = json.loads(Path(out).read_text(encoding="utf-8"))["figures"] if Path(out).exists() else []
    results: dict[str, Any] = {"about": about(), "figures": kept}
    for case in cases:
        name, recipe = case.split(":")
        try:
            found = measured(name, recipe, profiled) | stamp()
        except Exception as error:  # one figure that cannot be made does not cost the others
            print(f"{case}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            continue
        results["figures"] = [one for one in results["figures"] if (one["spec"], one["recipe"]) != (name, recipe)] + [found]
        print({key: round(v, 3) if isinstance(v, float) else v for key, v in found.items() if key != "kernels"}, flush=True)
        for row in found.get("kernels", [])[:28]:
            print(f"   {row[2]:9.1f} us {row[1]:5d} x {row[0]}", flush=True)
        cp.get_default_memory_pool().free_all_blocks()
        Path(out).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
