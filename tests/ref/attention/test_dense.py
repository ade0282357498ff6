"""The attention oracle: the scalar page bit for bit, torch in float64, masks, grouped heads, errors."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref import elementary
from lpref.ref.attention import attention, attention_backward
from lpref.ref.contracts import Bits
from lpref.ref.errors import ShapeError
from lpref.ref.reduce import tree_sum

f32 = np.float32


def same(expected, actual) -> None:
    assert Bits().mismatch(expected, actual, (), {}) is None


@pytest.fixture
def draw():
    source = np.random.default_rng(7)
    return lambda *shape: source.standard_normal(shape).astype(np.float32)


def product(a, b):
    """a b in float32, k ascending, product rounded, then sum rounded."""
    out = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        for i, j in np.ndindex(*out.shape):
            out[i, j] = out[i, j] + a[i, k] * b[k, j]
    return out


def head(q, k, v, do, causal, scale):
    """Forward and backward of one head from the page."""
    s = product(q, k.T) * f32(scale)
    if causal:
        for i, j in np.ndindex(*s.shape):
            if j > i + len(k) - len(q):
                s[i, j] = -np.inf
    e = elementary.exp(np.array([row - max(row) for row in s]))
    p = np.array([row / tree_sum(row) for row in e])
    dp = product(do, v.T)
    ds = np.array([(a * (d - tree_sum(d * a))) * f32(scale) for a, d in zip(p, dp, strict=True)])
    return product(p, v), p, product(ds, k), product(ds.T, q), product(p.T, do)


@pytest.mark.parametrize(("T", "S", "causal"), [(1, 1, True), (5, 5, True), (3, 6, True), (4, 3, False)])
@pytest.mark.parametrize(("Hq", "Hkv"), [(2, 2), (3, 1)])
def test_is_its_page(T, S, causal, Hq, Hkv, draw) -> None:
    q, k, v, do = draw(2, Hq, T, 3), draw(2, Hkv, S, 3), draw(2, Hkv, S, 3), draw(2, Hq, T, 3)
    o, probs = attention(q, k, v, causal, 0.7)
    dq, dk, dv = attention_backward(do, q, k, v, o, probs, causal, 0.7)
    want_dk, want_dv = np.zeros_like(k), np.zeros_like(v)
    for b, h in np.ndindex(2, Hq):
        g = h // (Hq // Hkv)
        want = head(q[b, h], k[b, g], v[b, g], do[b, h], causal, 0.7)
        same(want[:3], (o[b, h], probs[b, h], dq[b, h]))
        want_dk[b, g] += want[3]
        want_dv[b, g] += want[4]
    same((want_dk, want_dv), (dk, dv))


@pytest.mark.peer
@pytest.mark.parametrize(("Hq", "Hkv", "causal"), [(4, 4, True), (4, 2, True), (4, 1, False)])
def test_torch_float64(Hq, Hkv, causal, draw) -> None:
    torch = pytest.importorskip("torch")
    q, k, v, do = (a.astype(np.float64) for a in (draw(2, Hq, 9, 8), draw(2, Hkv, 9, 8), draw(2, Hkv, 9, 8), draw(2, Hq, 9, 8)))
    leaves = [torch.tensor(a, requires_grad=True) for a in (q, k, v)]
    want = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=causal, enable_gqa=Hq != Hkv)
    want.backward(torch.tensor(do))
    o, probs = attention(q, k, v, causal)
    np.testing.assert_allclose(o, want.detach().numpy(), rtol=1e-12, atol=1e-12)
    for got, leaf in zip(attention_backward(do, q, k, v, o, probs, causal), leaves, strict=True):
        np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=1e-12, atol=1e-12)


def test_the_future_changes_nothing(draw) -> None:
    q, k, v = draw(1, 1, 6, 4), draw(1, 1, 6, 4), draw(1, 1, 6, 4)
    o, probs = attention(q, k, v)
    k[:, :, 4:], v[:, :, 4:] = 5, -3
    same((o[:, :, :4], probs[:, :, :4]), tuple(a[:, :, :4] for a in attention(q, k, v)))
    same(v[:, :, :1], attention(q[:, :, :1], k[:, :, :1], v[:, :, :1])[0])


def test_queries_are_the_last_positions(draw) -> None:
    """A decoding step over a key cache equals the last row of the whole."""
    q, k, v = draw(2, 2, 6, 4), draw(2, 2, 6, 4), draw(2, 2, 6, 4)
    same(attention(q, k, v)[0][:, :, -1:], attention(q[:, :, -1:], k, v)[0])


def test_errors(draw) -> None:
    with pytest.raises(ShapeError, match="first rows"):
        attention(draw(1, 1, 3, 2), draw(1, 1, 2, 2), draw(1, 1, 2, 2))
    bad = [
        ((1, 3, 2, 2), (1, 2, 2, 2), (1, 2, 2, 2)),
        ((1, 1, 2, 2), (1, 1, 2, 3), (1, 1, 2, 2)),
        ((1, 1, 0, 2), (1, 1, 2, 2), (1, 1, 2, 2)),
        ((1, 1, 2), (1, 1, 2), (1, 1, 2)),
    ]
    for shapes in bad:
        with pytest.raises(ShapeError, match="needed"):
            attention(*(draw(*shape) for shape in shapes))
