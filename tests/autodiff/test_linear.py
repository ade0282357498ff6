"""The linear layer under a recipe: the recipe's bits, its gradient rule, checkpointing, learned parameters."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lpref.autodiff import Tensor, check_grads, checkpoint, grad
from lpref.autodiff import functional as F
from lpref.ref.errors import GraphError, WordsError
from lpref.ref.quantize import quantize
from lpref.ref.quantize.registry import QUANTIZERS
from lpref.ref.recipes import (
    Context,
    Epilogue,
    GemmSpec,
    LinearRecipe,
    Saved,
    Slot,
    linear_backward,
    linear_forward,
    linear_parameters,
)
from lpref.specs import recipe

MX = QUANTIZERS["mxfp8_e4m3"]
SR = dataclasses.replace(QUANTIZERS["mxfp4"], rounding="stochastic", tail="pad_zero")
INT8 = QUANTIZERS["int8_tensor"]
LSQ = dataclasses.replace(QUANTIZERS["int4_learned"], gradient=dataclasses.replace(INT8.gradient, kind="lsq"))

STOCHASTIC = LinearRecipe(*[GemmSpec(Slot(quantizer=SR), Slot(quantizer=SR)) for _ in range(3)])
# forward on int8 codes of whole tensors, backward on the very same codes, dY in high precision: the straight-through rule
STRAIGHT_THROUGH = LinearRecipe(
    GemmSpec(Slot(quantizer=INT8), Slot(quantizer=INT8)),
    GemmSpec(Slot(), Slot("reuse_transposed", of="w")),
    GemmSpec(Slot(), Slot("reuse_transposed", of="x")),
    {"x": Saved("codes", of="fprop.a"), "w": Saved("codes", of="fprop.b")},
)
LEARNED = LinearRecipe(
    GemmSpec(Slot(quantizer=LSQ), Slot(quantizer=LSQ)),
    GemmSpec(Slot(), Slot("reuse_transposed", of="w"), epilogue=(Epilogue("mask", mask="x_mask"),)),
    GemmSpec(Slot(), Slot("reuse_transposed", of="x"), epilogue=(Epilogue("mask", mask="w_mask"),)),
    {
        "x": Saved("codes", of="fprop.a"), "w": Saved("codes", of="fprop.b"),
        "x_mask": Saved("mask", of="fprop.a"), "w_mask": Saved("mask", of="fprop.b"),
    },
)  # fmt: skip


def data(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def leaves(B, *shapes):
    return [Tensor(data(*s, seed=i), B, True) for i, s in enumerate(shapes)]


def test_it_is_the_recipe_to_the_bit(B) -> None:
    x, w = leaves(B, (2, 3, 40), (5, 40))
    ctx = Context(seed=3, step=7, site="h.0.mlp.up")
    dy = data(2, 3, 5, seed=9)
    y, saved = linear_forward(x.data.reshape(6, 40), w.data, STOCHASTIC, ctx, B)
    want = linear_backward(dy.reshape(6, 5), saved, STOCHASTIC, ctx, B)
    got = F.linear(x, w, recipe=STOCHASTIC, ctx=ctx)
    got.backward(dy)
    np.testing.assert_array_equal(got.data, y.reshape(2, 3, 5))
    np.testing.assert_array_equal(x.grad, want.dx.reshape(2, 3, 40))
    np.testing.assert_array_equal(w.grad, want.dw)
    other = F.linear(x, w, recipe=STOCHASTIC, ctx=dataclasses.replace(ctx, step=8))
    assert (other.data != got.data).any()


def test_straight_through_is_the_derivative_with_codes_frozen(B) -> None:
    """Surrogate: y = (x + c)(w + d)ᵀ with c = Q(x) − x, d = Q(w) − w held constant. Integer data: every step is exact."""
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-127, 128, s).astype(np.float32) for s in ((6, 8), (5, 8)))
    x[0, 0] = w[0, 0] = 127  # amax 127: scale 1
    x[1:, 1], w[2:, 3] = 3.25, -1.5  # not on the grid
    dy = rng.integers(-8, 9, (6, 5)).astype(np.float32)
    a, b = Tensor(x, B, True), Tensor(w, B, True)
    y = F.linear(a, b, recipe=STRAIGHT_THROUGH, ctx=Context())
    dx, dw = grad(y, [a, b], seed=dy)

    xq, wq = (quantize(t, INT8).dequantize() for t in (x, w))
    c, d = xq - x, wq - w
    surrogate = lambda a, b: F.linear(a + c, b + d)  # noqa: E731
    x64, w64 = (Tensor(t.astype(np.float64), B, True) for t in (x, w))
    check_grads(surrogate, [x64, w64], order=2, coordinates=6)
    np.testing.assert_array_equal(y.data, surrogate(x64, w64).data)
    for got, want in zip((dx, dw), grad(surrogate(x64, w64), [x64, w64], seed=dy.astype(np.float64)), strict=True):
        np.testing.assert_array_equal(got.data, want.data)
    np.testing.assert_array_equal(dx.data, dy @ wq)
    assert (c != 0).any()
    assert (d != 0).any()


def test_learned_steps_get_the_gradient_of_the_rule(B) -> None:
    """ds = c Σ dv̂ φ (LSQ eq. 3): dv̂ flows to the step where it flows to the tensor's quantized value."""
    x, w = leaves(B, (6, 8), (5, 8))
    params = {
        k: Tensor(np.asarray(v, np.float32), B, True) for k, v in linear_parameters(x.data, w.data, LEARNED, B).items()
    }
    assert set(params) == {"x_step", "w_step"}
    dy = data(6, 5, seed=4)
    y = F.linear(x, w, recipe=LEARNED, ctx=Context(), params=params)
    got = grad(y, {"x": x, "w": w, **params}, seed=dy)
    assert got["x_step"].shape == params["x_step"].shape
    steps = {k: float(p.data) for k, p in params.items()}
    hat = {
        k: quantize(t.data, LSQ, state={"scale": params[f"{k}_step"].data}).dequantize()
        for k, t in (("x", x), ("w", w))
    }
    upstream = {"x": dy.astype(np.float64) @ hat["w"], "w": dy.astype(np.float64).T @ hat["x"]}
    low, high = -8.0, 7.0
    for k, t, n in (("x", x, x.shape[-1]), ("w", w, w.size)):
        ratio = t.data.astype(np.float64) / steps[f"{k}_step"]
        phi = np.where(ratio <= low, low, np.where(ratio >= high, high, np.rint(ratio) - ratio))
        terms = upstream[k] * phi / np.sqrt(n * high)
        # rounding: sums of ≤ 8 products upstream, ratio, φ, product, 48 terms, scale: each step one float32 rounding
        bound = (8 + 48 + 6) * 2.0**-24 * (np.abs(upstream[k]) * 8).sum() / np.sqrt(n * high)
        assert abs(float(got[f"{k}_step"].data) - terms.sum()) <= bound
        outside = (ratio <= low) | (ratio >= high)
        assert (got[k].data[outside] == 0).all()


def test_checkpoint_sees_the_same_words_and_observes_once(B) -> None:
    def run(wrap):
        x, w = leaves(B, (4, 32), (32, 32))
        ctx = Context(seed=1, step=2, observed={}, collect=True)

        def layer(t):
            h = F.silu(F.linear(t, w, recipe=STOCHASTIC, ctx=ctx.at("up")))
            return F.linear(h, w, recipe=STOCHASTIC, ctx=ctx.at("down"))

        y = wrap(layer, x)
        F.sum(y * y).backward()
        return [y.data, x.grad, w.grad], ctx.observed

    plain, seen = run(lambda fn, x: fn(x))
    again, seen_again = run(checkpoint)
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert set(seen) == {f"{s}/{g}/{o}" for s in ("up", "down") for g in ("fprop", "dgrad", "wgrad") for o in "ab"}
    for key, values in seen.items():
        assert seen_again[key].keys() == values.keys(), key
        for name, value in values.items():
            np.testing.assert_array_equal(seen_again[key][name], value, err_msg=f"{key} {name}")


def test_memory_is_the_recipes(B) -> None:
    """The node keeps what the recipe saves: codes, not inputs."""
    x, w = leaves(B, (4, 32), (32, 32))
    h = x * 2.0
    y = F.linear(h, w, recipe=STRAIGHT_THROUGH, ctx=Context())
    assert not any(isinstance(v, Tensor) for v in y.node.inputs)
    assert set(y.node.saved.entries) == {"x", "w"}


def test_no_second_order_through_rounding(B) -> None:
    x, w = leaves(B, (4, 32), (32, 32))
    with pytest.raises(
        GraphError, match="under a recipe has no second derivative; differentiate the model built with recipe None"
    ):
        grad(F.sum(F.linear(x, w, recipe=STOCHASTIC, ctx=Context())), [x], create_graph=True)
    assert F.linear(x, w, recipe=LinearRecipe(), ctx=Context()).node.op.name == "linear"


def test_a_recipe_needs_a_context(B) -> None:
    x, w = leaves(B, (4, 32), (32, 32))
    with pytest.raises(WordsError, match="needs a Context"):
        F.linear(x, w, recipe=STOCHASTIC)


def test_conv2d_under_a_recipe(B) -> None:
    """The same as im2col by hand."""
    x, w = leaves(B, (2, 3, 5, 5), (4, 3, 3, 3))
    ctx = Context(seed=5, site="conv")
    y = F.conv2d(x, w, padding=1, recipe=STOCHASTIC, ctx=ctx)
    columns = B.im2col(x.data, 3, 3, 1, 1)
    want, _ = linear_forward(columns, w.data.reshape(4, -1), STOCHASTIC, ctx, B)
    np.testing.assert_array_equal(y.data, want.reshape(2, 5, 5, 4).transpose(0, 3, 1, 2))
    F.sum(y).backward()
    assert x.grad.shape == x.shape
    assert w.grad.shape == w.shape


def test_a_bias_is_added_before_the_product_is_rounded(B) -> None:
    """And its gradient is the sum of dY rounded to bfloat16 where that is all that products read of it, else of dY; dx and dw know no bias."""
    x, w, bias = leaves(B, (2, 3, 32), (5, 32), (5,))
    dy = data(2, 3, 5, seed=9) * np.float32(1.001)
    ctx = Context(seed=3, step=7, site="h.0.mlp.up")
    for name, rounded in (("bf16", True), ("nvfp4", False), ("mxfp8", False)):
        rule = recipe(name).linear
        alone = F.linear(x, w, recipe=rule, ctx=ctx)
        y = F.linear(x, w, recipe=rule, ctx=ctx, bias=bias)
        sums = alone.data + bias.data
        if rule.fprop.output != "float32":
            a, b = (B.operand(t, slot.quantizer, k_axis=1) for t, slot in ((x.data.reshape(6, 32), rule.fprop.a), (w.data, rule.fprop.b)))
            sums = B.cast(B.gemm(a, b, rule.fprop.accumulate) + B.cast(bias.data, rule.fprop.output), rule.fprop.output).reshape(2, 3, 5)
        np.testing.assert_array_equal(y.data, sums)
        got, want = grad(y, [x, w, bias], seed=dy), grad(alone, [x, w], seed=dy)
        np.testing.assert_array_equal(got[0].data, want[0].data)
        np.testing.assert_array_equal(got[1].data, want[1].data)
        read = B.cast(dy, "bfloat16") if rounded else dy
        np.testing.assert_array_equal(got[2].data, B.tree_sum(read.reshape(6, 5), axis=0))
