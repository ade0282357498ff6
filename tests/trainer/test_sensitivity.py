"""GACT's bits by sensitivity: the published allocation, the probes against gradients made by hand, and runs that are taken up again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lpref.conformance.proves import proves
from lpref.ref.analysis.bit_budget import descent
from lpref.ref.errors import SpecError
from lpref.ref.optim.clip import global_norm
from lpref.ref.recipes.change import changed as change
from lpref.specs import recipe
from lpref.trainer import setup
from lpref.trainer.api import resume_run, train
from lpref.trainer.checkpoint import newest
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.loop import start_state
from lpref.trainer.passes import step_of
from lpref.trainer.probing import probed
from lpref.trainer.spec import load_spec
from lpref.trainer.step import gradients

OFFICIAL = json.loads((Path(__file__).parents[1] / "ref/recipes/data/gact_bits.json").read_text(encoding="utf-8"))
DATA = load_data("stdlib")
SMALL = {
    "model.layers": 1, "model.context": 16, "data.valid_windows": 2, "train.batch": 2, "train.micro_batches": 1, "train.steps": 4, "backend": "cpu",
    "numerics": "exact", "train.stats_every": 0, "train.sample": 0,
}  # fmt: skip
THREE = {"controllers.0.parameters.bits": 3.0}


@pytest.mark.parametrize("case", OFFICIAL["cases"])
@proves("recipe:gact_auto", "official")
def test_descent_is_the_published_allocation(case: dict) -> None:
    c = [float.fromhex(text) for text in case["c"]]
    assert descent(c, case["sizes"], case["bits"] * sum(case["sizes"])) == case["found"]


def test_descent_under_a_budget_that_is_too_small() -> None:
    with pytest.raises(SpecError, match="the narrowest widths need 20 bits, the budget has 15"):
        descent([1.0, 1.0], [10, 10], 15)


def prepared(**more):
    return setup.prepare(load_spec("train/ci_gpt", {**SMALL, "recipe": {"base": "gact_auto", "set": THREE}, **more}), data=DATA)


def batches_of(made, step: int) -> list:
    return [train_batch(DATA, made.length, 2, 1, step, 0, 2)]


@proves("recipe:gact_auto", "oracle")
def test_sensitivities_are_distances_of_gradients() -> None:
    """c of a layer's input and of a norm's, with the recipe changed by hand; the allocation keeps the average."""
    made = prepared()
    state, batches = start_state(made), batches_of(made, 0)
    after = probed(made, state, batches)
    found = after.controllers["0.sensitivity"]
    layer, norm = "h.0.mlp.up/save/x", "h.0.norm1/saved"
    assert {layer, norm, "h.0.attn.heads/saved"} <= set(found["sensitivity"])

    def gradient(key: str, bits: int, fresh: str = ""):
        model = made.model
        made.bind(state)
        site, changed = key.partition("/")[0], dict(model.recipes)
        if key == layer:
            changed[site] = change(changed[site], {"save.x.quantizer.format": f"uint{bits}"})
            model.use(made.recipe, changed)
        else:
            model.use(made.recipe, changed, {site: change(model.operations["norm"], {"saved.format": f"uint{bits}"})})
        context = made.context_of(state, collect=False)
        return gradients(model, batches, lambda micro: replace(context(micro), fresh=fresh), 1.0)[1]

    for key in (layer, norm):
        g0, g1, g2 = gradient(key, 1), gradient(key, 1, key), gradient(key, 8)
        distance = [float(global_norm([a[n] - b[n] for n in a])) ** 2 for a, b in ((g0, g1), (g0, g2), (g1, g2))]
        assert found["sensitivity"][key] == max(distance[0], 2 * distance[1], 2 * distance[2])
        assert distance[0] > 0
    made.bind(after)
    sizes: dict[str, int] = {}
    context = made.context_of(after, collect=False)
    gradients(made.model, batches, lambda micro: replace(context(micro), sizes=sizes), 1.0)
    bits = {name.partition(":")[2]: b for name, b in found["bits"].items()}
    assert set(bits) == set(sizes)
    assert sum(bits[key] * n for key, n in sizes.items()) <= 3 * sum(sizes.values())
    assert len(set(bits.values())) > 1
    assert made.model.recipes["h.0.mlp.up"].save["x"].quantizer.format == f"uint{bits[layer]}"
    assert made.model.under("norm", "h.0.norm1", context(0)).recipe.saved.format == f"uint{bits[norm]}"


def test_the_loss_of_a_step_is_that_of_fp32() -> None:
    made, plain = prepared(), setup.prepare(load_spec("train/ci_gpt", {**SMALL, "recipe": "fp32"}), data=DATA)
    results = [step_of(run, start_state(run), batches_of(run, 0), False)[1] for run in (made, plain)]
    assert results[0].loss == results[1].loss


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    spec = load_spec("train/ci_gpt", {**SMALL, "recipe": {"base": "gact_auto", "set": {"controllers.0.parameters.every": 3}}})
    spec = replace(spec, train=replace(spec.train, checkpoint_every=2))
    whole = train(spec, out=tmp_path / "whole", quiet=True, data=DATA)
    last = sorted((whole.path / "checkpoints").iterdir())[-1]
    want = newest(whole.path / "checkpoints")[0]
    for file in last.iterdir():
        file.unlink()
    last.rmdir()
    resume_run(whole.path, quiet=True, data=DATA)
    got = newest(whole.path / "checkpoints")[0]
    assert want is not None
    assert got is not None
    assert got.step == want.step
    for name, a in want.params.items():
        np.testing.assert_array_equal(got.params[name], a)
    assert got.states["controllers"] == want.states["controllers"]


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"bits": 0.5}, "bits: an average of 0.5 is below the narrowest width, 1"),
        ({"widths": [3]}, "widths: 3 is none of 1, 2, 4, 8"),
        ({"every": 0}, "every: 0 is not a positive number of steps"),
    ],
)
def test_bad_parameters(parameters: dict, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        recipe({"base": "gact", "controllers": [{"kind": "sensitivity", "parameters": parameters}]})
    assert text in str(caught.value)
    with pytest.raises(SpecError, match="nothing is saved by a quantizer of its own"):
        recipe({"base": "fp32", "controllers": [{"kind": "sensitivity"}]})
