"""Published code of older frameworks against the recipes: TensorFlow 1 under tensorflow.compat.v1, Theano under PyTensor, Torch 7 transcribed.

`official_older.json` says for every case which lines at which commit ran, and what was changed for it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lpref.accel import backend
from lpref.conformance.proves import proves
from lpref.ref.optim import OptimContext
from lpref.ref.optim.weights import DefinedOps
from lpref.ref.quantize import quantize
from lpref.ref.recipes import Context
from lpref.ref.recipes.linear import linear_backward, linear_forward
from lpref.specs import recipe

F = np.float32
CASES = json.loads(Path(__file__).with_name("official_older.json").read_text(encoding="utf-8"))


def cases(kind: str):
    return pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == kind], ids=lambda c: str(c.get("lr", "")))


@proves("recipe:wage", "official")
@cases("wage")
def test_wage_operands(case: dict) -> None:
    linear = recipe("wage").linear
    x, w, e = (np.asarray(case[key], F) for key in ("x", "w", "e"))
    np.testing.assert_array_equal(quantize(x, linear.fprop.a.quantizer).dequantize(F), np.asarray(case["xq"], F))
    t = quantize(w, linear.fprop.b.quantizer)
    assert w.shape[1] == 40  # alpha(40) is 2
    np.testing.assert_array_equal(t.dequantize(F) * F(2) / F(case["alpha"]), np.asarray(case["wq"], F))
    dy = quantize(e, linear.dgrad.a.quantizer)
    np.testing.assert_array_equal(dy.dequantize(F), np.asarray(case["eq"], F) * F(case["shift"]))


@proves("recipe:wage", "official")
@cases("wage_g")
def test_wage_update(case: dict) -> None:
    """frac > rand goes up: the word is mirrored, as in the other official cases."""
    kept = recipe("wage").weights
    g, words = np.asarray(case["g"], F), np.asarray(case["words"])

    class Given(DefinedOps):
        @staticmethod
        def quantize(x, q, *, words, **more):
            return quantize(x, q, words=given if q.rounding == "stochastic" else None, **more)

    given = (65535 - words).astype(np.uint32)
    ctx = OptimContext(0, 0, lr=case["lr"], peak=8.0)
    got = kept.before("w", np.zeros_like(g), g, {}, ctx, Given)
    np.testing.assert_array_equal(got, np.asarray(case["out"], F))


@proves("recipe:wageubn", "official")
@cases("wageubn")
def test_wageubn_errors(case: dict) -> None:
    got = quantize(np.asarray(case["x"], F), recipe("wageubn").linear.dgrad.a.quantizer).dequantize(F)
    np.testing.assert_array_equal(got, np.asarray(case["out"], F))


@proves("recipe:wageubn", "official")
@cases("wageubn_w")
def test_wageubn_weights(case: dict) -> None:
    got = quantize(np.asarray(case["x"], F), recipe("wageubn").linear.fprop.b.quantizer).dequantize(F)
    np.testing.assert_array_equal(got, np.asarray(case["out"], F))


@proves("recipe:binaryconnect", "official")
@cases("binaryconnect")
def test_binaryconnect_weights(case: dict) -> None:
    """H = 1 there; here a power of two stands in front of the same signs. No weight is 0, whose sign the rounding of the framework decides."""
    t = quantize(np.asarray(case["x"], F), recipe("binaryconnect").linear.fprop.b.quantizer)
    np.testing.assert_array_equal(t.element_values(), np.asarray(case["out"], F))


@proves("recipe:binaryconnect", "official")
@cases("binaryconnect_clip")
def test_binaryconnect_clips_after_the_update(case: dict) -> None:
    old, new = np.asarray(case["old"], F), np.asarray(case["new"], F)
    ctx = OptimContext(0, 0, lr=1.0, peak=1.0)
    got, _ = recipe("binaryconnect").weights.after("w", old, new, {}, ctx, DefinedOps)
    np.testing.assert_array_equal(got, np.asarray(case["out"], F))


@proves("recipe:bnn", "official")
@cases("bnn")
def test_bnn_layer(case: dict) -> None:
    """H = 1 there; here Y and dX have a power of two of the fan-in, and dW has not. No |x| is 1, where the masks differ."""
    x, w, dy = (np.asarray(case[key], F) for key in ("x", "w", "dy"))
    linear = recipe("bnn").linear
    h = quantize(w, linear.fprop.b.quantizer).scale_values()[0, 0]
    ops = backend("reference", "exact")
    y, kept = linear_forward(x, w, linear, Context(seed=1), ops)
    grads = linear_backward(dy, kept, linear, Context(seed=1), ops)
    np.testing.assert_array_equal(y, np.asarray(case["y"], F) * h)
    np.testing.assert_allclose(grads.dx, np.asarray(case["dx"], F) * h, rtol=0, atol=8 * 2.0**-24 * np.abs(dy).sum(axis=1).max())
    np.testing.assert_allclose(grads.dw, np.asarray(case["dw"], F), rtol=0, atol=8 * 2.0**-24 * np.abs(dy).sum(axis=0).max())


@proves("recipe:xnor_net", "vectors")
@cases("xnor")
def test_xnor_weights_and_their_slope(case: dict) -> None:
    """The code multiplies the slope by 1 - 1 / C more, for weights that it centers along the C input channels first."""
    w, wb, factor = (np.asarray(case[key], F) for key in ("w", "wb", "factor"))
    q = recipe("xnor_net").linear.fprop.b.quantizer
    t = quantize(w, q)
    np.testing.assert_array_equal(t.element_values(), np.sign(wb))
    np.testing.assert_allclose(t.dequantize(F), wb, rtol=w.shape[1] * 2.0**-24)
    alpha = np.where(np.abs(w) < 1, t.scale_values(), F(0))
    np.testing.assert_allclose((alpha + F(1 / w.shape[1])) * (1 - 1 / case["channels"]), factor, rtol=(w.shape[1] + 4) * 2.0**-24)


@proves("recipe:dorefa", "official")
@cases("dorefa_g")
def test_dorefa_gradients(case: dict) -> None:
    """The published line adds noise of half a step before it rounds: up with the same words. Values differ in the last bits."""
    x, want = np.asarray(case["x"], F), np.asarray(case["out"], F)
    t = quantize(x, recipe("dorefa").linear.dgrad.a.quantizer, words=np.asarray(case["words"], np.uint32))
    m = np.abs(x).max(axis=1, keepdims=True)
    np.testing.assert_array_equal(t.element_values(), np.rint((want / m / 2 + F(0.5)) * 63))
    np.testing.assert_allclose(t.dequantize(F), want, rtol=0, atol=float(m.max()) * 2**-21)


@proves("recipe:dorefa", "official")
@cases("dorefa_a")
def test_dorefa_activations(case: dict) -> None:
    x, want = np.asarray(case["x"], F), np.asarray(case["out"], F)
    t = quantize(x, recipe("dorefa").linear.fprop.a.quantizer)
    np.testing.assert_array_equal(t.element_values(), np.rint(want * 3))


@proves("recipe:dorefa", "official")
@cases("dorefa_w")
def test_dorefa_weights(case: dict) -> None:
    """One mean magnitude; TensorFlow sums in another order."""
    x, want = np.asarray(case["x"], F), np.asarray(case["out"], F)
    got = quantize(x, recipe("dorefa").linear.fprop.b.quantizer).dequantize(F)
    np.testing.assert_array_equal(np.sign(got), np.sign(want))
    np.testing.assert_allclose(got, want, rtol=x.size * 2.0**-24, atol=0)
