"""Training steps under the fixed-point and integer recipes: equal bits on both CPU backends, and what their pages say of whole updates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lpref.conformance.proves import proves
from lpref.ref.optim import LossScale
from lpref.specs import recipe
from lpref.trainer.data.batches import train_batch
from lpref.trainer.loop import resumed_state, start_state
from lpref.trainer.setup import prepare
from lpref.trainer.spec import load_spec
from lpref.trainer.step import train_step

NAMES = [
    "gupta", "dynamic_fixed_point", "dfp_int16", "swalp", "dorefa", "wage", "wageubn", "banner", "ui8", "distribution_adaptive", "in_hindsight",
    "niti", "jetfire", "dqt", "shiftquant",
]  # fmt: skip
SPEC = {
    "lpref": 1, "model": {"kind": "mlp", "features": 64, "hidden": [24, 20]}, "data": {"name": "digits"}, "numerics": "exact",
    "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9}, "train": {"steps": 4, "batch": 16, "clip": None},
}  # fmt: skip


def run(name, backend: str = "cpu", steps: int = 2, change=None, **more):
    """(prepared, state, weights) after some steps; `change` edits the rules."""
    prepared = prepare(load_spec({**SPEC, "recipe": name, "backend": backend, **more}))
    state = start_state(prepared)
    rules = prepared.rules if change is None else change(prepared.rules)
    for _ in range(steps):
        batch = train_batch(prepared.data, prepared.length, 16, 1, state.step, 0, 16)
        state, result = train_step(prepared.model, state, [batch], rules, prepared.context_of(state, collect=False))
        assert not result.skipped
    return prepared, state, prepared.model.arrays()


@proves("recipe:{name}", "cpu")
@pytest.mark.parametrize("name", NAMES)
def test_two_steps_have_the_same_bits_on_both_backends(name: str) -> None:
    (_, a, want), (_, b, got) = (run(name, backend) for backend in ("reference", "cpu"))
    for key, value in want.items():
        np.testing.assert_array_equal(value, got[key], err_msg=key)
    assert set(a.optimizer) == set(b.optimizer)
    for key, value in a.optimizer.items():
        np.testing.assert_array_equal(value, b.optimizer[key], err_msg=key)
    assert {p: {k: np.asarray(v).tolist() for k, v in s.items()} for p, s in a.quantizers.items()} == {
        p: {k: np.asarray(v).tolist() for k, v in s.items()} for p, s in b.quantizers.items()
    }


@pytest.mark.parametrize("name", ["niti", "swalp", "dqt", "in_hindsight", "dynamic_fixed_point", "distribution_adaptive"])
def test_a_run_that_is_taken_up_again_has_the_same_bits(name: str) -> None:
    """Weights are not rounded a second time; grids, averages and the memories of scales come back."""
    _, whole, want = run(name, steps=4)
    half, state, weights = run(name, steps=2)
    kept = half.to_checkpoint(state, weights)
    other = prepare(load_spec({**SPEC, "recipe": name, "backend": "cpu"}))
    after = resumed_state(other, kept)
    for _ in range(2):
        batch = train_batch(other.data, other.length, 16, 1, after.step, 0, 16)
        after, _ = train_step(other.model, after, [batch], other.rules, other.context_of(after, collect=False))
    for key, value in want.items():
        np.testing.assert_array_equal(value, other.model.arrays()[key], err_msg=key)
    assert set(whole.optimizer) == set(after.optimizer)


def scaled(power: int):
    """The loss times 2^power, and its gradients not divided again."""
    return lambda rules: replace(rules, loss_scale=LossScale("static", init=2.0**power), optimizer=Unscaled(rules.optimizer, 2.0**power))


class Unscaled:
    """An optimizer that sees the gradients as they were, scaled."""

    def __init__(self, inner, scale: float) -> None:
        self.inner, self.scale = inner, np.float32(scale)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def update(self, params, grads, state, ctx, backend=None):
        return self.inner.update(params, {n: g * self.scale for n, g in grads.items()}, state, ctx, backend)


@pytest.mark.parametrize("name", ["wage", "niti", "wageubn"])
def test_scaling_the_loss_changes_no_integer_update(name: str) -> None:
    """The magnitude of errors and gradients is thrown away; the layers in float32 are left out of the network's update here."""
    spec = {"base": name, "set": {"rules": []}}
    weights = {"optimizer": {"kind": "sgd", "lr": 0.0}, "schedule": {"kind": "constant", "lr": 0.1}}
    _, _, want = run(spec, steps=1, **weights)
    _, _, got = run(spec, steps=1, change=scaled(12), **weights)
    moved = 0
    for key, value in want.items():
        if key.endswith(".weight"):
            np.testing.assert_array_equal(value, got[key])
            moved += int(np.count_nonzero(value))
    assert moved


def test_without_the_scale_of_errors_wages_updates_are_the_same() -> None:
    """The published error is normalized and its magnitude dropped; a power of two more or less on dY is the same update."""
    name = {"base": "wage", "set": {"rules": []}}
    _, _, want = run(name, steps=1)
    shifted = {"base": "wage", "set": {"rules": [], "linear.dgrad.epilogue": [
        {"kind": "mask", "mask": "x_mask"}, {"kind": "scale", "factor": 2.0**-9},
    ]}}  # fmt: skip
    _, _, got = run(shifted, steps=1)
    for key, value in want.items():
        if key.endswith(".weight"):
            np.testing.assert_array_equal(value, got[key], err_msg=key)


def test_stored_weights_stay_on_their_grids() -> None:
    prepared, _, weights = run("wage", steps=4)
    for site, linear in prepared.model.recipes.items():
        w = weights[f"{site}.weight"] * 128
        on_grid = bool(np.array_equal(w, np.rint(w)) and np.abs(w).max() <= 64)
        assert on_grid == (linear != recipe("fp32").linear)
    prepared, state, weights = run("niti", steps=4)
    for name, value in state.optimizer.items():
        if name.endswith("/grid"):
            step = 2.0 ** (np.ceil(np.log2(float(value[0]))) - 7)
            codes = weights[name.removesuffix("/grid")] / step
            assert np.array_equal(codes, np.rint(codes))
            assert np.abs(codes).max() <= 127


def test_nearest_stalls_where_stochastic_rounding_learns() -> None:
    """T1's sign: <2, 8> weights, small steps."""
    def loss(rounding: str) -> float:
        stored = {"format": "fixed10.8", "scale": {"rule": "none"}, "rounding": rounding}
        if rounding == "stochastic":
            stored["word_bits"] = 16
        prepared, state, _ = run({"base": "fp32", "name": rounding, "set": {"weights": {"stored": stored, "of": "all"}}}, steps=60,
                                 optimizer={"kind": "sgd", "lr": 0.004})
        batch = train_batch(prepared.data, prepared.length, 256, 1, 0, 0, 256)
        return float(prepared.model.loss(batch, prepared.evaluation_context(state)(0)).item())

    assert loss("stochastic") < loss("nearest_even") - 0.02


def test_the_average_of_swalp_is_kept_beside_its_weights() -> None:
    name = {"base": "swalp", "set": {"weights.average": {"start": 0.25, "every": 1}}}
    prepared, state, weights = run(name, steps=3)
    mean = prepared.rules.optimizer.averages(weights, state.optimizer, state.update, 4)
    assert set(mean) == set(weights)
    assert any(not np.array_equal(mean[n], weights[n]) for n in weights)


def test_layers_that_deviate_take_smaller_steps() -> None:
    prepared, state, _ = run("ui8", steps=2)
    optimizer = prepared.rules.controllers.around(state.controllers, prepared.rules.optimizer, None)
    assert optimizer.factors
    assert all(0.1 <= factor < 1 for factor in optimizer.factors.values())
