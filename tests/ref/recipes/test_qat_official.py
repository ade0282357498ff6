"""What the official codes of quantization-aware training gave on a CPU: values, masks and gradients of what is learned, recorded in `data`.

To record again: run the named class of the cited commit on `v` (and `g`) of each case; the file says which were transcribed because the
package needs what is not here. Values are compared in bits where both make the same roundings, else within the roundings that differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpref.accel import backend
from lpref.accel.reference import ReferenceBackend
from lpref.conformance.proves import proves
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Blocks, GradRule, Quantizer, Scale, quantize
from lpref.ref.recipes import Context
from lpref.ref.recipes.gradient import local_gradient
from lpref.ref.recipes.layer import Layer
from lpref.ref.recipes.learned import first_parameters
from lpref.ref.scaling.moments import moments_scales
from lpref.specs import recipe

from .layers import activations, weights

CASES = json.loads((Path(__file__).parent / "data" / "qat_official.json").read_text(encoding="utf-8"))["cases"]
OPS = ReferenceBackend("exact")
U = 2.0**-24
QUEST = {1: 0.7978845587140913, 2: 1.4935346200015913, 4: 2.513930578568423}
SAWB = {2: (2.6, -1.71), 4: (12.035, -12.03)}


def of(rule: str) -> Any:
    """The cases of a rule, as parameters."""
    return pytest.mark.parametrize("case", [c for c in CASES if c["rule"] == rule], ids=_name)


def _name(case: dict) -> str:
    return "-".join(str(case[key]) for key in ("bits", "delta", "alpha", "beta") if isinstance(case.get(key), (int, float)))


def array(case: dict, name: str) -> np.ndarray:
    found = case[name]
    return np.array([float.fromhex(x) for x in found["data"]], np.float32).reshape(found["shape"])


def pulled(q: Quantizer, v: np.ndarray, g: np.ndarray, params: dict | None = None) -> tuple[np.ndarray, np.ndarray, dict]:
    """(values, dv, gradients of parameters) of a quantizer, as a weight's."""
    layer = Layer(weights(q), Context(seed=1, step=1, site="h"), OPS, params or {})
    made = layer.made("fprop.b", v)
    dv, found = local_gradient(layer, "fprop.b", v, made.quantized).pull(g, OPS)
    return made.operand.dequantize(np.float32), dv, found


def close_sum(found: Any, want: np.ndarray, terms: np.ndarray, roundings: int) -> None:
    """A sum of `terms` with so many roundings each, whatever the order: |error| <= (n + roundings) u sum|terms|."""
    bound = (terms.size + roundings) * U * np.abs(terms).sum()
    assert (np.abs(np.asarray(found, np.float64) - want.astype(np.float64)) <= bound).all(), (found, want, bound)


@proves("recipe:lsq", "official")
@of("lsq")
def test_lsq(case: dict) -> None:
    v, g, step = array(case, "v"), array(case, "g"), array(case, "step")
    bits = case["bits"]
    q = Quantizer(f"int{bits}", Blocks(), Scale("learned"), narrow=False, gradient=GradRule("lsq"))
    out, dv, found = pulled(q, v, g, {"w_step": step})
    np.testing.assert_array_equal(out, array(case, "out"))
    np.testing.assert_array_equal(dv, array(case, "dv"))
    close_sum(found["w_step"], array(case, "dstep"), g * 2.0 ** (bits - 1) / np.sqrt(v.size * (2 ** (bits - 1) - 1)), 6)


@proves("recipe:quest", "official")
@of("quest")
def test_quest(case: dict) -> None:
    """The same levels; values within the roundings of a different order of operations; the same mask."""
    v, bits, out = array(case, "v"), case["bits"], array(case, "out")
    q = Quantizer(f"midrise{bits}", Blocks(1, None), Scale("moments", rms=QUEST[bits], eps=1e-8), gradient=GradRule("trust"))
    values, dv, _ = pulled(q, v, array(case, "g"))
    scale = quantize(v, q).scale_values()
    np.testing.assert_array_equal(np.rint(out / scale), np.rint(values / scale))
    # n step - step/2 rounds three times on magnitudes up to 2^b s; the mean of squares sums in another order (16 terms)
    assert (np.abs(values.astype(np.float64) - out) <= (2.0**bits + 1) * scale * 24 * U).all()
    np.testing.assert_array_equal(dv, array(case, "dv"))


@proves("recipe:quest_w1a1", "official")
def test_quest_at_one_bit() -> None:
    """The recipe's quantizer is the one whose case of one bit is checked above."""
    assert 1 in [case["bits"] for case in CASES if case["rule"] == "quest"]
    fprop = recipe("quest_w1a1").linear.fprop
    wanted = Quantizer("midrise1", Blocks(1, None), Scale("moments", rms=QUEST[1], eps=1e-8), gradient=GradRule("trust"))
    assert fprop.a.quantizer == wanted == fprop.b.quantizer


@proves("recipe:bitnet_b158", "official")
@of("bitnet_b158")
def test_bitnet(case: dict) -> None:
    """The same codes; values within the roundings of s and 1 / s in either order (a mean of 240 magnitudes, in another order, for weights)."""
    v, out = array(case, "v"), array(case, "out").astype(np.float64)
    t = quantize(v, recipe("bitnet_b158").linear.slot(case["slot"]).quantizer)
    np.testing.assert_array_equal(np.rint(out / t.scale_values()), t.element_values())
    sums = v.size if case["slot"] == "fprop.b" else 0
    assert (np.abs(t.dequantize(np.float32) - out) <= (6 + sums) * U * np.abs(out)).all()


@proves("recipe:llm_qat", "official")
@of("llm_qat")
def test_llm_qat(case: dict) -> None:
    v, out = array(case, "v"), array(case, "out")
    q = Quantizer(f"int{case['bits']}", Blocks(1, None), Scale("two_eps", eps=1e-6),
                  gradient=GradRule("clipped_ste", {"bounds": "exclusive", "limit": 2.0}))  # fmt: skip
    values, dv, _ = pulled(q, v, array(case, "g"))
    # a product with a rounded reciprocal against a quotient, and torch's 127 / t is 127 * (1 / t): six roundings
    assert (np.abs(values.astype(np.float64) - out) <= 6.01 * U * np.abs(out)).all()
    np.testing.assert_array_equal(dv, array(case, "dv"))
    assert (np.abs(v) >= 2).any()


@proves("recipe:efficientqat", "official")
@of("efficientqat")
def test_efficientqat(case: dict) -> None:
    v, g, bits = array(case, "v"), array(case, "g"), case["bits"]
    q = Quantizer(f"uint{bits}", Blocks(1, 8), Scale("learned"), gradient=GradRule("affine"))
    params = {"w_step": array(case, "step"), "w_zero": array(case, "zero")}
    out, dv, found = pulled(q, v, g, params)
    np.testing.assert_array_equal(out, array(case, "out"))
    want = array(case, "dv")  # g * s / s there
    np.testing.assert_array_equal(dv == 0, want == 0)
    assert (np.abs(dv.astype(np.float64) - want) <= 2.01 * U * np.abs(g)).all()
    assert (dv == 0).any()
    for i, j in np.ndindex(4, 2):
        part = g[i, 8 * j : 8 * j + 8]
        close_sum(found["w_step"][i, j], array(case, "dstep")[i, j], part * 2**bits, 8)
        close_sum(found["w_zero"][i, j], array(case, "dzero")[i, j], part * params["w_step"][i, j], 8)


@of("efficientqat")
def test_efficientqat_first_values(case: dict) -> None:
    """Groups that hold both signs: the same scales and zero points."""
    v = array(case, "v")
    q = Quantizer(f"uint{case['bits']}", Blocks(1, 8), Scale("learned"), gradient=GradRule("affine"))
    found = first_parameters(Layer(weights(q), Context(site="h"), OPS, {}), {"x": v, "w": v})
    np.testing.assert_array_equal(found["w_step"], array(case, "first_step"))
    np.testing.assert_array_equal(found["w_zero"], array(case, "first_zero"))


@proves("recipe:bitdistiller", "official")
@of("bitdistiller")
def test_bitdistiller(case: dict) -> None:
    """Its quotients have no ties here, where it rounds half away and affine half to even."""
    v = array(case, "v")
    q = Quantizer(f"uint{case['bits']}", Blocks(1, 16), Scale("affine"))
    np.testing.assert_array_equal(quantize(v, q).dequantize(np.float32), array(case, "out"))


@proves("recipe:ewgs", "official")
@of("ewgs")
def test_ewgs(case: dict) -> None:
    """Its values in [0, 1] are codes of a scale 1/15. The code's clamp lies outside of the discretizer; nothing here is at an end."""
    v, g = array(case, "v"), array(case, "g")
    q = Quantizer("uint4", Blocks(), Scale("constant", value=float(np.float32(1 / 15))), gradient=GradRule("ewgs", {"delta": case["delta"]}))
    layer = Layer(activations(q), Context(seed=1, step=1, site="h"), OPS, {})
    made = layer.made("fprop.a", v)
    np.testing.assert_array_equal(made.quantized.element_values(), np.rint(array(case, "out").astype(np.float64) * 15))
    dv, _ = local_gradient(layer, "fprop.a", v, made.quantized).pull(g, OPS)
    # errors of a code: v/s has 2 roundings of up to 15, the rest few of what is below 1
    assert (np.abs(dv.astype(np.float64) - array(case, "dv")) <= (4 + 40 * case["delta"]) * U * np.abs(g)).all()


@proves("recipe:dsq", "official")
@of("dsq")
def test_dsq(case: dict) -> None:
    """The soft curve's own derivative by torch, on a step of 1. tanh(z) near 1 leaves 1 - t^2 with an error of 2^-22 of the height."""
    v, alpha = array(case, "v"), case["alpha"]
    q = Quantizer("int4", Blocks(), Scale("constant"), narrow=False, gradient=GradRule("dsq", {"alpha": alpha}))
    _, dv, _ = pulled(q, v, array(case, "g"))
    height = np.log(2 / alpha - 1) / 2 / (1 - alpha)
    assert (np.abs(dv.astype(np.float64) - array(case, "dv")) <= height * 2.0**-19).all()


@proves("recipe:pact_sawb", "official")
@of("sawb")
def test_sawb(case: dict) -> None:
    v, bits, clip = array(case, "v"), case["bits"], array(case, "clip")
    rms, mean = SAWB[bits]
    scale = Scale("moments", rms=rms, mean=mean)
    q = Quantizer(f"int{bits}", Blocks(), scale)
    amax = np.abs(v).max().reshape(1, 1)
    found = moments_scales(v, v.shape, amax, format_named(q.format).max, scale).values[0, 0] * (2 ** (bits - 1) - 1)
    # two sums of 128 terms in other orders, under coefficients that nearly cancel
    size = rms * np.sqrt(np.mean(v.astype(np.float64) ** 2)) - mean * np.abs(v).mean()
    assert abs(float(found) - float(clip)) <= 140 * U * size
    out, step = array(case, "out"), float(clip) / (2 ** (bits - 1) - 1)
    np.testing.assert_array_equal(quantize(v, q).element_values(), np.rint(out / step))


@proves("recipe:pact_sawb", "official")
@of("pact")
def test_pact(case: dict) -> None:
    v, g, alpha = array(case, "v"), array(case, "g"), array(case, "alpha")
    q = Quantizer("uint4", Blocks(), Scale("learned"), gradient=GradRule("pact"))
    layer = Layer(activations(q), Context(seed=1, step=1, site="h"), OPS, {"x_alpha": alpha[0]})
    made = layer.made("fprop.a", v)
    values = made.quantized.dequantize(np.float32)
    assert (np.abs(values.astype(np.float64) - array(case, "out")) <= 4 * U * np.abs(values)).all()
    dv, found = local_gradient(layer, "fprop.a", v, made.quantized).pull(g, OPS)
    np.testing.assert_array_equal(dv, array(case, "dv"))
    close_sum(found["x_alpha"], array(case, "dalpha")[0], g, 2)


@proves("recipe:aqt", "official")
@of("aqt")
def test_aqt(case: dict) -> None:
    """amax goes to the edge of the last bucket; a multiplication by the scale there, a quotient here: no code lies within that of a tie."""
    v, bits = array(case, "v"), case["bits"]
    q = Quantizer(f"int{bits}", Blocks(1, None), Scale("amax", target=2.0 ** (bits - 1) - 0.5))
    got = quantize(v, q)
    np.testing.assert_array_equal(got.element_values(), array(case, "codes"))
    np.testing.assert_allclose(got.scale_values(), array(case, "scale"), rtol=4 * U)


@proves("recipe:bitdistiller", "official")
@of("cakld")
def test_cakld(case: dict) -> None:
    """Two sequences of three tokens: its sum over tokens, mean over sequences, is three times the mean over tokens."""
    from lpref.autodiff import Tensor
    from lpref.models.hooks import cakld

    ops = backend("cpu", "exact")
    teacher, student = array(case, "teacher"), Tensor(array(case, "student"), ops, requires_grad=True)
    loss = cakld(Tensor(teacher, ops), student, case["beta"])
    loss.backward()
    # exp, log and two sums of five terms below 8: a few dozen roundings on numbers of that size
    assert abs(3 * float(loss.item()) - float(array(case, "out"))) <= 64 * 8 * U
    assert (np.abs(3 * student.grad.astype(np.float64) - array(case, "dstudent")) <= 64 * 4 * U).all()
