"""Runs under a gate: resumed runs, the reference's bits on other backends, the target that rises, weights of a run without a gate, evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from strict_arrays import StrictBackend

from lpref.accel import backend
from lpref.conformance.proves import proves
from lpref.ref.recipes.loss_hooks import hook_of
from lpref.trainer import checkpoint as checkpoints
from lpref.trainer import setup
from lpref.trainer.api import train
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.evaluate import evaluate_run
from lpref.trainer.loop import resumed_state, start_state
from lpref.trainer.passes import step_of
from lpref.trainer.spec import load_spec
from lpref.trainer.stepping import looked_into

DATA = load_data("stdlib")
SMALL = {
    "model.layers": 2, "model.context": 16, "data.valid_windows": 2, "train.batch": 4, "train.micro_batches": 2, "train.steps": 8,
    "numerics": "exact", "train.stats_every": 0, "train.sample": 0,
}  # fmt: skip


def prepared(recipe="fractrain_dfq", name: str = "cpu", **changes):
    spec = load_spec("train/ci_gpt", {**SMALL, "recipe": recipe, **changes})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "load_backend", lambda spec: StrictBackend("exact") if name == "strict" else backend(name, "exact"))
        return setup.prepare(spec, data=DATA)


def trained(run, state, steps: int):
    for _ in range(steps):
        state, result = step_of(run, state, [train_batch(DATA, run.length, 4, 1, state.step, i, 2) for i in (0, 2)], False)
        assert np.isfinite(result.loss)
        assert not result.skipped
    return state


def weights(run) -> dict[str, np.ndarray]:
    return {name: run.backend.arrays.host(array) for name, array in run.model.arrays().items()}


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, a in one.items():
        np.testing.assert_array_equal(a.view(np.uint32), other[name].view(np.uint32), name)


@proves("recipe:{recipe}", "cpu")
@pytest.mark.parametrize("recipe", ["fractrain_dfq", "fractrain"])
def test_steps_of_the_cpu_backend_are_the_references(recipe: str) -> None:
    found = []
    for name in ("reference", "cpu", "strict"):
        run = prepared(recipe, name)
        trained(run, start_state(run), 3)
        found.append(weights(run))
    assert_same(found[0], found[1])
    assert_same(found[1], found[2])


RISING = {"base": "fractrain", "controllers": [{"kind": "plateau", "parameters": {"every": 1, "keep": 2, "threshold": 9.0, "levels": [
    {"loss_hooks.0.parameters.target": 1.5}, {"loss_hooks.0.parameters.target": 2.0}, {"loss_hooks.0.parameters.target": 2.5}]}}]}  # fmt: skip


def test_a_resumed_run_has_the_bits_of_one_that_was_not_interrupted(tmp_path: Path) -> None:
    whole, first, second = (prepared(RISING) for _ in range(3))
    state = trained(whole, start_state(whole), 5)
    half = trained(first, start_state(first), 2)
    path = checkpoints.save(tmp_path, first.to_checkpoint(half, first.model.arrays()), keep=1)
    resumed = trained(second, resumed_state(second, checkpoints.load(path)), 3)
    assert_same(weights(whole), weights(second))
    assert resumed.controllers == state.controllers
    assert state.controllers["0.plateau"]["level"] == 2
    assert hook_of(whole.in_force(state).recipe.loss_hooks[0]).target == 2.5


def test_the_gate_learns() -> None:
    run = prepared()
    before = {name: a.copy() for name, a in weights(run).items()}
    trained(run, start_state(run), 2)
    assert {name for name, a in weights(run).items() if name.startswith("gate.") and (a != before[name]).any()} >= {
        "gate.h.1.features.weight", "gate.h.0.embedding.weight", "gate.lstm.weight_ih", "gate.lstm.weight_hh", "gate.proj.weight",
    }  # fmt: skip
    assert looked_into(run)


def test_a_run_starts_from_one_without_a_gate_and_is_evaluated(tmp_path: Path) -> None:
    short = {**SMALL, "train.steps": 2, "backend": "cpu"}
    dense = train(load_spec("train/ci_gpt", {**short, "recipe": "fp32"}), out=tmp_path / "dense", quiet=True, data=DATA)
    made = prepared(**{"train.start": str(dense.path)})
    fresh, theirs = weights(prepared()), checkpoints.newest(dense.path / "checkpoints")[0].params
    for name, a in weights(made).items():
        np.testing.assert_array_equal(a, fresh[name] if name.startswith("gate.") else theirs[name])
    spec = load_spec("train/ci_gpt", {**short, "recipe": "fractrain_dfq", "train.start": str(dense.path)})
    run = train(spec, out=tmp_path / "gated", quiet=True, data=DATA)
    assert np.isfinite(evaluate_run(run.path)["loss"])
