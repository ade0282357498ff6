"""Groups of parameters, loss hooks and scale freezing in training steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lpref.conformance.proves import proves
from lpref.ref.errors import SpecError
from lpref.ref.optim import OptimContext, optimizer
from lpref.ref.recipes import Recipe
from lpref.ref.recipes.controllers import Clock, Seen
from lpref.ref.recipes.controllers.disorder import Disorder
from lpref.ref.recipes.groups import Group, Grouped, rates
from lpref.ref.recipes.phases import LossHook
from lpref.specs import recipe
from lpref.trainer import setup
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.loop import start_state
from lpref.trainer.passes import step_of
from lpref.trainer.spec import load_spec

DATA = load_data("stdlib")
SMALL = {
    "model.layers": 1, "model.context": 16, "data.valid_windows": 2, "train.batch": 2, "train.micro_batches": 1, "train.steps": 8, "backend": "cpu",
}  # fmt: skip


def run(recipe_spec, steps: int):
    """(prepared run, state) after `steps` steps."""
    spec = load_spec("train/ci_gpt", {**SMALL, "recipe": recipe_spec})
    made = setup.prepare(spec, data=DATA)
    state, losses = start_state(made), []
    for _ in range(steps):
        state, result = step_of(made, state, [train_batch(DATA, made.length, 2, 1, state.step, 0, 2)], False)
        losses.append(result.loss)
    return made, state, losses


def test_rates_of_an_optimizer() -> None:
    """Each rate is an update of its own; 0 leaves parameter and moments."""
    rule = optimizer("adamw", lr=0.1)
    params = {name: np.ones(3, np.float32) for name in ("a", "b", "c")}
    grads = {name: np.float32([1, -2, 3]) for name in params}
    state, ctx = rule.init(params), OptimContext(step=0, update=0, lr=0.1)
    new, kept = Grouped(rule, {"b": 0.5, "c": 0.0}).update(params, grads, state, ctx)
    for name, lr in (("a", 0.1), ("b", 0.05)):
        alone, _ = rule.update({name: params[name]}, {name: grads[name]}, state, OptimContext(step=0, update=0, lr=lr))
        np.testing.assert_array_equal(new[name], alone[name])
    np.testing.assert_array_equal(new["c"], params["c"])
    assert set(kept) == set(state)
    assert all((kept[key] == state[key]).all() for key in state if key.startswith("c/"))
    with pytest.raises(SpecError, match="rate"):
        Group(rate=-1.0)
    assert rates([Group("x*", rate=2.0), Group(role=("norm",), rate=0.0)], {"x": "norm", "y": "norm", "z": "fc"}) == {"x": 2.0, "y": 0.0}


def test_efficientqat_trains_scales_alone_in_its_second_half() -> None:
    """No integer changes there: weights and zero points stand still, scales move."""
    made, state, _ = run("efficientqat", 4)
    before = {name: a.copy() for name, a in made.model.arrays().items()}
    for _ in range(2):
        state, _ = step_of(made, state, [train_batch(DATA, made.length, 2, 1, state.step, 0, 2)], False)
    after = made.model.arrays()
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert moved == {name for name in before if name.endswith(".w_step")}


def test_gaqat_that_freezes_nothing_is_lsq() -> None:
    frozen = [{"kind": "disorder", "parameters": {"every": 2, "threshold": 0.0}}]
    one, other = run({"base": "lsq", "controllers": frozen}, 5)[0].model.arrays(), run("lsq", 5)[0].model.arrays()
    for name in other:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_frozen_scale_stands_still_for_a_window() -> None:
    frozen = [{"kind": "disorder", "parameters": {"every": 3, "threshold": 1.0}}]
    made, state, _ = run({"base": "lsq", "controllers": frozen}, 3)
    names = state.controllers["0.disorder"]["frozen"]
    assert names
    assert all(made.model.roles[name] == "quantizer_step" for name in names)
    before = {name: made.model.arrays()[name].copy() for name in names}
    state, _ = step_of(made, state, [train_batch(DATA, made.length, 2, 1, state.step, 0, 2)], False)
    for name in names:
        np.testing.assert_array_equal(made.model.arrays()[name], before[name])


def test_gaqat_is_the_task_and_the_displaced_gradient() -> None:
    """g(w) + g(w + (rho / |g| - alpha) g), g over all parameters but steps; scales that are frozen get the second alone."""
    from lpref.ref.optim.clip import global_norm
    from lpref.trainer.step import gradients

    spec = load_spec("train/ci_gpt", {**SMALL, "recipe": "gaqat", "numerics": "exact"})
    made = setup.prepare(spec, data=DATA)
    state, model = start_state(made), made.model
    batch = [train_batch(DATA, made.length, 2, 1, 0, 0, 2)]
    steps = [name for name, role in model.roles.items() if role == "quantizer_step"]
    made.bind(state, pass_=0)
    _, task, _ = gradients(model, batch, made.context_of(state, collect=False, pass_=0), 1.0)
    weights, kept = model.arrays(), [g for name, g in task.items() if name not in steps]
    factor = np.float32(0.05 / float(global_norm(kept)) - 0.001)
    made.bind(state, pass_=1)
    model.set_arrays({name: a if name in steps else a + task[name] * factor for name, a in weights.items()})
    _, smooth, _ = gradients(model, batch, made.context_of(state, collect=False, pass_=1), 1.0)
    model.set_arrays(weights)
    seen = {}

    class Watching:
        """An optimizer that shows its gradients and changes nothing."""

        rule = made.rules.optimizer.rule

        def update(self, params, grads, state, *args):
            seen.update(grads)
            return dict(params), dict(state)

    watched = replace(made, rules=replace(made.rules, optimizer=Watching(), clip=None))
    frozen = steps[::2]
    held = replace(state, controllers={"0.disorder": {**state.controllers["0.disorder"], "frozen": frozen}})
    after, _ = step_of(watched, held, batch, False)
    assert set(seen) == set(task)
    for name, g in task.items():
        np.testing.assert_array_equal(seen[name], smooth[name] if name in frozen else g + smooth[name])
    signs = after.controllers["0.disorder"]["signs"]
    assert all((signs[name] == (task[name] < 0)).all() for name in steps)


@pytest.mark.parametrize(
    ("passes", "text"),
    [
        ([{"name": "a", "displaced": {"of": "b"}}, {"name": "b"}], "passes.0.displaced.of: no earlier pass is called 'b'"),
        ([{"name": "a", "update": "each"}, {"name": "b", "update": "each", "displaced": {"of": "a"}}], "passes.1.update: a displaced pass"),
        ([{"name": "a"}, {"name": "b", "displaced": {"of": "a", "rho": -1.0}}], "rho: -1.0 is not a number >= 0"),
    ],
)
def test_bad_displacements(passes: list, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        recipe({"base": "lsq", "passes": passes})
    assert text in str(caught.value)


def test_disorder_is_the_share_of_sign_changes() -> None:
    from lpref.accel import backend

    kind, ops = Disorder(every=5, threshold=0.5), backend("cpu", "exact")
    state = kind.start({}, ops)
    for one, other in ((1, 1), (2, -1), (1, 2), (3, -2), (1, 1)):  # 0 and 4 of 4 changes
        seen = Seen(Clock(), 0.0, ops=ops, scales={"calm": np.float32(one), "wild": np.float32(other)})
        state, _ = kind.after(state, seen)
    assert state["frozen"] == ["calm"]
    assert kind.after(state, Seen(Clock(), 0.0, ops=ops, scales={"calm": np.float32(1)}))[0]["compared"] == {}
    with pytest.raises(SpecError, match="no scale is learned"):
        recipe({"base": "fp32", "controllers": [{"kind": "disorder"}]})


def test_cakld_at_its_ends_is_the_two_divergences() -> None:
    from lpref.accel import backend
    from lpref.autodiff import Tensor
    from lpref.models.hooks import cakld, soft

    ops, rng = backend("cpu", "exact"), np.random.default_rng(0)
    t, s = (rng.normal(size=(4, 7)).astype(np.float32) for _ in range(2))
    p, q = (np.exp(z.astype(np.float64)) / np.exp(z.astype(np.float64)).sum(-1, keepdims=True) for z in (t, s))
    forth, back = (p * np.log(p / q)).sum(-1).mean(), (q * np.log(q / p)).sum(-1).mean()
    teacher, student = Tensor(t, ops), Tensor(s, ops, requires_grad=True)
    bound = 64 * 8 * 2.0**-24
    assert abs(float(cakld(teacher, student, 0.0).item()) - forth) <= bound
    assert abs(float(cakld(teacher, student, 1.0).item()) - back) <= bound
    assert abs(float(soft(teacher, student).item()) - (forth - (p * np.log(p)).sum(-1).mean())) <= bound


def test_self_distillation_of_a_float_model_has_no_gradient() -> None:
    """Without quantizers the teacher is the student: the divergence is 0, and its loss is not the labels'."""
    hooks = [{"kind": "distill", "parameters": {"loss": "cakld"}}]
    spec = load_spec("train/ci_gpt", {**SMALL, "recipe": {"base": "fp32", "loss_hooks": hooks}})
    made = setup.prepare(spec, data=DATA)
    batch = train_batch(DATA, made.length, 2, 1, 0, 0, 2)
    loss = made.model.training_loss(batch, made.context_of(start_state(made), collect=False)(0))
    assert abs(float(loss.item())) <= 1e-6
    assert float(made.model.loss(batch, made.context_of(start_state(made), collect=False)(0)).item()) > 1


def test_the_first_weights_teach() -> None:
    hooks = [{"kind": "distill", "parameters": {"loss": "soft", "teacher": "first", "hard": 1.0}}]
    made, _, losses = run({"base": "lsq", "loss_hooks": hooks}, 3)
    assert all(np.isfinite(losses))
    assert set(made.model.first) == set(made.model.params)
    assert any((made.model.first[name] != a).any() for name, a in made.model.arrays().items())


def test_the_weight_term_pulls_towards_the_grid() -> None:
    """Its gradient is 2 lambda (W - Q(W)) / n, through no quantizer."""
    from lpref.models.hooks import weight_error

    made, state, _ = run({"base": "apiq_sapr", "loss_hooks": [{"kind": "weight_error"}], "controllers": []}, 0)
    ctx = made.context_of(state, collect=False)(0)
    model = made.model
    weight_error(model, ctx).backward()
    site = next(name for name, linear in model.recipes.items() if linear.fprop.b.quantizer is not None)
    w = model.params[f"{site}.weight"]
    error = w.data.astype(np.float64) - model.quantized_weight(site, ctx).data
    np.testing.assert_allclose(w.grad, 2 * error / w.data.size, rtol=2.0**-21, atol=0)


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        (LossHook("distil"), "loss_hooks.0.kind: no hook 'distil'; did you mean 'distill'?"),
        (LossHook("distill", {"loss": "hard"}), "loss_hooks.0.parameters.loss: 'hard' is not one of soft, cakld"),
        (LossHook("distill", {"beta": 2.0}), "loss_hooks.0.parameters.beta: 2.0 is not between 0 and 1"),
        (LossHook("weight_error", {"weight": "much"}), "loss_hooks.0.parameters.weight: expected a number, got 'much'"),
        (LossHook("weight_error", {"lambda": 1.0}), "loss_hooks.0.parameters.lambda: no such parameter; known: weight, saliency"),
    ],
)
def test_bad_hooks_are_refused(hook: LossHook, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        Recipe("r", loss_hooks=(hook,))
    assert text in caught.value.problems


@proves("recipe:niti_integer_loss", "oracle")
def test_the_integer_loss_has_integers_for_a_gradient() -> None:
    """Its value is the cross entropy; the logits' gradient is the integers' of the page, made from int8 logits written out here."""
    from lpref.autodiff import Tensor
    from lpref.ref import random
    from lpref.ref.nn.integer_loss import integer_cross_entropy, shifted

    spec = load_spec("train/ci_gpt", {**SMALL, "recipe": {"base": "fp32", "loss_hooks": [{"kind": "integer_loss"}]}, "numerics": "exact"})
    made = setup.prepare(spec, data=DATA)
    model, batch = made.model, train_batch(DATA, made.length, 2, 1, 0, 0, 2)
    ctx = made.context_of(start_state(made), collect=False)(0)
    seen = {}

    def watched(inputs, ctx):
        seen["z"] = Tensor(type(model).logits(model, inputs, ctx).data, model.backend, requires_grad=True)
        return seen["z"]

    model.logits = watched
    loss = model.training_loss(batch, ctx)
    loss.backward()
    z, targets = seen["z"].data.reshape(-1, seen["z"].shape[-1]), batch.targets.reshape(-1)
    gradient = seen["z"].grad.reshape(z.shape)
    assert float(loss.item()) == float(model.loss(batch, ctx).item())
    e = 0
    while np.abs(z).max() > 2.0**e:
        e += 1
    while np.abs(z).max() <= 2.0 ** (e - 1):
        e -= 1
    v = z.astype(np.float64) / 2.0 ** (e - 7)
    v = np.clip(np.sign(v) * np.floor(np.abs(v) + 0.5), -127, 127).astype(np.int64)
    whole = integer_cross_entropy(v, e - 7, targets)
    assert not whole.sum(axis=1).any()
    words = random.words(spec.train.seed, random.stream("loss/integer/rounding"), 0, 0, z.size).reshape(z.shape)
    want = (shifted(whole, words) / 128.0).astype(np.float32) / np.float32(len(targets))
    np.testing.assert_array_equal(gradient, want)


def test_niti_with_the_integer_loss_trains() -> None:
    _, _, losses = run("niti_integer_loss", 4)
    assert all(np.isfinite(losses))
