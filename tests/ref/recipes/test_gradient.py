"""Gradient rules: clipped STE and LSQ against their formulae, in float64, element by element."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lpref.accel.reference import ReferenceBackend
from lpref.ref import reduce
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Blocks, GradRule, Quantizer, Scale, quantize
from lpref.ref.quantize.elements import value_range
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
from lpref.ref.recipes.gradients.lsq import gradient_scale, step_derivative
from lpref.specs import recipe

OPS = ReferenceBackend("exact")
CTX = Context(seed=1, step=1, site="h")
LSQ = recipe("lsq").linear


def layer(m=12, n=10, k=16, seed=0):
    rng = np.random.default_rng(seed)
    x, w, dy = (rng.standard_normal(shape) for shape in ((m, k), (n, k), (m, n)))
    return x.astype(np.float32), w.astype(np.float32), dy.astype(np.float32)


def test_lsq_gradients_are_the_formula() -> None:
    """dx_hat and dw_hat from the quantized operands, masked; ds = c sum(d_hat phi), c = 1/sqrt(n Qp), n = features or elements."""
    x, w, dy = layer()
    params = {"x_step": np.float32(0.2), "w_step": np.float32(0.15)}
    y, saved = linear_forward(x, w, LSQ, CTX, OPS, params)
    grads = linear_backward(dy, saved, LSQ, CTX, OPS)
    hats = {}
    for name, v in (("x", x), ("w", w)):
        ratio = v / params[f"{name}_step"]
        inside = (ratio > -8) & (ratio < 7)
        hat = np.rint(np.clip(ratio, -8, 7)).astype(np.float64) * float(params[f"{name}_step"])
        phi = np.where(ratio <= -8, -8.0, np.where(ratio >= 7, 7.0, np.rint(ratio) - ratio))
        hats[name] = hat, inside, phi
        assert not inside.all(), "the test must clip something"
    u = 2.0**-24
    (xq, x_in, _), (wq, w_in, _) = hats["x"], hats["w"]
    checks = [(y, xq, wq.T, None), (grads.dx, dy, wq, x_in), (grads.dw, dy.T, xq, w_in)]
    for found, a, b, inside in checks:
        a = a.astype(np.float64)
        exact = a @ b if inside is None else np.where(inside, a @ b, 0)
        bound = (a.shape[1] + 5) * u * 1.01 * (np.abs(a) @ np.abs(b))
        assert (np.abs(found - exact) <= bound).all()
    for name, upstream, n in (("x", dy.astype(np.float64) @ hats["w"][0], x.shape[1]), ("w", dy.T.astype(np.float64) @ hats["x"][0], w.size)):
        phi = hats[name][2]
        c = 1 / math.sqrt(n * 7)
        size = np.abs(phi * (np.abs(dy) @ np.abs(hats["w"][0]) if name == "x" else np.abs(dy.T) @ np.abs(hats["x"][0]))).sum()
        bound = c * (dy.shape[0] + dy.shape[1] + phi.size + 8) * u * size
        assert abs(float(grads.dparams[f"{name}_step"]) - c * float((upstream * phi).sum())) <= bound


def test_step_gradient_is_the_derivative_between_transitions() -> None:
    """v_hat = s round(v / s) has d v_hat / ds = code - v / s where round passes its gradient straight through, so phi + v / s is the code."""
    v = (np.arange(-768, 769) / 256).astype(np.float32)
    s = np.float32(0.25)
    ratio = v / s
    phi = step_derivative(ratio, np.float32(-8.0), np.float32(7.0), OPS)
    codes = quantize(v[None], Quantizer("int4", scale=Scale("learned"), narrow=False), state={"scale": s}).element_values()[0]
    inside = (ratio > -8) & (ratio < 7)
    np.testing.assert_array_equal((phi + ratio)[inside], codes[inside])
    np.testing.assert_array_equal(phi[~inside], codes[~inside])
    assert np.abs(phi[inside]).max() == 0.5  # a sawtooth: zero on grid points, largest at the transitions
    assert (phi[v == 1.0] == 0).all()


def test_initial_step_and_gradient_scale() -> None:
    x, w, _ = layer()
    made = linear_parameters(x, w, LSQ, OPS)
    assert set(made) == {"x_step", "w_step"}
    for name, v in (("x", x), ("w", w)):
        mean = reduce.tree_sum(np.abs(v).reshape(-1)) / np.float32(v.size)
        assert made[f"{name}_step"] == mean * np.float32(2 / math.sqrt(7))
    q = LSQ.fprop.a.quantizer
    assert gradient_scale(q, "x", (12, 16)) == 1 / math.sqrt(16 * 7)
    assert gradient_scale(q, "w", (10, 16)) == 1 / math.sqrt(160 * 7)
    assert gradient_scale(replace(q, gradient=GradRule("lsq", {"count": "numel"})), "x", (12, 16)) == 1 / math.sqrt(192 * 7)
    assert linear_parameters(np.zeros_like(x), w, LSQ, OPS)["x_step"] > 0
    assert linear_parameters(x, w, recipe("nvfp4").linear, OPS) == {}


def test_eight_bit_variant_for_the_last_layer() -> None:
    linear = recipe("lsq").for_layer("head", "head")
    assert linear.fprop.b.quantizer.format == "int8"
    assert value_range(linear.fprop.b.quantizer, format_named(linear.fprop.b.quantizer.format)) == (-128.0, 127.0)


@pytest.mark.parametrize(("bounds", "edge"), [("inclusive", 1.0), ("exclusive", 0.0)])
def test_clipped_ste_masks_what_saturates(bounds: str, edge: float) -> None:
    rule = GradRule("clipped_ste", {"bounds": bounds})
    q = Quantizer("e2m1", Blocks(), Scale("constant", value=0.5), gradient=rule)
    linear = LinearRecipe(
        fprop=GemmSpec(a=Slot(quantizer=q)), dgrad=GemmSpec(epilogue=(Epilogue("mask", mask="m"),)),
        wgrad=GemmSpec(b=Slot("requant", "codes")),
        save={"codes": Saved("codes", "fprop.a"), "w": Saved("reference"), "m": Saved("mask", "fprop.a")},
    )  # fmt: skip
    x = np.float32([[0.1, 2.9, 3.0, 3.1, -3.0, -50.0]])
    w = np.ones((1, 6), np.float32)
    _, saved = linear_forward(x, w, linear, CTX, OPS)
    grads = linear_backward(np.float32([[2.0]]), saved, linear, CTX, OPS)
    np.testing.assert_array_equal(grads.dx, [[2, 2, 2 * edge, 0, 2 * edge, 0]])
    np.testing.assert_array_equal(grads.dw, np.float32([[0, 6, 6, 6, -6, -6]]))
