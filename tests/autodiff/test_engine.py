"""The walk: order of addition, depth, freeing, seeds, targets."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from lpref.autodiff import Tensor, grad, no_grad
from lpref.autodiff import functional as F
from lpref.ref.errors import GraphError, ShapeError


def leaf(B, values, dtype=np.float32):
    return Tensor(np.asarray(values, dtype), B, True)


def test_fan_out_adds_from_the_youngest_use_to_the_oldest(B) -> None:
    """x is used three times with factors whose float32 sum depends on the order: ((c + b) + a)."""
    a, b, c = np.float32([1.0, 2.0**-24, 2.0**-24])
    x = leaf(B, [1.0])
    y = F.sum(x * float(a)) + F.sum(x * float(b)) + F.sum(x * float(c))
    y.backward()
    assert (c + b) + a != (a + b) + c
    assert x.grad[0] == (c + b) + a


def test_within_one_use_argument_order_decides(B) -> None:
    """The younger use gives 1, the older one 2^-24 for its first and -1 for its second argument: (1 + 2^-24) - 1 = 0."""
    x = leaf(B, [1.0])
    older = F.sum(F.concat([x, x]) * np.float32([2.0**-24, -1.0]))
    (F.sum(x * 1.0) + older).backward()
    assert x.grad[0] == 0.0


def test_a_slice_adds_to_its_own_elements_only(B) -> None:
    x = leaf(B, [1.0, 2.0, 3.0])
    y = F.sum(x[:2] * np.float32([1.0, -0.0])) + F.sum(x[1:] * 2.0) + F.sum(x * 1.0)
    y.backward()
    assert x.grad.tolist() == [2.0, 3.0, 3.0]
    z = leaf(B, [1.0, 2.0])
    (part,) = grad(z[:1], [z], seed=np.float32([-0.0]))
    assert np.signbit(z[:1].data * 0 + part.data[:1]).tolist() == [False]
    shared = np.float32([5.0, 5.0, 5.0])
    grad([x, x[:1]], [x], seed=[shared, np.float32([1.0])])
    assert shared.tolist() == [5.0, 5.0, 5.0]


def test_depth_is_not_limited(B) -> None:
    x = leaf(B, [1.0])
    y = x
    for _ in range(50_000):
        y = y + x
    y.backward(np.float32([1.0]))
    assert x.grad[0] == 50_001


def test_deep_graph_is_collected_without_recursion(B) -> None:
    x = leaf(B, [1.0])
    y = x
    for _ in range(200_000):
        y = -y
    del y
    gc.collect()


def test_backward_adds_to_grad(B) -> None:
    x = leaf(B, [3.0])
    F.sum(x * 2.0).backward()
    F.sum(x * 5.0).backward()
    assert x.grad.tolist() == [7.0]


def test_a_freed_graph_says_so(B) -> None:
    x = leaf(B, [3.0])
    y = F.sum(x * x)
    y.backward()
    with pytest.raises(GraphError, match=r"graph of 'sum' was freed.*retain_graph"):
        y.backward()
    y = F.sum(x * x)
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [18.0]


def test_backward_frees_what_it_used(B) -> None:
    x = leaf(B, np.ones(1000))
    h = F.exp(x)
    y = F.sum(h * h)
    kept = weakref.ref(h)
    del h
    gc.collect()
    assert kept() is not None
    y.backward()
    assert kept() is None


def test_nothing_is_a_cycle(B) -> None:
    """Dropping the output drops the graph at once, without the cycle collector."""
    gc.disable()
    try:
        x = leaf(B, np.ones(4))
        h = F.tanh(x)
        y = F.sum(h * h)
        kept = weakref.ref(h)
        del h, y
        assert kept() is None
    finally:
        gc.enable()


def test_a_non_scalar_needs_a_seed(B) -> None:
    x = leaf(B, [1.0, 2.0])
    with pytest.raises(GraphError, match=r"shape \(2,\), not one element; pass a seed"):
        (x * x).backward()
    with pytest.raises(ShapeError, match=r"seed of shape \(3,\) for an output of shape \(2,\)"):
        (x * x).backward(np.float32([1, 1, 1]))


def test_no_graph_no_gradient(B) -> None:
    x = Tensor(np.float32([1.0]), B)
    with pytest.raises(GraphError, match="requires_grad=True"):
        F.sum(x).backward()
    with pytest.raises(GraphError, match=r"input 0, of shape \(1,\)"):
        grad(F.sum(leaf(B, [1.0])), [x])
    y = leaf(B, [1.0])
    with no_grad():
        assert not (y * y).requires_grad
    assert (y * y).requires_grad


def test_intermediate_targets_and_unused_inputs(B) -> None:
    x, unused = leaf(B, [3.0]), leaf(B, [1.0, 1.0])
    h = x * x
    y = F.sum(h * h)
    dh, dx, du = grad(y, [h, x, unused])
    assert (dh.data[0], dx.data[0], du.data.tolist()) == (18.0, 108.0, [0.0, 0.0])
    assert x.grad is None


def test_only_what_leads_to_a_target_is_visited(B) -> None:
    x, z = leaf(B, [3.0]), leaf(B, [2.0])
    side = F.exp(z)
    y = F.sum(x * side)
    grad(y, [x])
    side.backward()  # was not freed: no path from y to x runs through it
    assert z.grad is not None


def test_several_outputs_with_seeds(B) -> None:
    x = leaf(B, [1.0, 2.0])
    g = grad([x * 2.0, x * x], x, seed=[np.float32([1, 0]), np.float32([0, 1])])
    assert g.data.tolist() == [2.0, 4.0]
