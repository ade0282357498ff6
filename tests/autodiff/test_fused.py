"""Fused primitives: the fast pair is differentiable calculus, and equals the composite to rounding."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.autodiff import Tensor, check_grads, grad
from lpref.autodiff import functional as F
from lpref.autodiff.check import weights
from lpref.autodiff.fused.activation import GELU, RELU, SILU, SWIGLU, SWIGLU_PACKED
from lpref.autodiff.fused.attention import ATTENTION, ATTENTION_PACKED
from lpref.autodiff.fused.linear import LINEAR
from lpref.autodiff.fused.loss import CROSS_ENTROPY
from lpref.autodiff.fused.norm import LAYERNORM, RMSNORM
from lpref.ref.linalg import HighPrecision
from lpref.ref.nn import rope_tables

TARGETS = np.array([[3, 0], [1, 1]])
U = 2.0**-53
ROTARY = rope_tables(3, 4, dtype=np.float64)
ELEMENTARY = 1e-13  # relative accuracy of ref.elementary in float64

# name -> (fused, parameters, shapes, longest sum)
CASES = {
    "relu": (RELU, {}, [(3, 4)], 1),
    "silu": (SILU, {}, [(3, 4)], 1),
    "gelu tanh": (GELU, {"kind": "tanh"}, [(3, 4)], 1),
    "gelu erf": (GELU, {"kind": "erf"}, [(3, 4)], 1),
    "swiglu": (SWIGLU, {}, [(2, 2, 3), (2, 2, 3)], 1),
    "swiglu_packed": (SWIGLU_PACKED, {}, [(2, 2, 6)], 1),
    "rmsnorm": (RMSNORM, {"eps": 1e-5}, [(2, 3, 5), (5,)], 6),
    "layernorm": (LAYERNORM, {"eps": 1e-5}, [(2, 3, 5), (5,), (5,)], 6),
    "softmax_cross_entropy": (CROSS_ENTROPY, {"targets": TARGETS}, [(2, 2, 4)], 4),
    "attention": (ATTENTION, {"causal": True, "scale": 0.5}, [(1, 2, 3, 4)] * 3, 4),
    "attention, grouped heads, not causal": (
        ATTENTION, {"causal": False, "scale": 0.7}, [(1, 4, 2, 3), (1, 2, 3, 3), (1, 2, 3, 3)], 6,
    ),
    "attention, more keys than queries": (
        ATTENTION, {"causal": True, "scale": 0.7}, [(1, 2, 2, 3), (1, 1, 4, 3), (1, 1, 4, 3)], 6,
    ),
    "attention_packed": (
        ATTENTION_PACKED, {"batch": 2, "heads": 2, "kv_heads": 1, "rotary": ROTARY, "causal": True, "scale": 0.5}, [(6, 16)], 4,
    ),
    "attention_packed, positions not rotated": (
        ATTENTION_PACKED, {"batch": 1, "heads": 2, "kv_heads": 2, "rotary": None, "causal": False, "scale": 0.5}, [(3, 18)], 4,
    ),
    "linear": (LINEAR, {}, [(2, 3, 4), (5, 4)], 6),
}  # fmt: skip


def arguments(tensor, shapes):
    return [tensor(s, seed=i) for i, s in enumerate(shapes)]


@pytest.mark.parametrize("name", CASES)
def test_first_and_second_order(name, tensor) -> None:
    fused, params, shapes, _ = CASES[name]
    check_grads(lambda *args: fused(*args, **params), arguments(tensor, shapes), order=2, coordinates=6)


@pytest.mark.parametrize("name", CASES)
def test_fast_pair_equals_the_composite(name, tensor) -> None:
    """Both are sequences of at most 12 dependent operations and 4 elementary functions on values below 16."""
    fused, params, shapes, longest = CASES[name]
    args = arguments(tensor, shapes)
    fast, slow = fused(*args, **params), fused.composite(*args, **params)
    assert fast.node.op is fused
    assert slow.node.op is not fused
    bound = 16.0 * ((12 + longest) * U + 4 * ELEMENTARY)
    np.testing.assert_allclose(fast.data, slow.data, rtol=0, atol=bound)
    seed = weights(fast)
    again = grad(fused(*args, **params), args, seed=seed, create_graph=True)
    assert any(g.requires_grad for g in again) or fused is RELU
    for a, b, c in zip(grad(fast, args, seed=seed), grad(slow, args, seed=seed), again, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=0, atol=bound)
        np.testing.assert_array_equal(b.data, c.data)


def test_conv2d_against_the_definition(tensor) -> None:
    x, w = tensor((2, 3, 5, 4)), tensor((4, 3, 3, 2), seed=1)
    y = F.conv2d(x, w, stride=2, padding=1)
    padded = np.pad(x.data, ((0, 0), (0, 0), (1, 1), (1, 1)))
    want = np.zeros(y.shape)
    for n, o, i, j in np.ndindex(*y.shape):
        want[n, o, i, j] = (padded[n, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 2] * w.data[o]).sum()
    np.testing.assert_allclose(y.data, want, rtol=0, atol=18 * U * 18 * 1.5**2)  # gamma_18 Σ|x||w|, Higham 2002, 3.1
    check_grads(lambda x, w, b: F.conv2d(x, w, stride=2, padding=1, bias=b),
                [x, w, tensor((4,), seed=2)], order=2, coordinates=6)  # fmt: skip


def test_bias_and_leading_axes(tensor) -> None:
    check_grads(
        lambda x, w, b: F.linear(x, w, bias=b),
        [tensor((2, 2, 3)), tensor((4, 3), seed=1), tensor((4,), seed=2)],
        order=2,
    )


def test_high_precision_linear_is_the_gemm(B) -> None:
    rng = np.random.default_rng(0)
    x, w = (Tensor(rng.standard_normal(s).astype(np.float32), B) for s in ((7, 33), (5, 33)))
    np.testing.assert_array_equal(F.linear(x, w).data, B.gemm(HighPrecision(x.data, 1), HighPrecision(w.data, 1)))
