"""Nothing in a replayed step waits for the device, and the loop waits once a step: 1000 steps of 3 recipes x 3 models."""

from __future__ import annotations

import cupy as cp
import numpy as np
import pytest

from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.device_step import DeviceStep
from lpref.trainer.loop import start_state
from lpref.trainer.setup import prepare
from lpref.trainer.spec import load_spec

MODELS = {
    "gpt": ("train/ci_gpt", "model.layers=1", "model.d_model=32", "model.ffn=48", "model.context=32"),
    "gpt2": ("train/ci_gpt", "model={kind: gpt, layers: 1, d_model: 32, heads: 2, ffn: 64, context: 32, vocab: 256, norm: layernorm, "
             "activation: gelu, positions: learned, bias: true, tied: true}"),
    "cnn": ("train/digits_cnn", "train.batch=16"),
}  # fmt: skip
STEPS = 1000


@pytest.mark.parametrize("recipe", ["bf16", "fp8_delayed", "nvfp4"])
@pytest.mark.parametrize("model", MODELS)
def test_one_wait_a_step(model: str, recipe: str) -> None:
    name, *changes = MODELS[model]
    spec = load_spec(name, ["backend=cuda", "numerics=exact", f"recipe={recipe}", f"train.steps={STEPS}", *changes])
    run = prepare(spec, data=load_data("digits" if model == "cnn" else "stdlib"))
    by, state, waits = DeviceStep(run), start_state(run), []
    wait, s = by._wait, run.spec.train
    by._wait = lambda: (waits.append(1), wait())
    ahead, behind = cp.empty(1 << 28, np.uint8), []
    for step in range(STEPS):
        delayed = step >= 2 and step % 100 == 0
        if delayed:  # the device is kept busy: a host that waited for it would find it done
            for _ in range(40):
                cp.cuda.runtime.memcpyAsync(ahead.data.ptr, ahead.data.ptr + (1 << 27), 1 << 27, 3, 0)

        def batches_of(asked: int, delayed: bool = delayed, now: int = step) -> list:
            if delayed and asked == now + 1:  # the step is on its way
                event = cp.cuda.Event()
                event.record()
                behind.append(not event.done)
            return [train_batch(run.data, run.length, s.batch, s.seed, asked, 0, s.batch)]

        ((state, _),) = by.steps(state, 1, batches_of)
    assert len(waits) == STEPS
    assert all(kind.captured for kind in by.kinds.values())
    assert len(behind) == STEPS // 100 - 1
    assert all(behind)
