"""Mechanisms above the layer (blocks, probes, displaced passes, experts, losses): whole steps of the cpu backend have the reference's bits."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.conformance.proves import proves
from lpref.trainer import setup
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.loop import start_state
from lpref.trainer.passes import step_of
from lpref.trainer.spec import load_spec

DATA = load_data("stdlib")
SMALL = {
    "model.layers": 2, "model.context": 16, "data.valid_windows": 2, "train.batch": 2, "train.micro_batches": 1, "train.steps": 4,
    "numerics": "exact",
}  # fmt: skip
MORE = {"mote": {"model.experts": 2}, "gact_auto": {"model.layers": 1}}


def trained(name: str, backend: str):
    spec = load_spec("train/ci_gpt", {**SMALL, **MORE.get(name, {}), "recipe": name, "backend": backend})
    made = setup.prepare(spec, data=DATA)
    state, losses = start_state(made), []
    for step in range(3):
        state, result = step_of(made, state, [train_batch(DATA, made.length, 2, 1, step, 0, 2)], False)
        losses.append(result.loss)
    return losses, made.model.arrays()


@pytest.mark.parametrize("name", ["efficientqat_block_ap", "apiq_sapr", "gact_auto", "gaqat", "mote", "niti_integer_loss", "few_bit_backward"])
@proves("recipe:{name}", "cpu")
def test_steps_of_the_cpu_backend_are_the_references(name: str) -> None:
    (losses, arrays), (wanted, reference) = trained(name, "cpu"), trained(name, "reference")
    assert losses == wanted
    for key, a in reference.items():
        np.testing.assert_array_equal(arrays[key].view(np.uint32), a.view(np.uint32), key)
