"""Gates in a model: the official gate's choices and gradients, the mixture of candidates, the price, and the run that one candidate is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lpref.accel import backend
from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.autodiff.check import check_grads
from lpref.conformance.proves import proves
from lpref.models import build
from lpref.models.gating import Gating, bit_cost, candidate, choice, scores
from lpref.models.residual import summed
from lpref.ref.errors import SpecError
from lpref.ref.recipes import Context
from lpref.ref.recipes.gate import Gate
from lpref.specs import recipe
from lpref.specs.loader import RECIPE, load

EXACT = backend("reference", "exact")
OFFICIAL = json.loads((Path(__file__).parents[1] / "ref" / "recipes" / "data" / "fractrain_gate.json").read_text(encoding="utf-8"))
GPT = {"kind": "gpt", "vocab": 32, "context": 8, "layers": 2, "d_model": 16, "heads": 2, "ffn": 24, "init_std": 0.3}
CNN = {"kind": "cnn", "image": 8, "widths": [8, 16], "classes": 10}
ROUNDED = 1e-12
"""Two float64 computations of the gate: below 1000 roundings of values below 9 each."""


def array(one: dict) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(one["f64"])).reshape(one["shape"])


def bare(params: dict, gate: Gate) -> SimpleNamespace:
    """As much of a model as a gate needs, in float64."""
    tensors = {name: Tensor(np.array(a), EXACT, requires_grad=True) for name, a in params.items()}
    return SimpleNamespace(params=tensors, backend=EXACT, array=lambda x: x, gating=Gating(gate, [], []))


def official() -> SimpleNamespace:
    return bare({name: array(one) for name, one in OFFICIAL["params"].items()}, Gate(others=({},) * 4, features=6, embedding=4, hidden=4))


def images(rng: np.random.Generator, n: int = 6) -> SimpleNamespace:
    return SimpleNamespace(inputs=rng.standard_normal((n, 1, 8, 8)).astype(np.float32), targets=rng.integers(0, 10, n))


def tokens(rng: np.random.Generator, n: int = 6) -> SimpleNamespace:
    ids = rng.integers(0, 32, (n, 9))
    return SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:])


def batch(spec: dict) -> SimpleNamespace:
    return (tokens if spec["kind"] == "gpt" else images)(np.random.default_rng(0))


@proves("recipe:fractrain_dfq", "official")
def test_choices_and_gradients_are_the_official_gates() -> None:
    model, loss, inputs = official(), None, []
    for block, (one, dm, mask) in enumerate(zip(OFFICIAL["x"], OFFICIAL["dm"], OFFICIAL["masks"], strict=True)):
        inputs.append(Tensor(np.array(array(one)), EXACT, requires_grad=True))
        m = choice(model, f"h.{block}", F.mean(inputs[-1].reshape(*inputs[-1].shape[:2], -1), axis=2))
        np.testing.assert_array_equal(m.data, np.rint(array(mask)))  # there hard - p + p, in that order
        term = F.sum(m * Tensor(np.array(array(dm)), EXACT))
        loss = term if loss is None else loss + term
    loss.backward()
    for name, one in OFFICIAL["grads"].items():
        np.testing.assert_allclose(model.params[name].grad, array(one), rtol=0, atol=ROUNDED, err_msg=name)
    for x, one in zip(inputs, OFFICIAL["dx"], strict=True):
        np.testing.assert_allclose(x.grad, array(one), rtol=0, atol=ROUNDED)


def test_scores_are_the_equations() -> None:
    model, rng = official(), np.random.default_rng(1)
    w = {name.removeprefix("gate."): t.data for name, t in model.params.items()}
    sigma = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    h = c = np.zeros((3, 4))
    for block, channels in enumerate((4, 4, 6)):
        pooled = rng.standard_normal((3, channels))
        inner = np.maximum(pooled @ w[f"h.{block}.features.weight"].T + w[f"h.{block}.features.bias"], 0)
        u = inner @ w[f"h.{block}.embedding.weight"].T + w[f"h.{block}.embedding.bias"]
        i, f, g, o = np.split(u @ w["lstm.weight_ih"].T + w["lstm.bias_ih"] + h @ w["lstm.weight_hh"].T + w["lstm.bias_hh"], 4, axis=1)
        c = sigma(f) * c + sigma(i) * np.tanh(g)
        h = sigma(o) * np.tanh(c)
        found = scores(model, f"h.{block}", Tensor(pooled, EXACT)).data
        np.testing.assert_allclose(found, h @ w["proj.weight"].T + w["proj.bias"], rtol=0, atol=ROUNDED)


def test_the_soft_path_against_differences() -> None:
    """p as a function of the input and of every parameter, through three blocks; the choice hands its gradient to p unchanged."""
    model, rng = official(), np.random.default_rng(2)
    names, pooled = list(model.params), [rng.standard_normal((4, n)) for n in (4, 4, 6)]

    def soft(*args: Tensor) -> Tensor:
        gating = Gating(model.gating.gate, [], [])
        here = SimpleNamespace(params=dict(zip(names, args[3:], strict=True)), backend=EXACT, array=lambda x: x, gating=gating)
        return F.stack([F.softmax(scores(here, f"h.{block}", x)) for block, x in enumerate(args[:3])])

    assert check_grads(soft, [*(Tensor(p, EXACT) for p in pooled), *model.params.values()], coordinates=6) <= 1
    g = rng.standard_normal((4, 5))
    grads = []
    for of in (choice, lambda *args: F.softmax(scores(*args))):
        x, here = Tensor(pooled[0], EXACT, requires_grad=True), official()
        of(here, "h.0", x).backward(g)
        grads.append([x.grad, *(here.params[n].grad for n in ("gate.lstm.weight_ih", "gate.proj.weight"))])
    assert all(np.array_equal(a, b) for a, b in zip(*grads, strict=True))


def test_the_first_of_equals_is_chosen() -> None:
    model = official()
    for name in ("gate.proj.weight", "gate.proj.bias"):
        model.params[name] = Tensor(np.zeros_like(model.params[name].data), EXACT)
    assert choice(model, "h.0", Tensor(np.ones((2, 4)), EXACT)).data.tolist() == [[1, 0, 0, 0, 0]] * 2


@pytest.mark.parametrize("spec", [GPT, CNN], ids=["gpt", "cnn"])
def test_every_sample_is_as_its_candidate_makes_it(spec: dict) -> None:
    """Block by block: the rows of a sample are those that the candidate it chose makes of the whole batch."""
    made, ctx, data = build(spec, recipe("fractrain_dfq"), 3, EXACT), Context(seed=1), batch(spec)
    params = {n: a * np.float32(20) if n.startswith("gate.") else a for n, a in made.arrays().items()}
    made.set_arrays(params)
    seen, one = [], made.one_block

    def spy(*args):
        seen.append((args, one(*args)))
        return seen[-1][1]

    made.one_block = spy
    made.logits(data.inputs, ctx)
    masks = [m.data for m in made.gating.masks]
    assert len(seen) == 5 * len(masks)
    assert sum((mask.sum(axis=0) > 0).sum() for mask in masks) > len(masks)  # more than one candidate a block, somewhere
    for block in range(len(masks) - 1):
        x = seen[5 * (block + 1)][0][2 if spec["kind"] == "cnn" else 1].data  # the next block's input
        for sample, k in enumerate(masks[block].argmax(axis=1)):
            got, want = (v.reshape(masks[block].shape[0], -1)[sample] for v in (x, summed(seen[5 * block + k][1]).data))
            np.testing.assert_array_equal(got, want)
    for k in range(5):  # and a candidate's layers are its own
        again = candidate(made, k, ctx, lambda at, k=k: summed(one(*(at if isinstance(a, Context) else a for a in seen[k][0]))))
        np.testing.assert_array_equal(again.data, summed(seen[k][1]).data)


@pytest.mark.parametrize("spec", [GPT, CNN], ids=["gpt", "cnn"])
def test_one_candidate_is_the_recipe_without_a_gate(spec: dict) -> None:
    """Loss and gradients bit for bit, stochastic rounding included; the gate's gradient is 0."""
    found = {}
    for name, gate in (("gated", {"others": []}), ("plain", None)):
        made = build(spec, load({"base": "fractrain_dfq", "gate": gate, "loss_hooks": []}, RECIPE), 3, EXACT)
        loss = made.training_loss(batch(spec), Context(seed=1, step=2))
        loss.backward()
        found[name] = {"loss": np.asarray(loss.data), **made.grads()}
    for name, g in found["plain"].items():
        np.testing.assert_array_equal(found["gated"].pop(name), g, name)
    assert all(name.startswith("gate.") and not g.any() for name, g in found["gated"].items())


def test_equal_candidates_make_one_forward_pass_and_draw_words_of_their_own() -> None:
    logits, grads = [], []
    for others in ([], [{}], [{}, {}]):
        made = build(GPT, load({"base": "fractrain_dfq", "gate": {"others": others}, "loss_hooks": []}, RECIPE), 3, EXACT)
        loss = made.training_loss(batch(GPT), Context(seed=1, step=2))
        loss.backward()
        logits.append(loss.item())
        grads.append(made.grads()["h.0.mlp.up.weight"])
    assert logits[0] == logits[1] == logits[2]
    assert (grads[0] != grads[1]).any()


def test_the_price_in_the_loss() -> None:
    """weight reg C: of the chosen candidates, from their bits; reg is -1 below the target, +1 above."""
    found = {}
    for target in (0.0, 3.0, 100.0):
        hooks = [{"kind": "bit_cost", "parameters": {"weight": 0.5, "target": target}}]
        made = build(GPT, load({"base": "fractrain_dfq", "loss_hooks": hooks}, RECIPE), 3, EXACT)
        plain = made.loss(batch(GPT), Context(seed=1)).item()
        bits = np.array([(3, 4, 6), (4, 4, 6), (4, 4, 8), (6, 4, 8), (6, 4, 12)], float)
        price = (bits[:, 0] * bits[:, 1] + bits[:, 1] * bits[:, 2] + bits[:, 0] * bits[:, 2]) / 1024
        masks = [m.data for m in made.gating.masks]
        mean = sum((m @ price).mean() for m in masks)
        reg = 1.0 if 100 * mean / (3 * len(masks)) >= target else -1.0
        assert bit_cost(made, target, 0.0).item() == pytest.approx(reg * mean, abs=2.0**-20)
        loss = made.training_loss(batch(GPT), Context(seed=1))
        assert loss.item() == pytest.approx(plain + 0.5 * reg * mean, abs=2.0**-20)
        loss.backward()
        found[target] = made.grads()
    assert (found[0.0]["gate.proj.bias"] != found[100.0]["gate.proj.bias"]).any()


def test_the_price_lowers_the_bits() -> None:
    """Gradient descent on the price alone: what the gate picks becomes cheaper, with the other sign dearer."""
    percents = {}
    for target in (0.0, 100.0):
        hooks = [{"kind": "bit_cost", "parameters": {"target": target}}]
        made = build(GPT, load({"base": "fractrain_dfq", "loss_hooks": hooks}, RECIPE), 3, EXACT)
        for _ in range(20):
            made.loss(batch(GPT), Context(seed=1))
            (bit_cost(made, target, 0.0) * 1.0).backward()
            made.set_arrays({n: a - (np.float32(40) * g if n.startswith("gate.") else 0) for (n, a), g in
                             zip(made.arrays().items(), made.grads().values(), strict=True)})  # fmt: skip
        made.loss(batch(GPT), Context(seed=1))
        percents[target] = 100 * abs(bit_cost(made, target, 0.0).item()) / (3 * GPT["layers"])
    assert percents[0.0] == pytest.approx(100 * 54 / 3 / 1024, abs=1e-5)
    assert percents[100.0] == pytest.approx(100 * 144 / 3 / 1024, abs=1e-5)


def test_a_model_without_residual_blocks_is_refused() -> None:
    with pytest.raises(SpecError, match="the mlp model does not have"):
        build({"kind": "mlp"}, recipe("fractrain_dfq"))
