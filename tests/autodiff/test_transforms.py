"""grad, hvp, checkpoint, no_grad as functions of functions."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.autodiff import Tensor, checkpoint, grad, hvp, no_grad
from lpref.autodiff import functional as F
from lpref.ref.errors import GraphError, ShapeError


def test_grad_keeps_the_structure(B) -> None:
    a, b = Tensor(np.float32([2.0]), B), Tensor(np.float32([3.0]), B)
    assert grad(lambda x: F.sum(x * x), a).data.tolist() == [4.0]
    da, db = grad(lambda x, y: F.sum(x * y), (a, b))
    assert (da.data.tolist(), db.data.tolist()) == ([3.0], [2.0])
    named = grad(lambda p: F.sum(p["a"] * p["b"]), {"a": a, "b": b})
    assert {k: v.data.tolist() for k, v in named.items()} == {"a": [3.0], "b": [2.0]}


def test_hvp_of_a_quadratic_form_is_its_matrix(B) -> None:
    """f = ½ xᵀ A x + Σ x³/6: H v = ½ (A + Aᵀ) v + x v; small integers, exact."""
    rng = np.random.default_rng(3)
    A = rng.integers(-4, 5, (3, 3)).astype(np.float64) * 2
    x, v = Tensor(np.array([[1.0], [2.0], [3.0]]), B), Tensor(np.array([[1.0], [-1.0], [2.0]]), B)

    def f(x):
        return F.sum(x * F.matmul(Tensor(A, B), x)) * 0.5 + F.sum(x * x * x) * 0.5

    np.testing.assert_array_equal(hvp(f, x, v).data, (A + A.T) @ v.data / 2 + 3 * x.data * v.data)


def test_hvp_through_fused_primitives_is_symmetric_and_matches_differences(tensor) -> None:
    x, w1, norm, w2 = tensor((3, 4)), tensor((6, 4), seed=1), tensor((6,), seed=2), tensor((5, 6), seed=3)
    targets = np.array([0, 4, 2])

    def loss(w1, norm, w2):
        h = F.silu(F.rmsnorm(F.linear(x.detach(), w1), norm))
        return F.softmax_cross_entropy(F.linear(h, w2), targets)

    params = (w1, norm, w2)
    u, v = ([tensor(p.shape, seed=s + i, requires_grad=False) for i, p in enumerate(params)] for s in (10, 20))
    dot = lambda a, b: sum(float((s.data * t.data).sum()) for s, t in zip(a, b, strict=True))  # noqa: E731
    uHv, vHu = dot(u, hvp(loss, params, v)), dot(v, hvp(loss, params, u))
    assert abs(uHv - vHu) <= 1e-11  # 100 terms below 16, elementary functions to 1e-13
    h = 2.0**-13
    moved = [
        [Tensor(p.data + s * h * d.data, p.backend) for p, d in zip(params, v, strict=True)] for s in (1, -1, 2, -2)
    ]
    g = [dot(u, grad(loss, tuple(m))) for m in moved]
    near, far = (g[0] - g[1]) / (2 * h), (g[2] - g[3]) / (4 * h)
    assert abs(uHv - near) <= abs(far - near) + 1e-11 / h


def test_hvp_with_parameters_from_outside(B) -> None:
    p = Tensor(np.float64([1.0, 2.0]), B, True)
    got = hvp(lambda *_: F.sum(p * p * p), [p], [Tensor(np.float64([1.0, 1.0]), B)])
    assert got[0].data.tolist() == [6.0, 12.0]
    with pytest.raises(ShapeError, match=r"v of shape \(3,\)"):
        hvp(lambda *_: F.sum(p * p * p), [p], [Tensor(np.zeros(3), B)])


def test_hvp_of_a_linear_function_is_zero(B) -> None:
    p = Tensor(np.float64([1.0, 2.0]), B, True)
    assert hvp(lambda x: F.sum(x * 3.0), p, Tensor(np.ones(2), B)).data.tolist() == [0.0, 0.0]


def block(x, w, u):
    h = F.silu(F.linear(F.rmsnorm(x, u), w))
    return x + F.linear(h, w)


@pytest.mark.parametrize("nested", [False, True])
def test_checkpoint_gives_the_same_bits(tensor, nested) -> None:
    """Shared weights, inside and outside: the order of addition is the same as without."""
    x, w, u = (
        tensor((4, 6), dtype=np.float32),
        tensor((6, 6), seed=1, dtype=np.float32),
        tensor((6,), seed=2, dtype=np.float32),
    )

    def wrapped(t):
        inner = checkpoint(lambda s: block(s, w, u), t) if nested else block(t, w, u)
        return block(inner, w, u)

    def run(wrap):
        for t in (x, w, u):
            t.grad = None
        y = F.linear(block(wrap(block(x, w, u)), w, u), w)
        F.sum(y * y).backward()
        return y.data, x.grad, w.grad, u.grad

    plain = run(lambda t: block(block(t, w, u), w, u))
    again = run(lambda t: checkpoint(wrapped, t))
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


def test_checkpoint_computes_again_and_keeps_only_inputs(B) -> None:
    calls = []
    x, w = (Tensor(np.float32([2.0, 3.0]), B, True) for _ in range(2))

    def fn(t):
        calls.append(1)
        return F.exp(t * w) * w

    y = checkpoint(fn, x)
    assert y.node.inputs == (x,)
    assert set(y.node.parents) == {x.node, w.node}
    F.sum(y).backward()
    assert len(calls) == 2
    assert w.grad is not None
    with no_grad():
        assert not checkpoint(fn, x).requires_grad
    with pytest.raises(GraphError, match="not one tensor"):
        checkpoint(lambda t: (t * t, t), x)
    constant = Tensor(np.float32([1.0]), B)
    assert not checkpoint(lambda t: t * t, constant).requires_grad
    assert checkpoint(lambda t: t, x) is x


def test_checkpoint_of_weights_only(B) -> None:
    """No argument requires gradients, a weight does."""
    w = Tensor(np.float32([2.0]), B, True)
    x = Tensor(np.float32([3.0]), B)
    F.sum(checkpoint(lambda t: t * w * w, x)).backward()
    assert w.grad.tolist() == [12.0]


def test_checkpoint_has_second_derivatives_and_subset_targets(B) -> None:
    x = Tensor(np.float64([2.0, 3.0]), B, True)
    w = Tensor(np.float64([1.0, 5.0]), B, True)
    got = hvp(lambda t: F.sum(checkpoint(lambda s: s * s * s * w, t)), x, Tensor(np.ones(2), B))
    np.testing.assert_array_equal(got.data, 6 * x.data * w.data)
    assert grad(F.sum(checkpoint(lambda s: s * w, x)), [w])[0].data.tolist() == [2.0, 3.0]


def test_checkpoint_refuses_a_function_that_changes(B) -> None:
    x = Tensor(np.float32([2.0, 3.0]), B, True)
    sizes = iter([2, 1])
    y = checkpoint(lambda t: (t * t)[: next(sizes)], x)
    with pytest.raises(ShapeError, match="must be deterministic"):
        F.sum(y).backward()
