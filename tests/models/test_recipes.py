"""Models under recipes: binding, exempt layers, learned steps, and that a recipe reaches exactly the linear sites."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from lpref.accel import backend
from lpref.models import build
from lpref.ref.backend import Backend
from lpref.ref.errors import SpecError
from lpref.ref.optim import OptimContext, optimizer
from lpref.ref.recipes import Context, Rule
from lpref.specs import recipe

GPT = {"kind": "gpt", "vocab": 32, "context": 16, "layers": 2, "d_model": 32, "heads": 2, "ffn": 32}
CNN = {"kind": "cnn", "image": 8, "widths": [16, 32], "classes": 10}
RUNNABLE = ["fp32", "bf16", "fp16_loss_scaled", "fp8_current", "fp8_block", "mxfp8", "mxfp4", "nvfp4", "int8_switchback", "bitnet_b158", "lsq"]


def tokens(n: int = 2) -> SimpleNamespace:
    ids = np.random.default_rng(0).integers(0, 32, (n, 17))
    return SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:])


def images(n: int = 4) -> SimpleNamespace:
    rng = np.random.default_rng(0)
    return SimpleNamespace(inputs=rng.standard_normal((n, 1, 8, 8)).astype(np.float32), targets=rng.integers(0, 10, n))


def gradients(spec: dict, name: str | None, ops: Backend, step: int = 0) -> tuple[float, dict[str, np.ndarray]]:
    model = build(spec, None if name is None else recipe(name), 1, ops)
    batch = tokens() if spec["kind"] == "gpt" else images()
    if name is not None:
        model.loss(batch, Context(seed=1, init=True))
    loss = model.loss(batch, Context(seed=1, step=step))
    loss.backward()
    return float(loss), model.grads()


@pytest.mark.parametrize("spec", [GPT, CNN], ids=["gpt", "cnn"])
def test_fp32_is_no_recipe_bit_for_bit(spec: dict) -> None:
    exact = backend("reference", numerics="exact")
    plain, under = gradients(spec, None, exact), gradients(spec, "fp32", exact)
    assert plain[0] == under[0]
    assert all(np.array_equal(plain[1][name], under[1][name]) for name in plain[1])


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_recipe_gives_finite_gradients_that_point_downhill(name: str, ops: Backend) -> None:
    """A quantized gradient need not be close to the float32 one; its scalar product with it must be positive (it is a descent direction)."""
    loss, grads = gradients(GPT, name, ops)
    plain_loss, plain = gradients(GPT, None, ops)
    assert np.isfinite(loss)
    assert abs(loss - plain_loss) < 0.5
    product = sum(float((grads[key].astype(np.float64) * plain[key]).sum()) for key in plain)
    assert product > 0
    changed = [key for key in plain if not np.array_equal(grads[key], plain[key])]
    assert bool(changed) == (name != "fp32")


def test_same_step_same_words_other_step_other_words(ops: Backend) -> None:
    one, again, later = (gradients(GPT, "nvfp4", ops, step) for step in (3, 3, 4))
    key = "h.0.mlp.up.weight"
    assert np.array_equal(one[1][key], again[1][key])
    assert not np.array_equal(one[1][key], later[1][key])  # stochastic rounding of dY
    assert one[0] == later[0]  # the forward pass rounds to nearest


def test_exempt_and_quantized_layers_are_those_of_the_rules(ops: Backend) -> None:
    model = build(GPT, recipe("nvfp4"), 0, ops)
    formats = {name: getattr(r.fprop.a.quantizer, "format", None) for name, r in model.recipes.items()}
    assert [name for name, f in formats.items() if f == "e2m1"] == [f"h.0.{site}" for site in ("attn.qkv", "attn.out", "mlp.up", "mlp.down")]


def test_a_rule_that_matches_no_layer_is_an_error(ops: Backend) -> None:
    lost = dataclasses.replace(recipe("bf16"), rules=(Rule(role=("router",)),))
    with pytest.raises(SpecError, match=r"rules\.0: role router matches no layer"):
        build(GPT, lost, 0, ops)


def test_blocks_that_do_not_divide_a_layer_are_an_error(ops: Backend) -> None:
    with pytest.raises(SpecError, match=r"linear\.fprop\.a\.quantizer\.tail: 'error', but K of the layer h\.0\.attn\.qkv is 48"):
        build({**GPT, "d_model": 48}, recipe({"base": "mxfp8", "set": {f"linear.fprop.{side}.quantizer.tail": "error" for side in "ab"}}), 0, ops)


@pytest.mark.parametrize("spec", [GPT, CNN], ids=["gpt", "cnn"])
def test_learned_steps(spec: dict, ops: Backend) -> None:
    model = build(spec, recipe("lsq"), 1, ops)
    batch = tokens() if spec["kind"] == "gpt" else images()
    before = set(model.params)
    model.loss(batch, Context(seed=1, init=True))
    steps = set(model.params) - before
    assert steps == {f"{site.name}.{key}" for site in model.linear_sites() for key in ("x_step", "w_step")}
    assert all(model.roles[name] == "quantizer_step" for name in steps)
    assert all(model.params[name].data > 0 for name in steps)
    made = model.arrays()
    model.loss(batch, Context(seed=1, init=True))
    assert all(model.params[name].data is made[name] for name in steps)  # made once
    model.loss(batch, Context(seed=1)).backward()
    assert all(model.grads()[name].shape == () and model.grads()[name] != 0 for name in steps)
    opt = optimizer("adamw", roles=model.roles)
    new, _ = opt.update(model.arrays(), model.grads(), opt.init(model.arrays()), OptimContext(0, 0, lr=1e-3))
    assert all(new[name] != made[name] for name in steps)
    fresh = build(spec, recipe("lsq"), 1, ops)  # a checkpoint brings its steps along
    fresh.set_arrays(new)
    assert fresh.learned == model.learned
    model.set_arrays(new)
    assert float(fresh.loss(batch, Context(seed=1))) == float(model.loss(batch, Context(seed=1)))


def test_observations_carry_the_sites(ops: Backend) -> None:
    model, ctx = build(GPT, recipe("nvfp4"), 0, ops), Context(seed=1, collect=True)
    model.loss(tokens(), ctx).backward()
    sites = {key.split("/")[0] for key in ctx.observed}
    assert sites <= set(model.sites)
    assert "h.0.attn.qkv" in sites
    assert "head" not in {key.split("/")[0] for key, seen in ctx.observed.items() if seen.get("format") == "e2m1"}


@pytest.mark.parametrize("name", ["nvfp4", "mxfp8"])
def test_training_reduces_the_loss(name: str, ops: Backend) -> None:
    """Twelve updates on one batch: the model can memorise it."""
    model, batch = build(GPT, recipe(name), 1, ops), tokens(4)
    opt = optimizer("adamw", lr=1e-2, betas=(0.9, 0.95), roles=model.roles)
    state, losses = opt.init(model.arrays()), []
    for step in range(12):
        loss = model.loss(batch, Context(seed=1, step=step, update=step))
        loss.backward()
        losses.append(float(loss))
        params, state = opt.update(model.arrays(), model.grads(), state, OptimContext(step, step, 1))
        model.set_arrays(params)
    assert losses[-1] < 0.75 * losses[0]
