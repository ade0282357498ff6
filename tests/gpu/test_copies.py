"""Copies of weights in bfloat16: the steps that read them are the steps that cast the weights, eager, replayed and queued."""

from __future__ import annotations

from functools import partial

import cupy as cp
import numpy as np
import pytest

from lpref.accel.cuda import copies
from lpref.ref.quantize import lookup
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import Batch, train_batch
from lpref.trainer.device_step import DeviceStep
from lpref.trainer.loop import start_state
from lpref.trainer.setup import Prepared, prepare
from lpref.trainer.spec import load_spec

CHANGED = {5: "h.0.attn.qkv.weight", 18: "head.weight"}
"""Step -> the weight that somebody else writes to before it."""


def batches(run: Prepared, step: int) -> list[Batch]:
    s = run.spec.train
    size = s.batch // s.micro_batches
    return [train_batch(run.data, run.length, s.batch, s.seed, step, i * size, size) for i in range(s.micro_batches)]


def weights(run: Prepared) -> dict[str, bytes]:
    return {name: run.backend.arrays.host(array).tobytes() for name, array in run.model.arrays().items()}


def trained(recipe: str, *changes: str) -> tuple[DeviceStep, list]:
    """26 steps; weights after each call, and the reports."""
    spec = load_spec("train/ci_gpt", ["backend=cuda", "numerics=fast", f"recipe={recipe}", "schedule.warmup=3", *changes])
    run = prepare(spec, data=load_data("stdlib"))
    by, state, found = DeviceStep(run), start_state(run), []
    while state.step < 26:
        if state.step in CHANGED:
            params, name = run.model.params, CHANGED[state.step]
            params.get(name, params["wte.weight"]).data[1:] *= np.float32(1.25)  # a tied head has none of its own
        if state.step == 11:
            run.model.set_arrays({name: run.backend.arrays.host(a) for name, a in run.model.arrays().items()})
        until = next(stop for stop in (1, 2, 3, 5, 11, 18, 26) if stop > state.step)
        done = by.steps(state, until - state.step, partial(batches, run), collect=state.step == 2)
        state = done[-1][0]
        found += [weights(run), *((repr(r.loss), repr(r.grad_norm), r.skipped) for _, r in done)]
    return by, found


@pytest.mark.parametrize(("recipe", "change"), [
    *((recipe, "train.micro_batches=2") for recipe in ("bf16", "nvfp4", "fp8_current")), ("bf16", "model.tied=true"),
    ("bf16", "optimizer={kind: sgd, lr: 0.1, momentum: 0.9}"), ("nvfp4", "optimizer={kind: lion, lr: 1e-3}"),
])  # fmt: skip
def test_copies_serve_as_casts(recipe: str, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by, with_copies = trained(recipe, change)
    held, owners = by.weight_copies.made, by.weight_copies.weights
    sites = by.p.model.sites
    cast = [name for name, linear in by.p.model.recipes.items() if linear.fprop.b.quantizer == lookup("bf16")]
    assert set(held) == {by.p.model.params[sites[name].parameter].data.data.ptr for name in cast}
    assert len(cast) == {"bf16": len(sites), "nvfp4": 5, "fp8_current": 0}[recipe]
    for at, copy in held.items():
        rounded = by.p.backend.cast(owners[at], "bfloat16")
        assert bool((rounded.view(cp.uint32) >> 16 == copy.view(cp.uint16)).all())
    assert all(kind.captured is not None for kind in by.kinds.values())
    monkeypatch.setattr(copies, "of", lambda x: None)
    by, without = trained(recipe, change)
    assert not by.weight_copies.made
    assert with_copies == without
