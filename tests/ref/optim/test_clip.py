"""Clipping: norm, direction, the 1e-6, non-finite gradients."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.errors import NonFiniteError
from lpref.ref.optim import clip_global_norm, clip_value, global_norm

rng = np.random.default_rng(11)


def grads() -> dict[str, np.ndarray]:
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in {"a": (33, 7), "b": (5,), "c": ()}.items()}


def test_norm_is_the_norm() -> None:
    """Sum of n squares in float32: relative error at most gamma_(n+1) (Higham 2002, section 3.1), halved by the root, plus one u."""
    g = grads()
    exact = np.sqrt(sum(float((a.astype(np.float64) ** 2).sum()) for a in g.values()))
    n, u = sum(a.size for a in g.values()), 2.0**-24
    assert abs(float(global_norm(list(g.values()))) - exact) <= exact * ((n + 1) * u / (1 - (n + 1) * u) / 2 + u)


def test_short_gradients_pass_unchanged() -> None:
    g = grads()
    out, norm = clip_global_norm(g, 1e3)
    assert all(out[name] is g[name] for name in g)
    assert norm == float(global_norm(list(g.values())))


def test_long_gradients_keep_their_direction_and_get_the_norm() -> None:
    g = grads()
    out, norm = clip_global_norm(g, 0.5)
    factor = np.float32(0.5) / (np.float32(norm) + np.float32(1e-6))
    assert all(np.array_equal(out[name], g[name] * factor) for name in g)
    assert float(global_norm(list(out.values()))) <= 0.5 * (1 + 300 * 2.0**-24)


def test_torch_form_shrinks_at_the_boundary() -> None:
    g = {"a": np.float32([1.0])}
    assert clip_global_norm(g, 1.0)[0]["a"][0] == np.float32(1) / (np.float32(1) + np.float32(1e-6))
    assert clip_global_norm(g, 1.0, eps=0.0)[0]["a"][0] == 1.0


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_non_finite_raises(bad: float) -> None:
    with pytest.raises(NonFiniteError, match="global gradient norm"):
        clip_global_norm({"a": np.float32([1, bad])}, 1.0)


def test_no_gradients() -> None:
    assert clip_global_norm({}, 1.0) == ({}, 0.0)


def test_value_clipping_keeps_nan_and_is_idempotent() -> None:
    g = {"a": np.float32([-np.inf, -2, -0.5, 0.5, 2, np.inf, np.nan])}
    out = clip_value(g, 1.0)
    assert out["a"][:6].tolist() == [-1, -1, -0.5, 0.5, 1, 1]
    assert np.isnan(out["a"][6])
    assert np.array_equal(clip_value(out, 1.0)["a"], out["a"], equal_nan=True)


@pytest.mark.peer
def test_torch_clip_grad_norm() -> None:
    torch = pytest.importorskip("torch")
    g = {name: a.astype(np.float64) for name, a in grads().items()}
    theirs = [torch.nn.Parameter(torch.zeros(a.shape, dtype=torch.float64)) for a in g.values()]
    for t, a in zip(theirs, g.values(), strict=True):
        t.grad = torch.tensor(a)
    norm = float(torch.nn.utils.clip_grad_norm_(theirs, 0.7))
    out, ours = clip_global_norm(g, 0.7)
    u = 2.0**-53 * 2 * (sum(a.size for a in g.values()) + 8)
    assert abs(norm - ours) <= u * norm
    for t, a in zip(theirs, out.values(), strict=True):
        assert np.all(np.abs(t.grad.numpy() - a) <= u * np.abs(a))
