"""Every row of the VJP table, first and second order, and broadcasting of every shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import lpref
from lpref.autodiff import Tensor, check_grads, grad
from lpref.autodiff import functional as F
from lpref.autodiff.primitives import PRIMITIVES
from lpref.autodiff.tensor import apply
from lpref.autodiff.vjps import VJPS

IDS = np.array([[0, 2], [2, 2]])
MASK = np.array([[True, False, True], [False, True, True]])
ANGLE = np.linspace(0.1, 2.0, 6).reshape(3, 2)
COS, SIN = np.cos(ANGLE), np.sin(ANGLE)
WINDOW = {"kh": 2, "kw": 3, "stride": 2, "padding": 1}

# primitive -> (function, [(shape, low, high), …])
S, P = (2, 3), (2, 3)
CASES = {
    "add": (F.add, [((2, 3), -1, 1), ((3,), -1, 1)]),
    "sub": (F.sub, [((2, 1), -1, 1), ((2, 3), -1, 1)]),
    "mul": (F.mul, [((2, 3), -1, 1), ((1, 3), -1, 1)]),
    "div": (F.div, [((2, 3), -1, 1), ((2, 1), 0.5, 2)]),
    "maximum": (F.maximum, [((2, 3), -1, 0.9), ((3,), -1, 1)]),
    "power": (F.power, [((2, 3), 0.5, 2), ((3,), -2, 3)]),
    "where": (lambda a, b: F.where(MASK, a * a, b * b), [((2, 3), -1, 1), ((3,), -1, 1)]),
    "neg": (lambda x: F.neg(x) * x, [((3,), -1, 1)]),
    "exp": (F.exp, [((2, 3), -2, 2)]),
    "log": (F.log, [((2, 3), 0.5, 3)]),
    "tanh": (F.tanh, [((2, 3), -2, 2)]),
    "sqrt": (F.sqrt, [((2, 3), 0.5, 3)]),
    "rsqrt": (F.rsqrt, [((2, 3), 0.5, 3)]),
    "abs": (lambda x: F.abs(x) * x, [((4,), -3, -0.5)]),
    "sigmoid": (F.sigmoid, [((2, 3), -3, 3)]),
    "erf": (F.erf, [((2, 3), -2, 2)]),
    "sin": (F.sin, [((2, 3), -3, 3)]),
    "cos": (F.cos, [((2, 3), -3, 3)]),
    "greater": (lambda a, b: apply("greater", a, b) * a * b, [((4,), -1, 1), ((4,), 1.5, 2)]),
    "equal": (lambda a, b: (apply("equal", a, b) + 2.0) * a * b, [((4,), -1, 1), ((4,), 1.5, 2)]),
    "reshape": (lambda x: F.reshape(x * x, (3, -1)), [((2, 3), -1, 1)]),
    "transpose": (lambda x: F.transpose(x * x, (2, 0, 1)), [((2, 3, 4), -1, 1)]),
    "broadcast_to": (lambda x: F.broadcast_to(x * x, (4, 2, 3)), [((2, 1), -1, 1)]),
    "getitem": (lambda x: (x * x)[1, ..., ::2], [((2, 3, 4), -1, 1)]),
    "setitem": (lambda x: apply("setitem", x * x, index=(slice(1, 3),), shape=(5, 2)), [((2, 2), -1, 1)]),
    "concat": (lambda a, b: F.concat([a * b[:, :2], b], axis=-1), [((2, 2), -1, 1), ((2, 3), -1, 1)]),
    "stack": (lambda a, b: F.stack([a * b, b], axis=1), [((2, 3), -1, 1), ((2, 3), -1, 1)]),
    "pad": (lambda x: F.pad(x * x, ((1, 0), (0, 2))), [((2, 3), -1, 1)]),
    "sum": (lambda x: F.sum(x * x, axis=(0, 2)), [((2, 3, 4), -1, 1)]),
    "max": (lambda x: F.max(x, axis=1) * F.max(x), [((2, 5), -1, 1)]),
    "matmul": (F.matmul, [((2, 1, 2, 3), -1, 1), ((3, 3, 2), -1, 1)]),
    "embedding": (lambda t: F.embedding(t * t, IDS), [((4, 3), -1, 1)]),
    "embedding_transpose": (lambda g: apply("embedding_transpose", g * g, ids=IDS, rows=4), [((2, 2, 3), -1, 1)]),
    "rope": (lambda x: F.rope(x * x, COS, SIN), [((1, 2, 3, 4), -1, 1)]),
    "rope_transpose": (lambda x: apply("rope_transpose", x * x, cos=COS, sin=SIN), [((1, 2, 3, 4), -1, 1)]),
    "im2col": (lambda x: apply("im2col", x * x, **WINDOW), [((2, 1, 4, 3), -1, 1)]),
    "col2im": (lambda g: apply("col2im", g * g, shape=(1, 1, 4, 3), **WINDOW), [((6, 6), -1, 1)]),
}  # fmt: skip

OTHERS = {
    "mean": (lambda x: F.mean(x * x, axis=0), [((2, 3), -1, 1)]),
    "sum keepdims": (lambda x: F.sum(x * x, axis=-1, keepdims=True), [((2, 3), -1, 1)]),
    "sum of all": (lambda x: F.sum(x * x), [((2, 3), -1, 1)]),
    "softmax": (F.softmax, [((2, 4), -2, 2)]),
    "log_softmax": (F.log_softmax, [((2, 4), -2, 2)]),
    "square": (lambda x: x**2, [((3,), -1, 1)]),
    "cube": (lambda x: x**3.0, [((3,), 0.5, 1)]),
    "constants on the left": (lambda x: 2.0 / (1.0 - x) - 3.0 * x, [((3,), -1, 0.5)]),
    "squeeze, expand": (lambda x: F.squeeze(F.expand_dims(x * x, -1), 1), [((2, 1, 3), -1, 1)]),
    "same twice": (lambda x: F.matmul(x, x) * x, [((3, 3), -1, 1)]),
}


def test_every_primitive_has_a_rule_and_a_case() -> None:
    assert set(PRIMITIVES) == set(VJPS) == set(CASES)


@pytest.mark.parametrize("name", [*CASES, *OTHERS])
def test_first_and_second_order(name: str, tensor) -> None:
    fn, arguments = {**CASES, **OTHERS}[name]
    args = [tensor(shape, low, high, seed=i) for i, (shape, low, high) in enumerate(arguments)]
    check_grads(fn, args, order=2, coordinates=8)


@given(
    st.data(),
    mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3),
    st.sampled_from(["add", "sub", "mul", "div"]),
)
def test_broadcasting_is_undone_by_sums(data, shapes, op) -> None:
    """The gradient with respect to a broadcast operand is the sum over its copies: integers, so sums are exact."""
    a_shape, b_shape = shapes.input_shapes
    B = lpref.backend("reference")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    a, b = (Tensor(2.0 ** rng.integers(-3, 4, s).astype(np.float32).reshape(s), B, True) for s in (a_shape, b_shape))
    y = apply(op, a, b)
    seed = rng.integers(-8, 9, y.shape).astype(np.float32).reshape(y.shape)
    da, db = grad(y, [a, b], seed=seed)
    big_a, big_b = (np.broadcast_to(t.data, y.shape) for t in (a, b))
    by_hand = {
        "add": (seed, seed),
        "sub": (seed, -seed),
        "mul": (seed * big_b, seed * big_a),
        "div": (seed / big_b, -seed * big_a / big_b / big_b),
    }[op]
    for got, want, t in ((da, by_hand[0], a), (db, by_hand[1], b)):
        want = want.astype(np.float64)
        lead = want.ndim - t.ndim
        want = want.sum(axis=tuple(range(lead)))
        want = want.sum(axis=tuple(i for i, n in enumerate(t.shape) if n == 1), keepdims=True) if t.ndim else want
        assert got.shape == t.shape
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got.data, want)


def test_kinks_follow_the_conventions(B) -> None:
    x = Tensor(np.float32([-2, 0, 3]), B, True)
    assert grad(lambda t: F.sum(F.abs(t)), x).data.tolist() == [-1, 0, 1]
    assert grad(lambda t: F.sum(F.maximum(t, 0.0)), x).data.tolist() == [0, 0.5, 1]
    assert grad(lambda t: F.sum(F.relu(t)), x).data.tolist() == [0, 0, 1]
    ties = Tensor(np.float32([3, 1, 3, 3]), B, True)
    np.testing.assert_array_equal(grad(F.max, ties).data, np.float32([1, 0, 1, 1]) * (np.float32(1) / np.float32(3)))


def test_what_a_rule_does_not_read_is_not_kept(B) -> None:
    x, z = (Tensor(np.ones((2, 2), np.float32), B, True) for _ in range(2))
    for y, kept in ((x + z, []), (x * z, [x, z]), (F.exp(x), []), (x.reshape(4), []), (F.log(x), [x])):
        assert [t for t in y.node.inputs if isinstance(t, Tensor)] == kept
