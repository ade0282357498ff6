"""Training steps of a spec: milliseconds a step, tokens a second, memory; evaluation, records and checkpoints left out."""

from __future__ import annotations

import time
from typing import Any

from lpref.trainer.bench.timing import free_memory
from lpref.trainer.spec import TrainSpec

WARM, QUEUE, QUEUED = 4, 16, 96
"""Steps before the first that is timed; steps that are queued at once, and in all."""


def model_row(spec: TrainSpec, steps: int) -> dict[str, Any]:
    """The figures of `steps` steps after four that are not timed: each waited for, and queued as a run does (on a device, 16 at once)."""
    from lpref.accel.cuda.device import usable
    from lpref.trainer.loop import start_state
    from lpref.trainer.setup import prepare
    from lpref.trainer.stepping import stepper

    free = free_memory() if usable() else 0
    prepared = prepare(spec)
    state, runner = start_state(prepared), stepper(prepared)
    made = [batches(prepared, step) for step in range(WARM)]

    def run(count: int, together: int) -> tuple[float, float]:
        """(seconds a step, the last loss)."""
        nonlocal state
        started, last = time.perf_counter(), state.step + count
        while state.step < last:
            done = runner.steps(state, min(together, last - state.step), lambda step: made[step % WARM], collect=False)
            state = done[-1][0]
        return (time.perf_counter() - started) / count, float(done[-1][1].loss)

    run(WARM, 1)
    each, loss = run(steps, 1)
    queued, loss = run(QUEUED, QUEUE) if prepared.backend.name == "cuda" else (each, loss)
    return {
        "name": spec.name, "recipe": spec.recipe_name, "backend": prepared.backend.name, "numerics": prepared.backend.numerics,
        "parameters": prepared.model.num_params(), "ms": 1000 * each, "queued ms": 1000 * queued,
        "tokens/s": prepared.tokens_per_step / queued, "loss": loss, **memory(runner, free),
    }  # fmt: skip


def memory(runner: Any, free: int) -> dict[str, float]:
    """peak GiB: weights, moments and all that steps hold; device GiB: what the device has less than `free` bytes. Nothing in host memory."""
    if not hasattr(runner, "memory"):
        return {}
    mib = runner.memory()
    return {"peak GiB": sum(mib[part] for part in ("weights", "optimizer", "step")) / 2**10, "device GiB": (free - free_memory()) / 2**30}


def batches(prepared: Any, step: int) -> list[Any]:
    """The micro-batches of a step."""
    from lpref.trainer.data.batches import train_batch

    train = prepared.spec.train
    size = train.batch // train.micro_batches
    return [train_batch(prepared.data, prepared.length, train.batch, train.seed, step, i * size, size) for i in range(train.micro_batches)]
