"""RMSNorm and LayerNorm: the scalar page bit for bit, torch in float64, edge shapes, errors."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref import nn
from lpref.ref.contracts import Bits
from lpref.ref.errors import ShapeError

SHAPES = [(1, 1), (3, 5), (2, 128), (2, 1027)]


def same(expected, actual) -> None:
    assert Bits().mismatch(expected, actual, (), {}) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_rmsnorm_is_its_page(shape, literal, draw) -> None:
    x, w, dy = draw(*shape), draw(shape[1]), draw(*shape)
    y, rstd = nn.rmsnorm(x, w, 1e-5)
    rows = [literal.rmsnorm_row(row, w, 1e-5) for row in x]
    same((np.array([r[0] for r in rows]), np.array([r[1] for r in rows])), (y, rstd))
    dx, dw = nn.rmsnorm_backward(dy, x, w, rstd)
    rows = [literal.rmsnorm_backward_row(d, a, w, r) for d, a, r in zip(dy, x, rstd, strict=True)]
    same(np.array([r[0] for r in rows]), dx)
    same(np.array([literal.total([r[1][d] for r in rows]) for d in range(shape[1])]), dw)


@pytest.mark.parametrize("shape", SHAPES)
def test_layernorm_is_its_page(shape, literal, draw) -> None:
    x, w, b, dy = draw(*shape), draw(shape[1]), draw(shape[1]), draw(*shape)
    y, mean, rstd = nn.layernorm(x, w, b, 1e-5)
    rows = [literal.layernorm_row(row, w, b, 1e-5) for row in x]
    same(tuple(np.array([r[i] for r in rows]) for i in range(3)), (y, mean, rstd))
    dx, dw, db = nn.layernorm_backward(dy, x, w, mean, rstd)
    rows = [literal.layernorm_backward_row(d, a, w, m, r) for d, a, m, r in zip(dy, x, mean, rstd, strict=True)]
    same(np.array([r[0] for r in rows]), dx)
    same(np.array([literal.total([r[1][d] for r in rows]) for d in range(shape[1])]), dw)
    same(np.array([literal.total(list(dy[:, d])) for d in range(shape[1])]), db)


@pytest.mark.parametrize("shape", SHAPES)
def test_with_the_addition_they_are_their_compositions(shape, draw) -> None:
    x, h, w, b, dy, ds = draw(*shape), draw(*shape), draw(shape[1]), draw(shape[1]), draw(*shape), draw(*shape)
    s = x + h
    y, rstd, total = nn.add_rmsnorm(x, h, w, 1e-5)
    same((*nn.rmsnorm(s, w, 1e-5), s), (y, rstd, total))
    dx, dw = nn.rmsnorm_backward(dy, s, w, rstd)
    same((ds + dx, dw), nn.add_rmsnorm_backward(dy, ds, s, w, rstd))
    y, mean, rstd, total = nn.add_layernorm(x, h, w, b, 1e-5)
    same((*nn.layernorm(s, w, b, 1e-5), s), (y, mean, rstd, total))
    dx, dw, db = nn.layernorm_backward(dy, s, w, mean, rstd)
    same((ds + dx, dw, db), nn.add_layernorm_backward(dy, ds, s, w, mean, rstd))
    for op, args in ((nn.add_rmsnorm, (x, h[:, :0], w, 1e-5)), (nn.add_layernorm_backward, (dy, ds[:0], s, w, mean, rstd))):
        with pytest.raises(ShapeError, match=op.__name__):
            op(*args)


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_torch_float64(kind, draw) -> None:
    torch = pytest.importorskip("torch")
    x, w, b, dy = (a.astype(np.float64) for a in (draw(7, 33), draw(33), draw(33), draw(7, 33)))
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    if kind == "rms":
        want = torch.nn.functional.rms_norm(leaves[0], (33,), leaves[1], eps=1e-5)
        y, rstd = nn.rmsnorm(x, w, 1e-5)
        grads = nn.rmsnorm_backward(dy, x, w, rstd)
    else:
        want = torch.nn.functional.layer_norm(leaves[0], (33,), leaves[1], leaves[2], eps=1e-5)
        y, mean, rstd = nn.layernorm(x, w, b, 1e-5)
        grads = nn.layernorm_backward(dy, x, w, mean, rstd)
    want.backward(torch.tensor(dy))
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, want.detach().numpy(), rtol=1e-12, atol=1e-12)
    for got, leaf in zip(grads, leaves, strict=False):
        np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=1e-12, atol=1e-12)


def test_no_rows() -> None:
    x, w = np.empty((0, 4), np.float32), np.ones(4, np.float32)
    y, rstd = nn.rmsnorm(x, w, 1e-5)
    assert y.shape == (0, 4)
    assert [a.tolist() for a in nn.rmsnorm_backward(x, x, w, rstd)] == [[], [0, 0, 0, 0]]


def test_a_zero_row_is_zero_and_a_nan_stays_in_its_row() -> None:
    x = np.float32([[0, 0], [np.nan, 1], [1, 1]])
    y, _ = nn.rmsnorm(x, np.ones(2, np.float32), 1e-5)
    assert y[0].tolist() == [0, 0]
    assert np.isnan(y).all(axis=1).tolist() == [False, True, False]


@pytest.mark.parametrize(("x", "w"), [((4,), (4,)), ((2, 4), (3,)), ((2, 0), (0,)), ((1, 2, 4), (4,))])
def test_shapes_that_do_not_fit(x, w) -> None:
    with pytest.raises(ShapeError, match="rmsnorm"):
        nn.rmsnorm(np.ones(x, np.float32), np.ones(w, np.float32), 1e-5)
