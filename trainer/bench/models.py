"""Training steps of a spec: milliseconds a step and tokens a second, evaluation, records and checkpoints left out."""

from __future__ import annotations

import statistics
import time
from typing import Any

from lpref.trainer.spec import TrainSpec

WARM = 4


def model_row(spec: TrainSpec, steps: int) -> dict[str, Any]:
    """The figures of `steps` steps after four that are not timed, the median of single steps; each waits for its loss."""
    from lpref.trainer.loop import start_state
    from lpref.trainer.setup import prepare
    from lpref.trainer.stepping import stepper

    prepared = prepare(spec)
    state, runner = start_state(prepared), stepper(prepared)
    took = []
    for step in range(WARM + steps):
        made = batches(prepared, step)
        started = time.perf_counter()
        state, result = runner.step(state, made, collect=False, meanwhile=lambda: None)
        float(result.loss)
        took.append(time.perf_counter() - started)
    median = statistics.median(took[WARM:])
    return {
        "name": spec.name, "recipe": spec.recipe_name, "backend": prepared.backend.name, "numerics": prepared.backend.numerics,
        "parameters": prepared.model.num_params(), "ms": 1000 * median, "tokens/s": prepared.tokens_per_step / median, "loss": float(result.loss),
    }  # fmt: skip


def batches(prepared: Any, step: int) -> list[Any]:
    """The micro-batches of a step."""
    from lpref.trainer.data.batches import train_batch

    train = prepared.spec.train
    size = train.batch // train.micro_batches
    return [train_batch(prepared.data, prepared.length, train.batch, train.seed, step, i * size, size) for i in range(train.micro_batches)]
