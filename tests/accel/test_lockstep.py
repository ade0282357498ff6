"""A recorded training step, replayed op by op on the cpu backend: every op on the reference's inputs, under its own contract.

New recipes and layers come under this test by being listed; a single kernel is tested in `test_kernels.py`.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lpref.accel import backend
from lpref.models.gpt import GPT, GPTConfig
from lpref.ref.optim import OptimContext, clip_global_norm, optimizer
from lpref.ref.recipes import Context
from lpref.ref.recording import Recording, RecordingBackend, replay
from lpref.specs import recipe

SMALL = GPTConfig(vocab=40, context=32, layers=2, d_model=32, heads=2, ffn=64)


def recorded_step(name: str) -> Recording:
    """Forward, backward, clipping and update of a small GPT on the reference backend."""
    ops = RecordingBackend(backend("reference", "exact"))
    model = GPT(SMALL, recipe(name), 0, ops)
    ids = np.random.default_rng(1).integers(0, 40, (2, 33))
    model.loss(SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:]), Context(seed=0, step=3, update=3)).backward()
    grads, _ = clip_global_norm({key: p.grad for key, p in model.params.items()}, 1.0, ops=ops)
    params = {key: p.data for key, p in model.params.items()}
    rule = optimizer("adamw")
    rule.update(params, grads, rule.init(params), OptimContext(step=3, update=3, seed=0, lr=1e-3), ops)
    return ops.recording


@pytest.mark.parametrize("name", ["fp32", "nvfp4", "mxfp8", "bf16", "coat", "actnn"])
def test_every_op_of_a_step_keeps_its_contract(name: str) -> None:
    recording = recorded_step(name)
    counts = recording.counts()
    assert counts["attention_packed"] == counts["attention_packed_backward"] == SMALL.layers
    assert counts["adamw_update"] == 1  # all parameters are one vector
    for grade in ("exact", "fast"):
        assert [str(m) for m in replay(recording, backend("cpu", grade))] == []


def test_a_planted_error_is_found_where_it_is() -> None:
    recording = recorded_step("fp32")
    cpu = backend("cpu", "exact")
    index = next(i for i, call in enumerate(recording.calls) if call.op == "swiglu_packed_backward")
    recording.calls[index].output[0, 0] = np.nextafter(recording.calls[index].output[0, 0], np.float32(9))
    (found,) = replay(recording, cpu)
    assert (found.index, found.op) == (index, "swiglu_packed_backward")
