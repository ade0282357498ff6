"""What the official code of the integer recipes gave on CPU, case by case (`official_integer.json`: source with lines, commit, how it was made).

Random parts: the official code was given the words, U = word / 2^16. It rounds towards plus infinity with the probability of the fraction, ours away
from zero; the word of a positive (for DQT) or negative (for SWALP) element is mirrored so that both decide alike.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lpref.accel import backend
from lpref.conformance.proves import proves
from lpref.ref.nn.integer_loss import integer_cross_entropy, shifted
from lpref.ref.nn.range_norm import constant, range_batch_norm
from lpref.ref.optim import OptimContext, Weights
from lpref.ref.optim.averaging import averaged
from lpref.ref.optim.weights import DefinedOps
from lpref.ref.quantize import Quantizer, Scale, quantize
from lpref.ref.recipes import Context, bits
from lpref.ref.recipes.linear import linear_backward, linear_forward
from lpref.ref.rounding.pseudo import pseudo_shift, round_shift
from lpref.specs import recipe

F = np.float32
CASES = json.loads(Path(__file__).with_name("official_integer.json").read_text(encoding="utf-8"))


def cases(kind: str):
    found = [case for case in CASES if case["kind"] == kind]
    assert found
    return pytest.mark.parametrize("case", found, ids=lambda c: f"{c.get('mode', '')}{c.get('mu', '')}{c.get('bits', '')}{c.get('exponent', '')}")


@proves("recipe:swalp", "official")
@cases("swalp")
def test_swalp_blocks(case: dict) -> None:
    """Codes of -128, which this page does not have, become -127; everything else is equal."""
    q = recipe("swalp").weights.stored
    x, words, want = np.asarray(case["x"], F), np.asarray(case["words"]), np.asarray(case["out"], F)
    matrix = x if x.ndim > 1 else x[None]
    words = np.where(matrix < 0, 65535 - words.reshape(matrix.shape), words.reshape(matrix.shape)).astype(np.uint32)
    if case["mode"] == "nearest":
        q = Quantizer(q.format, q.blocks, q.scale, tail="partial")
    t = quantize(matrix, q, words=words if case["mode"] == "stochastic" else None)
    top = 127 * t.scale_values()
    np.testing.assert_array_equal(t.dequantize(F), np.maximum(want.reshape(matrix.shape), -top))


@proves("recipe:swalp", "official")
@cases("average")
def test_swalp_average(case: dict) -> None:
    mean = np.ones(8, F)
    for n, (w, want) in enumerate(zip(case["weights"], case["out"], strict=True)):
        mean = averaged(mean, np.asarray(w, F), n + 1)
        np.testing.assert_array_equal(mean, np.asarray(want, F))


@proves("recipe:dqt", "official")
@cases("dqt")
def test_dqt_update(case: dict) -> None:
    """The stored weight after an update, with the grid of the weight before it (whose largest magnitude is positive here)."""
    bits = case["bits"]
    kept = Weights(stored=Quantizer(f"int{bits}", rounding="stochastic", word_bits=16, narrow=False, tail="partial"), grid="previous")
    old, new, want = (np.asarray(case[key], F) for key in ("old", "new", "out"))
    words = np.asarray(case["words"])
    words = np.where(new > 0, 65535 - words, words).astype(np.uint32)

    class Given(DefinedOps):
        @staticmethod
        def quantize(x, q, *, words, **more):
            return quantize(x, q, words=given.reshape(x.shape), **more)

    given = words
    stored, _ = kept.after("w", old, new, {}, OptimContext(0, 0), Given)
    np.testing.assert_array_equal(stored, want)


@proves("recipe:dqt", "official")
@cases("dqt_x")
def test_dqt_activations(case: dict) -> None:
    """The codes; torch makes s = 127 * (1 / amax) of the published line and divides by it, this page divides 127 and multiplies with fl32(1 / s)."""
    q = recipe("dqt").linear.fprop.a.quantizer
    x, want = np.asarray(case["x"], F), np.asarray(case["out"], F)
    t = quantize(x, q)
    s = F(127) * (F(1) / np.maximum(np.abs(x).max(axis=1, keepdims=True), F(1e-5)))
    np.testing.assert_array_equal(t.element_values().astype(F) / s, want)


@proves("recipe:niti", "official")
@cases("niti_act")
def test_niti_activations(case: dict) -> None:
    acc, want = np.asarray(case["acc"]), np.asarray(case["out"])
    np.testing.assert_array_equal(round_shift(acc, case["shift"]), want)
    t = quantize(acc.astype(F), recipe("niti").linear.fprop.a.quantizer)
    np.testing.assert_array_equal(t.element_values(), want)
    assert t.scale_values().tolist() == [[2.0 ** case["shift"]]]


@proves("recipe:niti", "official")
@cases("niti_grad")
def test_niti_gradients(case: dict) -> None:
    acc, want = np.asarray(case["acc"]), np.asarray(case["out"])
    np.testing.assert_array_equal(pseudo_shift(acc, case["shift"]), want)
    q = Quantizer("int8", scale=Scale("amax", pow2="up", target=2.0 ** case["mu"]))
    t = quantize(acc.astype(F), q)
    assert t.scale_values().tolist() == [[2.0 ** case["shift"]]]
    assert np.abs(t.element_values() - want).max() <= 1


@cases("niti_loss")
def test_niti_loss(case: dict) -> None:
    v, target, want = (np.asarray(case[key]) for key in ("v", "target", "out"))
    got = integer_cross_entropy(v, case["exponent"], target)
    np.testing.assert_array_equal(got, want)
    assert not got.sum(axis=1).any()


def test_the_last_shift_is_stochastic_rounding() -> None:
    """Over the 16 words the mean is the quotient less 1/2 word: StoShift rounds up where the fraction is above the word."""
    g = np.arange(-64, 65)
    mean = np.mean([shifted(g, np.full(g.shape, word)) for word in range(16)], axis=0)
    np.testing.assert_array_equal(mean, g / 16)


@proves("recipe:banner", "official")
@cases("banner")
def test_banner_activations(case: dict) -> None:
    """Codes; the published code divides by the step, this page multiplies with 255 / range, and both add the low end."""
    x, want = np.asarray(case["x"], F), np.asarray(case["out"], F)
    t = quantize(x, recipe("banner").linear.fprop.a.quantizer)
    low, high = F(case["low"]), F(case["high"])
    np.testing.assert_array_equal(t.element_values(), np.rint((want - low) / ((high - low) / F(255))))
    np.testing.assert_allclose(t.dequantize(F), want, rtol=0, atol=float(high - low) * 2**-21)


@cases("range_bn")
def test_range_batch_norm(case: dict) -> None:
    """The float32 operations of the published forward pass, sums in another order."""
    x, weight, bias, want = (np.asarray(case[key], F) for key in ("x", "weight", "bias", "out"))
    got = range_batch_norm(x, weight, bias)
    scale = 1 + np.abs(want)
    assert (np.abs(got - want) <= 32 * 2.0**-24 * scale * 8).all()


@pytest.mark.parametrize(("n", "share"), [(256, 0.92), (1024, 0.94), (4096, 0.96)])
def test_range_of_gaussians(n: int, share: float) -> None:
    rows = np.random.default_rng(n).standard_normal((256, n))
    estimate = (rows.max(axis=1).mean() - rows.min(axis=1).mean()) * constant(n)
    assert estimate == pytest.approx(share, abs=0.015)


def test_pseudo_rounding_is_not_stochastic_rounding() -> None:
    """Its page's mean: over all dropped bits, s even, a share of (2^(s/2) - 1) / 2^(s/2 + 1) goes up."""
    for s in (2, 4, 8):
        a = np.arange(1 << s)
        up = pseudo_shift(a, s).mean()
        assert up == (2 ** (s // 2) - 1) / 2 ** (s // 2 + 1)


@proves("recipe:sakr", "official")
@cases("sakr")
def test_bits_by_analysis(case: dict) -> None:
    """Ranges, steps and bits of 22 weight gradients and 20 activation gradients; two layers have no activation of their own (9 and 16)."""
    sigma = np.sqrt(np.asarray(case["variance_max"]))
    reach = [bits.gradient_range(float(s)) for s in sigma[:22]]
    wide = [bits.gradient_range(float(s), bits.ACTIVATION_REACH) for s in sigma[22:]]
    steps = [bits.weight_gradient_step(float(np.sqrt(v))) for v in case["variance_min"]]
    assert (reach, wide, steps) == (case["weight_range"], case["activation_range"], case["weight_step"])
    assert [bits.precision(r, s) for r, s in zip(reach, steps, strict=True)] == case["weight_bits"]
    kept = [s for i, s in enumerate(steps) if i not in (9, 16)]
    fine = [bits.activation_gradient_step(s, v) for s, v in zip(kept, case["singular"], strict=True)]
    assert fine == case["activation_step"]
    assert [bits.precision(r, s) for r, s in zip(wide, fine, strict=True)] == case["activation_bits"]


@proves("recipe:jetfire", "official")
@cases("jetfire")
def test_jetfire_blocks(case: dict) -> None:
    """Codes and scales; the kernel rounds |v| + U - 1/2 to nearest, which goes up with the same words."""
    linear, stochastic = recipe("jetfire").linear, case["mode"] == "stochastic"
    q = replace(linear.dgrad.a.quantizer, word_bits=16) if stochastic else linear.fprop.a.quantizer
    t = quantize(np.asarray(case["x"], F), q, words=np.asarray(case["words"], np.uint32) if stochastic else None)
    np.testing.assert_array_equal(t.element_values(), case["codes"])
    np.testing.assert_array_equal(t.scale_values(), np.asarray(case["scales"], F))


@proves("recipe:int8_switchback", "official")
@cases("switchback")
def test_switchback_rows(case: dict) -> None:
    """The kernel's round(127 (x / amax)), and the page's round(x / (amax / 127)), which differ only next to ties."""
    x = np.asarray(case["x"], F)
    np.testing.assert_array_equal(quantize(x, "int8_switchback").element_values(), case["codes"])
    np.testing.assert_array_equal(quantize(x, recipe("int8_switchback").linear.fprop.a.quantizer).element_values(), case["codes"])
    np.testing.assert_array_equal(np.abs(x).max(axis=1), np.asarray(case["maxima"], F))


@proves("recipe:hlq", "official")
@cases("hlq")
def test_hlq_operands(case: dict) -> None:
    """A magnitude goes up where U is below its fraction: the words are mirrored. The published scale is amax / q, and 1e-11 is lost beside it."""
    q, k_axis = replace(recipe("hlq").linear.slot(case["slot"]).quantizer, word_bits=16), 0 if case["slot"] == "wgrad.a" else 1
    t = quantize(np.asarray(case["x"], F), q, words=(65535 - np.asarray(case["words"])).astype(np.uint32), k_axis=k_axis)
    np.testing.assert_array_equal(t.element_values(), case["codes"])
    assert t.scale_values() == F(case["scale"])


@proves("recipe:hdqt", "official")
@cases("hdqt")
def test_hdqt_operands(case: dict) -> None:
    """A magnitude goes up where U is below its fraction: the words are mirrored."""
    q = recipe("hdqt").linear.slot(case["slot"]).quantizer
    words = (65535 - np.asarray(case["words"])).astype(np.uint32) if "words" in case else None
    t = quantize(np.asarray(case["x"], F), q if words is None else replace(q, word_bits=16), words=words)
    np.testing.assert_array_equal(t.element_values(), case["codes"])
    np.testing.assert_allclose(t.scale_values(), case["scale"], rtol=2**-22)


@proves("recipe:hdqt", "official")
@cases("hdqt_layer")
def test_hdqt_layer(case: dict) -> None:
    """All three products with every rounding to nearest; the matrices were drawn so that no transformed element is a tie."""
    clipped, plain = {"format": "int4", "scale": {"rule": "amax", "target": 7 / 0.975}}, {"format": "int4"}
    nearest = {f"linear.{path}.quantizer": q for path, q in (("dgrad.a", clipped), ("wgrad.a", clipped), ("wgrad.b", plain))}
    linear, ops = recipe({"base": "hdqt", "set": nearest}).linear, backend("reference", "exact")
    x, w, dy = (np.asarray(case[key], F) for key in ("x", "w", "dy"))
    y, kept = linear_forward(x, w, linear, Context(seed=1), ops)
    grads = linear_backward(dy, kept, linear, Context(seed=1), ops)
    for got, key in ((y, "y"), (grads.dx, "dx"), (grads.dw, "dw")):
        want = np.asarray(case[key], F)
        np.testing.assert_allclose(got, want, rtol=0, atol=2.0**-20 * np.abs(want).max())
