"""The jax peer is the same model and the same update: equal losses and gradients from the same weights, AdamW's weights."""

from __future__ import annotations

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from lpref.cli.bench import PEERS  # noqa: E402
from lpref.ref.errors import SpecError  # noqa: E402
from lpref.ref.optim.rules.adamw import adamw_coefficients, adamw_update  # noqa: E402
from lpref.ref.recipes import Context  # noqa: E402
from lpref.trainer.bench import jax_gpt  # noqa: E402
from lpref.trainer.data.batches import Batch  # noqa: E402
from lpref.trainer.setup import prepare  # noqa: E402
from lpref.trainer.spec import load_spec  # noqa: E402

pytestmark = pytest.mark.peer
SMALL = {"model.layers": 2, "model.d_model": 48, "model.heads": 4, "model.ffn": 64, "model.context": 16, "model.vocab": 256, "train.batch": 3}


@pytest.mark.parametrize("name", ["bench/micro", "bench/gpt2_163m"])
def test_the_same_function(name: str) -> None:
    spec = load_spec(name, {**SMALL, "backend": "cpu", "recipe": "fp32", "numerics": "exact", "model.init_std": 0.1})
    run = prepare(spec)
    c = jax_gpt.config_of(spec)
    assert {n: a.shape for n, a in jax_gpt.start(c).items()} == {n: a.shape for n, a in run.model.arrays().items()}
    weights = {n: jax.numpy.asarray(a) for n, a in run.model.arrays().items()}
    tokens = np.random.default_rng(1).integers(0, 256, (3, 17))
    loss = run.model.loss(Batch(tokens[:, :-1], tokens[:, 1:]), Context(seed=1, step=1))
    theirs, gradients = jax.value_and_grad(jax_gpt.loss)(weights, tokens[:, :-1], tokens[:, 1:], c)
    loss.backward()
    # as in test_torch_gpt.py: both are sums of some ten thousand float32 terms in different orders
    assert float(loss.item()) == pytest.approx(float(theirs), rel=1e-5)
    for place, gradient in run.model.grads().items():
        wanted = np.asarray(gradients[place])
        assert np.abs(gradient - wanted).max() <= 1e-4 * np.abs(wanted).max(), place


@pytest.mark.parametrize("shape", [(5, 7), (7,)])
def test_the_same_update(shape: tuple[int, ...]) -> None:
    """AdamW of the third step; the definition in float32 and this one differ by a handful of roundings."""
    draw = np.random.default_rng(2)
    w, g, m = (draw.standard_normal(shape, np.float32) for _ in range(3))
    v = draw.random(shape, np.float32) + np.float32(0.1)
    settings = {"lr": 1e-2, "betas": (0.9, 0.95), "weight_decay": 0.1}
    found = jax_gpt.adamw({"w": w}, {"w": g}, {"w": m}, {"w": v}, jax.numpy.float32(3), settings)
    coefficients = adamw_coefficients(3, 1e-2, 0.9, 0.95, wd=0.1 if w.ndim > 1 else 0.0)
    delta, *moments = adamw_update(w, g, m, v, coefficients)
    for ours, theirs in zip((w + delta, *moments), found, strict=True):
        np.testing.assert_allclose(ours, theirs["w"], rtol=0, atol=16 * 2.0**-24 * np.abs(ours).max())


def test_a_step_on_the_cpu_learns() -> None:
    step = jax_gpt.Step(load_spec("bench/micro", SMALL), place="cpu")
    losses = []
    for _ in range(9):
        step.run()
        losses.append(step.loss())
    assert losses[8] < losses[0]  # the ninth step sees the first tokens again
    assert tuple(jax_gpt.WAYS) == tuple(way for way in PEERS if way.startswith("jax"))


def test_what_it_does_not_have() -> None:
    with pytest.raises(SpecError, match="untied"):
        jax_gpt.config_of(load_spec("bench/micro", {"model.tied": True}))
