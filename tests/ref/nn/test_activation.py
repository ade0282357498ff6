"""Activations: the scalar page bit for bit, torch in float64, special values."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref import elementary, nn
from lpref.ref.contracts import Bits
from lpref.ref.errors import ShapeError, UnknownNameError

f32 = np.float32
EDGES = f32([0.0, -0.0, 1e-45, -1e-45, 1e-38, 0.5, -0.5, 3, -3, 20, -20, 100, -100, 3e38, -3e38])


def same(expected, actual) -> None:
    assert Bits().mismatch(expected, actual, (), {}) is None


@pytest.fixture
def x(draw):
    return np.concatenate([EDGES, draw(40)])


def test_silu_and_swiglu_are_their_pages(x, draw, literal) -> None:
    dy, u = draw(len(x)), draw(len(x))
    with np.errstate(over="ignore"):
        s = [literal.one(elementary.sigmoid, a) for a in x]
        slope = [q * (f32(1) + a * (f32(1) - q)) for a, q in zip(x, s, strict=True)]
        same(np.array([a * q for a, q in zip(x, s, strict=True)]), nn.silu(x))
        same(np.array([d * k for d, k in zip(dy, slope, strict=True)]), nn.silu_backward(dy, x))
        same(np.array([(a * q) * b for a, q, b in zip(x, s, u, strict=True)]), nn.swiglu(x, u))
        dg, du = nn.swiglu_backward(dy, x, u)
        same(np.array([(d * b) * k for d, b, k in zip(dy, u, slope, strict=True)]), dg)
        same(np.array([d * (a * q) for d, a, q in zip(dy, x, s, strict=True)]), du)


def test_packed_swiglu_is_swiglu_of_the_halves(draw) -> None:
    gu, dy = draw(3, 10), draw(3, 5)
    same(nn.swiglu(gu[:, :5], gu[:, 5:]), nn.swiglu_packed(gu))
    same(np.hstack(nn.swiglu_backward(dy, gu[:, :5], gu[:, 5:])), nn.swiglu_packed_backward(dy, gu))


@pytest.mark.parametrize("kind", ["tanh", "erf"])
def test_gelu_is_its_page(kind, x, draw, literal) -> None:
    x = x[np.abs(x) < 1e10]
    dy = draw(len(x))
    y, dx = nn.gelu(x, kind), nn.gelu_backward(dy, x, kind)
    a, b, b3 = f32(0.7978845608028654), f32(0.044715), f32(0.134145)
    for i, v in enumerate(x):
        if kind == "tanh":
            t = literal.one(elementary.tanh, a * (v + b * (v * v * v)))
            slope = f32(0.5) * (f32(1) + t) + (f32(0.5) * v) * ((f32(1) - t * t) * (a * (f32(1) + b3 * (v * v))))
        else:
            t = literal.one(elementary.erf, v * f32(0.7071067811865476))
            slope = f32(0.5) * (f32(1) + t) + v * (f32(0.3989422804014327) * literal.one(elementary.exp, (f32(-0.5) * v) * v))
        same(f32((f32(0.5) * v) * (f32(1) + t)), y[i])
        same(f32(dy[i] * slope), dx[i])


def test_relu_special_values() -> None:
    x = f32([-np.inf, -1, -0.0, 0.0, 1, np.inf, np.nan])
    same(f32([0, 0, 0, 0, 1, np.inf, np.nan]), nn.relu(x))
    same(f32([0, 0, 0, 0, 7, 7, 7]), nn.relu_backward(np.full(7, 7, np.float32), x))


@pytest.mark.peer
@pytest.mark.parametrize("name", ["relu", "silu", "gelu-tanh", "gelu-erf", "swiglu"])
def test_torch_float64(name, draw) -> None:
    torch = pytest.importorskip("torch")
    x, u, dy = (a.astype(np.float64) * 3 for a in (draw(200), draw(200), draw(200)))
    tx, tu = torch.tensor(x, requires_grad=True), torch.tensor(u, requires_grad=True)
    kind = name[5:]
    t = torch.nn.functional
    ours = {"relu": lambda: nn.relu(x), "silu": lambda: nn.silu(x), "swiglu": lambda: nn.swiglu(x, u)}.get(name, lambda: nn.gelu(x, kind))
    theirs = {"relu": lambda: t.relu(tx), "silu": lambda: t.silu(tx), "swiglu": lambda: t.silu(tx) * tu}.get(
        name, lambda: t.gelu(tx, approximate={"erf": "none"}.get(kind, kind))
    )
    backward = {"relu": lambda: nn.relu_backward(dy, x), "silu": lambda: nn.silu_backward(dy, x)}
    want = theirs()
    want.backward(torch.tensor(dy))
    np.testing.assert_allclose(ours(), want.detach().numpy(), rtol=1e-12, atol=1e-12)
    if name == "swiglu":
        dg, du = nn.swiglu_backward(dy, x, u)
        np.testing.assert_allclose(du, tu.grad.numpy(), rtol=1e-12, atol=1e-12)
    else:
        dg = backward.get(name, lambda: nn.gelu_backward(dy, x, kind))()
    np.testing.assert_allclose(dg, tx.grad.numpy(), rtol=1e-12, atol=1e-12)


def test_errors() -> None:
    one = np.ones(2, np.float32)
    with pytest.raises(UnknownNameError, match="did you mean 'tanh'"):
        nn.gelu(one, "tan")
    with pytest.raises(ShapeError):
        nn.swiglu(one, np.ones(3, np.float32))
    with pytest.raises(ShapeError):
        nn.swiglu_packed(np.ones((2, 3), np.float32))
