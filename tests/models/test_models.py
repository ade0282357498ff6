"""What every kind of model owes: derivatives, deterministic initial values, roles, sites, errors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lpref.autodiff import Tensor, check_grads
from lpref.models import CONFIGS, MODELS, Model, build, config
from lpref.ref.backend import Backend
from lpref.ref.errors import ShapeError, SpecError, UnknownNameError
from lpref.ref.random import check_streams
from lpref.ref.recipes import Context

TINY: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "features": 6, "hidden": [5, 4], "classes": 3},
    "cnn": {"kind": "cnn", "image": 4, "channels": 2, "classes": 3, "widths": [4, 8], "groups": 2},
    "gpt": {"kind": "gpt", "vocab": 7, "context": 6, "layers": 2, "d_model": 8, "heads": 4, "kv_heads": 2, "ffn": 6},
    "gpt2": {"kind": "gpt", "vocab": 7, "context": 5, "layers": 1, "d_model": 8, "heads": 2, "ffn": 6, "norm": "layernorm",
             "activation": "gelu", "positions": "learned", "bias": True, "tied": True},
    "vit": {"kind": "vit", "image": 4, "patch": 2, "classes": 3, "layers": 1, "d_model": 8, "heads": 2, "ffn": 6},
}  # fmt: skip


def batch_for(name: str, n: int = 3) -> SimpleNamespace:
    rng, spec = np.random.default_rng(4), TINY[name]
    if spec["kind"] == "gpt":
        ids = rng.integers(0, spec["vocab"], (n, spec["context"]))
        return SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:])
    shape = (n, 6) if name == "mlp" else (n, spec.get("channels", 1), 4, 4)
    return SimpleNamespace(inputs=rng.standard_normal(shape).astype(np.float32), targets=rng.integers(0, 3, n))


def in_float64(model: Model, batch: SimpleNamespace) -> SimpleNamespace:
    """The model's parameters, moved off their symmetric initial values, and the batch, in float64."""
    rng = np.random.default_rng(8)
    model.set_arrays({n: a.astype(np.float64) + 0.1 * rng.standard_normal(a.shape) for n, a in model.arrays().items()})
    inputs = batch.inputs if batch.inputs.dtype.kind == "i" else batch.inputs.astype(np.float64)
    return SimpleNamespace(inputs=inputs, targets=batch.targets)


@pytest.mark.parametrize("name", TINY)
def test_gradients(name: str, ops: Backend, ctx: Context) -> None:
    model = build(TINY[name], None, 3, ops)
    batch = in_float64(model, batch_for(name))
    names = list(model.params)

    def loss(*params: Tensor) -> Tensor:
        model.params = dict(zip(names, params, strict=True))
        return model.loss(batch, ctx)

    assert check_grads(loss, model.parameters(), coordinates=3) <= 1


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_gets_a_gradient(name: str, ops: Backend, ctx: Context) -> None:
    model = build(TINY[name], None, 3, ops)
    model.loss(batch_for(name), ctx).backward()
    assert list(model.grads()) == list(model.params)
    for key, g in model.grads().items():
        assert g.shape == model.params[key].shape
        assert g.dtype == np.float32
        assert g.any(), key


@pytest.mark.parametrize("name", TINY)
def test_initial_values_depend_on_name_and_seed_alone(name: str, ops: Backend) -> None:
    one, same, other = (build(TINY[name], None, seed, ops).arrays() for seed in (3, 3, 4))
    assert all(np.array_equal(one[k], same[k]) for k in one)
    drawn = [k for k in one if one[k].std() > 0]
    assert drawn
    assert not any(np.array_equal(one[k], other[k]) for k in drawn)
    values = np.concatenate([one[k].reshape(-1) for k in drawn])
    assert np.unique(values).size > 0.99 * values.size  # no two parameters share their words


def test_deeper_models_keep_the_shallow_ones_first_values(ops: Backend) -> None:
    wide = {**TINY["gpt"], "layers": 3}
    shallow, deep = build(TINY["gpt"], None, 1, ops).arrays(), build(wide, None, 1, ops).arrays()
    assert np.array_equal(shallow["h.1.attn.qkv.weight"], deep["h.1.attn.qkv.weight"])
    scale = np.float32(0.06 / np.sqrt(4)), np.float32(0.06 / np.sqrt(6))
    ratio = deep["h.0.mlp.down.weight"] / shallow["h.0.mlp.down.weight"]
    assert np.allclose(ratio, scale[1] / scale[0], rtol=4 * 2.0**-24)


@pytest.mark.parametrize("name", TINY)
def test_sites_roles_and_streams(name: str, ops: Backend) -> None:
    model = build(TINY[name], None, 0, ops)
    assert set(model.roles) == set(model.params)
    for site in model.linear_sites():
        weight = model.params[site.parameter]
        assert weight.shape == (site.n, site.k)
        assert model.roles[site.parameter] in (site.role, "embedding")
        assert site.index == -1 or 0 <= site.index < site.count
    check_streams([f"init/{p}" for p in model.params] + [s.name for s in model.linear_sites()])
    assert model.num_params() == sum(p.size for p in model.parameters())


@pytest.mark.parametrize("name", TINY)
def test_the_rows_of_the_sites_are_what_the_forward_sees(name: str, ops: Backend, ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """M of every GEMM = batch x rows: the share of FLOPs is computed from it."""
    from lpref.autodiff import functional as F

    model, seen = build(TINY[name], None, 0, ops), []
    linear, conv2d = F.linear, F.conv2d
    monkeypatch.setattr(F, "linear", lambda x, w, **k: (seen.append((x.shape[0], w.shape[0], w.shape[1])), linear(x, w, **k))[1])

    def conv(x: Tensor, w: Tensor, **k: Any) -> Tensor:
        y = conv2d(x, w, **k)
        seen.append((y.shape[0] * y.shape[2] * y.shape[3], w.shape[0], w.size // w.shape[0]))
        return y

    monkeypatch.setattr(F, "conv2d", conv)
    batch = batch_for(name)
    tokens = batch.inputs.shape[1] if TINY[name]["kind"] == "gpt" else None
    model.logits(batch.inputs, ctx)
    want = [(len(batch.inputs) * (tokens if tokens and s.rows > 1 else s.rows), s.n, s.k) for s in model.linear_sites()]
    assert seen == want


@pytest.mark.parametrize("name", TINY)
def test_wrong_inputs(name: str, ops: Backend, ctx: Context) -> None:
    model = build(TINY[name], None, 0, ops)
    wrong = np.zeros((2, 99), np.int64) if TINY[name]["kind"] == "gpt" else np.zeros((2, 9, 9, 9), np.float32)
    with pytest.raises(ShapeError, match="needed"):
        model.logits(wrong, ctx)


def test_wrong_specs() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'gpt'"):
        config({"kind": "gptt"})
    with pytest.raises(UnknownNameError, match="did you mean 'layers'"):
        config({"kind": "gpt", "layer": 3})
    with pytest.raises(SpecError, match="kind: missing"):
        config({"layers": 3})
    with pytest.raises(SpecError) as error:
        config({"kind": "gpt", "heads": 3, "vocab": 0, "norm": "batchnorm"})
    assert len(error.value.problems) == 3
    with pytest.raises(SpecError, match="kv_heads: 3"):
        config({"kind": "gpt", "kv_heads": 3})
    with pytest.raises(SpecError, match="patch"):
        config({"kind": "vit", "patch": 3})
    with pytest.raises(SpecError, match="groups"):
        config({"kind": "cnn", "groups": 5})
    with pytest.raises(SpecError, match="even head dimension"):
        config({"kind": "gpt", "d_model": 12, "heads": 4})
    with pytest.raises(SpecError, match="no configuration"):
        build(object())


def test_set_arrays_refuses_what_does_not_fit(ops: Backend) -> None:
    model = build(TINY["mlp"], None, 0, ops)
    good = model.arrays()
    with pytest.raises(UnknownNameError, match=r"fc\.7\.weight"):
        model.set_arrays(good | {"fc.7.weight": good["fc.0.weight"]})
    with pytest.raises(ShapeError, match=r"no array for fc\.0\.bias"):
        model.set_arrays({k: v for k, v in good.items() if k != "fc.0.bias"})
    with pytest.raises(ShapeError, match=r"fc\.0\.weight is \(6, 5\)"):
        model.set_arrays(good | {"fc.0.weight": good["fc.0.weight"].T})


def test_registries_name_the_same_kinds() -> None:
    assert set(MODELS) == set(CONFIGS)
    assert all(cls.kind == kind for kind, cls in MODELS.items())
