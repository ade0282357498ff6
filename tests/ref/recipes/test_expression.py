"""Low-rank expressions in weight slots: values, gradients against differences of the frozen quantizer, and the limits that the pages name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lpref.accel.reference import ReferenceBackend
from lpref.ref.errors import SpecError
from lpref.ref.quantize import Blocks, GradRule, Quantizer, Scale
from lpref.ref.recipes import (
    Context,
    Expression,
    LinearRecipe,
    Recipe,
    Slot,
    layer_weight,
    linear_backward,
    linear_forward,
    linear_parameters,
)

from .layers import weights

OPS = ReferenceBackend("exact")
CTX = Context(seed=3, step=1, site="h")
Q = Quantizer("int4", Blocks(), Scale("learned", eps=1e-8), narrow=False, gradient=GradRule("lsq"))


def linear(place: str, alpha: float = 0.5) -> LinearRecipe:
    made = weights(Q)
    return replace(made, fprop=replace(made.fprop, b=Slot(quantizer=Q, expression=Expression(rank=2, alpha=alpha, place=place))))


def problem(seed: int = 0):
    rng = np.random.default_rng(seed)
    x, w, dy, b = (rng.standard_normal(s).astype(np.float32) for s in ((6, 8), (5, 8), (6, 5), (5, 2)))
    return x, w, dy, b


def test_first_factors() -> None:
    x, w, _, _ = problem()
    params = linear_parameters(x, w, linear("inside"), OPS, CTX)
    assert set(params) == {"w_step", "w_a", "w_b"}
    assert (params["w_b"] == 0).all()
    assert params["w_a"].shape == (2, 8)
    assert (np.abs(params["w_a"]) <= 8**-0.5).all()
    assert np.unique(params["w_a"]).size == 16
    again = linear_parameters(x, w, linear("inside"), OPS, replace(CTX, site="h.1"))
    assert (again["w_a"] != params["w_a"]).any()


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_b_zero_is_the_plain_layer(place: str) -> None:
    x, w, dy, _ = problem()
    params = linear_parameters(x, w, linear(place), OPS, CTX)
    y, saved = linear_forward(x, w, linear(place), CTX, OPS, params)
    plain, plain_saved = linear_forward(x, w, weights(Q), CTX, OPS, {"w_step": params["w_step"]})
    np.testing.assert_allclose(y, plain, rtol=0, atol=8 * 2.0**-24 * np.abs(x).max() * np.abs(w).max() * 8)
    if place == "inside":
        np.testing.assert_array_equal(y, plain)
        one, other = linear_backward(dy, saved, linear(place), CTX, OPS), linear_backward(dy, plain_saved, weights(Q), CTX, OPS)
        np.testing.assert_array_equal(one.dw, other.dw)
        np.testing.assert_array_equal(one.dparams["w_step"], other.dparams["w_step"])


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_gradients_of_the_factors(place: str) -> None:
    """dA = alpha B^T G, dB = alpha G A^T with G the masked dY^T X (inside) or the whole (outside); float64, bound by the sizes of the terms."""
    x, w, dy, b = problem(1)
    made = linear(place)
    params = {**linear_parameters(x, w, made, OPS, CTX), "w_b": b, "w_step": np.float32(0.2)}
    _, saved = linear_forward(x, w, made, CTX, OPS, params)
    grads = linear_backward(dy, saved, made, CTX, OPS)
    a64, b64 = params["w_a"].astype(np.float64), b.astype(np.float64)
    whole = dy.T.astype(np.float64) @ x
    seen = w + np.float32(0.5) * (b @ params["w_a"]) if place == "inside" else w
    ratio = seen / np.float32(0.2)
    inside = (ratio > -8) & (ratio < 7)
    assert not inside.all()
    g = np.where(inside, whole, 0) if place == "inside" else whole
    size = np.abs(dy.T).astype(np.float64) @ np.abs(x)
    for found, want, bound in (
        (grads.dparams["w_a"], 0.5 * b64.T @ g, np.abs(b64.T) @ size),
        (grads.dparams["w_b"], 0.5 * g @ a64.T, size @ np.abs(a64.T)),
    ):
        assert (np.abs(found - want) <= 32 * 2.0**-24 * bound).all()
    np.testing.assert_array_equal(grads.dw == 0, ~inside)


def test_outside_adds_to_the_quantized_weight() -> None:
    x, w, _, b = problem(2)
    made = linear("outside", alpha=1.0)
    params = {**linear_parameters(x, w, made, OPS, CTX), "w_b": b, "w_step": np.float32(0.2)}
    got = layer_weight(w, made, CTX, OPS, params)
    codes = np.clip(np.rint(w / np.float32(0.2)), -8, 7)
    want = (codes * float(np.float32(0.2))).astype(np.float32) + OPS.matmul(b, params["w_a"])
    np.testing.assert_array_equal(got, want)


def test_only_the_weight_slot_holds_an_expression() -> None:
    made = weights(Q)
    bad = replace(made, fprop=replace(made.fprop, a=Slot(expression=Expression(rank=2))))
    with pytest.raises(SpecError, match=r"fprop\.a\.expression"):
        Recipe("r", linear=bad)
    with pytest.raises(SpecError, match="rank: 0"):
        Expression(rank=0)
