"""Routed experts: the forward pass against token-by-token arithmetic, gradients by differences, load balance, upcycling, MoTE's layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lpref.accel import backend
from lpref.conformance.proves import proves
from lpref.models import build
from lpref.models.experts import balance
from lpref.ref.errors import SpecError
from lpref.ref.recipes import Context
from lpref.trainer import setup
from lpref.trainer.api import train
from lpref.trainer.checkpoint import newest
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.loop import start_state
from lpref.trainer.passes import step_of
from lpref.trainer.spec import load_spec

DATA = load_data("stdlib")
MODEL = {"kind": "gpt", "layers": 1, "d_model": 16, "heads": 2, "ffn": 24, "context": 8, "experts": 3, "init_std": 0.3}
SMALL = {
    "model.layers": 2, "model.context": 16, "data.valid_windows": 2, "train.batch": 2, "train.micro_batches": 1, "train.steps": 4, "backend": "cpu",
    "numerics": "exact", "train.stats_every": 0, "train.sample": 0,
}  # fmt: skip


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def test_a_token_goes_through_its_expert() -> None:
    """mlp(h) = shared(h) + p_e expert_e(h) in float64, token by token, up to the rounding of float32."""
    model = build(MODEL, None, 0, backend("reference", "exact"))
    from lpref.autodiff import Tensor

    h = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    y = model.feed("h.0.mlp", Tensor(h, model.backend), Context()).data
    w = {name: a.astype(np.float64) for name, a in model.arrays().items()}

    def mlp(name: str, x: np.ndarray) -> np.ndarray:
        up = w[f"{name}.up.weight"] @ x
        return w[f"{name}.down.weight"] @ (silu(up[:24]) * up[24:])

    chosen = []
    for x, got in zip(h.astype(np.float64), y, strict=True):
        z = np.exp(w["h.0.mlp.router.weight"] @ x)
        p, e = z / z.sum(), int(np.argmax(z))
        chosen.append(e)
        np.testing.assert_allclose(got, mlp("h.0.mlp.shared", x) + p[e] * mlp(f"h.0.mlp.expert.{e}", x), rtol=0, atol=2.0**-17)
    assert len(set(chosen)) == 3
    (p, tokens), = model.routes
    assert tokens.tolist() == np.bincount(chosen, minlength=3).tolist()
    want = 3 * (tokens / 20 * p.data.astype(np.float64).mean(axis=0)).sum()
    assert abs(float(balance(model).item()) - want) < 1e-6


def test_only_experts_with_tokens_get_a_gradient() -> None:
    """The router's gradient by differences of the loss, where no choice changes."""
    model = build({**MODEL, "experts": 8}, None, 0, backend("reference", "exact"))
    ids = np.random.default_rng(1).integers(0, 256, (1, 4))

    class Batch:
        inputs, targets = ids, np.roll(ids, 1)

    loss = model.loss(Batch, Context())
    loss.backward()
    (_, tokens), = model.routes
    for e, n in enumerate(tokens):
        grad = model.params[f"h.0.mlp.expert.{e}.up.weight"].grad
        assert (grad is not None and np.any(grad)) == bool(n)
    weights, g = model.arrays(), model.params["h.0.mlp.router.weight"].grad.copy()
    step = 2.0**-7 * g / np.abs(g).max()
    values = []
    for sign in (1, -1):
        model.set_arrays({**weights, "h.0.mlp.router.weight": weights["h.0.mlp.router.weight"] + np.float32(sign) * step})
        values.append(float(model.loss(Batch, Context()).item()))
        assert (model.routes[0][1] == tokens).all()
    want = float((g.astype(np.float64) * step).sum())
    assert abs((values[0] - values[1]) / 2 - want) < 0.02 * want


@proves("recipe:mote", "oracle")
def test_mote_upcycles_a_dense_run(tmp_path: Path) -> None:
    """Experts begin as its MLP; only they are ternary; the shared one does not move, those with tokens do."""
    dense = train(load_spec("train/ci_gpt", {**SMALL, "recipe": "fp32"}), out=tmp_path / "dense", quiet=True, data=DATA)
    spec = load_spec("train/ci_gpt", {**SMALL, "recipe": "mote", "model.experts": 2, "train.start": str(dense.path)})
    made = setup.prepare(spec, data=DATA)
    trained, first = newest(dense.path / "checkpoints")[0].params, {n: a.copy() for n, a in made.model.arrays().items()}
    for name in ("shared", "expert.0", "expert.1"):
        for part in ("up", "down"):
            np.testing.assert_array_equal(first[f"h.1.mlp.{name}.{part}.weight"], trained[f"h.1.mlp.{part}.weight"])
    ternary = {site for site, linear in made.model.recipes.items() if linear.fprop.b.quantizer is not None}
    assert ternary == {f"h.{i}.mlp.expert.{e}.{part}" for i in range(2) for e in range(2) for part in ("up", "down")}
    state = start_state(made)
    for step in range(3):
        state, result = step_of(made, state, [train_batch(DATA, made.length, 2, 1, step, 0, 2)], False)
        assert np.isfinite(result.loss)
    for name, a in made.model.arrays().items():
        if ".shared." in name:
            np.testing.assert_array_equal(a, first[name])
    assert any((made.model.arrays()[f"h.0.mlp.expert.{e}.up.weight"] != first[f"h.0.mlp.expert.{e}.up.weight"]).any() for e in range(2))
    assert (made.model.arrays()["h.0.mlp.router.weight"] != first["h.0.mlp.router.weight"]).any()


def test_bad_number_of_experts() -> None:
    with pytest.raises(SpecError, match="experts: -1 is not a number of experts"):
        build({**MODEL, "experts": -1})
