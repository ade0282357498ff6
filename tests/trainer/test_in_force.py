"""The recipe in force, several passes a step, and controllers in a run: bits of equal runs, of resumed runs, and across backends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from strict_arrays import StrictBackend

import lpref
from lpref.accel import backend
from lpref.ref.recipes.controllers import Influence
from lpref.trainer import checkpoint as checkpoints
from lpref.trainer import setup
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.evaluate import evaluate_run
from lpref.trainer.in_force import KEPT
from lpref.trainer.loop import resumed_state, start_state
from lpref.trainer.passes import step_of
from lpref.trainer.spec import load_spec

DATA = load_data("stdlib")
FORMAT = "linear.fprop.a.quantizer.format"
WEIGHT = {"quantizer": {"base": "mxfp4_tetrajet", "tail": "pad_zero"}, "guided": True}
GUIDED = {"name": "guided", "linear": {"fprop": {"a": {"quantizer": "int8_tensor"}, "b": WEIGHT}}}
LEVELS = [{FORMAT: "int3"}, {FORMAT: "int5"}, {FORMAT: "int8"}]
AT_ONCE = {"alpha": 0.0, "beta": 0.0, "violations": 1}
EVERYTHING = {**GUIDED, "name": "everything", "controllers": [
    {"kind": "ema", "parameters": {"decay": 0.5, "warm": 1}},
    {"kind": "plateau", "parameters": {"levels": LEVELS, "every": 1, "keep": 2, "threshold": 9.0}},
    {"kind": "diversity", "parameters": {"levels": [{}, {"linear.wgrad.b.quantizer": "bf16"}], "every": 1, "window": 2, **AT_ONCE}},
    {"kind": "steer", "parameters": {"path": "fprop.a.quantizer.scale.multiplier", "factor": 0.5, "low": 0.0, "high": 0.0}},
]}  # fmt: skip


def prepared(recipe, name: str = "cpu", **changes):
    spec = load_spec(
        "train/ci_gpt",
        ["model.layers=1", "model.context=32", "data.valid_windows=2", "train.micro_batches=2", "train.steps=8"],
    )
    spec = replace(spec, recipe=recipe, numerics="exact", **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            setup, "load_backend", lambda spec: StrictBackend("exact") if name == "strict" else backend(name, "exact")
        )
        return setup.prepare(spec, data=DATA)


def trained(run, state, steps: int):
    s = run.spec.train
    size = s.batch // s.micro_batches
    for _ in range(steps):
        batches = [
            train_batch(run.data, run.length, s.batch, s.seed, state.step, i * size, size)
            for i in range(s.micro_batches)
        ]
        state, result = step_of(run, state, batches, False)
        assert not result.skipped
    return state


def weights(run) -> dict[str, np.ndarray]:
    return {name: run.backend.arrays.host(array) for name, array in run.model.arrays().items()}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[n].view(np.uint32), other[n].view(np.uint32)) for n in one
    )


def after(recipe, steps: int = 3, name: str = "cpu") -> dict[str, np.ndarray]:
    run = prepared(recipe, name)
    trained(run, start_state(run), steps)
    return weights(run)


def test_one_pass_is_no_pass() -> None:
    plain = after("mxfp4")
    for update in ("each", "summed"):
        assert same(plain, after({"base": "mxfp4", "passes": [{"name": "only", "update": update}]}))


def test_each_pass_updates_and_words_differ() -> None:
    passes = [{"name": "a", "update": "each"}, {"name": "b", "update": "each", "set": {FORMAT: "int4"}}]
    run = prepared({**GUIDED, "passes": passes})
    state = trained(run, start_state(run), 2)
    assert (state.step, state.update) == (2, 4)
    drawn = [run.context_of(state, collect=False, pass_=i)(0).at("s").words("dgrad.a", "rounding").site for i in (0, 1)]
    assert drawn == ["s/dgrad/a/rounding", "s/dgrad/a/rounding@1"]


def test_summed_passes_add_their_gradients() -> None:
    """Two equal float32 passes are twice the gradient: with SGD and half the rate, one pass."""
    sgd = {"kind": "sgd", "lr": 0.25, "weight_decay": 0.0}
    found = []
    for recipe, lr in (("fp32", 0.25), ({"base": "fp32", "passes": [{"name": "a"}, {"name": "b"}]}, 0.125)):
        run = prepared(
            recipe, optimizer={**sgd, "lr": lr}, schedule={"kind": "constant", "lr": lr, "warmup": 0, "steps": 8}
        )
        run = replace(run, rules=replace(run.rules, clip=None))
        trained(run, start_state(run), 2)
        found.append(weights(run))
    assert same(*found)


RAMPED = {"kind": "ramping", "parameters": {"alpha": 0.5, "window": 2, "every": 2}}
FROZEN = {"kind": "freeze", "parameters": {"momentum": 0.5, "threshold": 0.1}}


@pytest.mark.parametrize("recipe", [EVERYTHING, {"base": "tetrajet", "controllers": [RAMPED, FROZEN]}, "lns_madam"], ids=["all", "weights", "madam"])
def test_the_same_bits_on_every_backend(recipe) -> None:
    found = [after(recipe, 5, name) for name in ("reference", "cpu", "strict")]
    assert same(found[0], found[1])
    assert same(found[1], found[2])


def test_ramping_with_all_periods_one_is_the_plain_run() -> None:
    still = {"kind": "ramping", "parameters": {"alpha": 1e30, "window": 2, "every": 2}}
    assert same(after("tetrajet", 4), after({"base": "tetrajet", "controllers": [still]}, 4))


def test_controllers_go_on_from_a_checkpoint(tmp_path) -> None:
    whole = prepared(EVERYTHING)
    state = trained(whole, start_state(whole), 5)
    first, second = prepared(EVERYTHING, "strict"), prepared(EVERYTHING)
    half = trained(first, start_state(first), 2)
    path = checkpoints.save(tmp_path, first.to_checkpoint(half, first.model.arrays()), keep=1)
    resumed = trained(second, resumed_state(second, checkpoints.load(path)), 3)
    assert same(weights(whole), weights(second))
    assert resumed.controllers["1.plateau"] == state.controllers["1.plateau"]
    assert resumed.controllers["3.steer"] == state.controllers["3.steer"]
    assert state.controllers["1.plateau"]["level"] == 2
    assert state.controllers["2.diversity"]["level"] == 1


def test_keys_are_equal_for_equal_recipes() -> None:
    run = prepared({"name": "r", "linear": {"fprop": {"a": {"quantizer": "int8_tensor"}}}, "evaluation": {FORMAT: "int4"},
                    "schedule": [{"set": {FORMAT: "int{bits}"}, "cycle": {"low": 7, "high": 8, "cycles": 2}}]})  # fmt: skip
    recipes = run.recipes
    found = [recipes.at(step, step) for step in range(8)]
    assert [one.recipe.linear.fprop.a.quantizer.format for one in found] == ["int7", "int7", "int8", "int8"] * 2
    assert found[0] is found[4]
    assert found[0].key != found[3].key
    assert recipes.at(0, 0, evaluation=True).recipe.linear.fprop.a.quantizer.format == "int4"
    layer = next(iter(run.model.sites))
    one = recipes.at(0, 0, [Influence(layers={layer: {"fprop.a.quantizer.format": "int2"}})])
    assert [one.layers[name].fprop.a.quantizer.format for name in run.model.sites][:2] == ["int2", "int7"]
    for share in range(2 * KEPT):
        recipes.at(0, 0, [Influence(layers={layer: {"fprop.a.quantizer.scale.eps": float(share)}})])
    assert len(recipes._made) == KEPT
    assert prepared("fp32").recipes.at(3, 3).key == ""


@pytest.mark.parametrize("recipe", [EVERYTHING, "double_rounding_hasb"], ids=["everything", "passes"])
def test_a_restored_model_is_evaluated_as_the_loop_did(recipe, tiny, tmp_path) -> None:
    run = lpref.train({**tiny, "recipe": recipe, "backend": "cpu"}, out=tmp_path / "run", quiet=True)
    assert evaluate_run(run.path)["loss"] == run.last("valid.loss")
