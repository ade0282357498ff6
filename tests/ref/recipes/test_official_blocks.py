"""What the published codes of Accuracy Booster, MuPPET, SAWB and gradual 1.58-bit training gave on a CPU, recorded in `data/official_blocks.json`.

Inputs, outputs, commit and function stand there; random parts were given the values that stand for our words. Values are equal in bits but for the
fade, where the code computes on the scaled side.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lpref.accel import backend
from lpref.conformance.proves import proves
from lpref.ref.quantize import quantize
from lpref.ref.recipes.change import in_force
from lpref.ref.recipes.controllers import Clock, Seen, kind_of
from lpref.specs import recipe

F = np.float32
KEPT = json.loads((Path(__file__).parent / "data" / "official_blocks.json").read_text(encoding="utf-8"))


def array(kept: dict) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(kept["f32"]), F).reshape(kept["shape"])


def of(name: str):
    return pytest.mark.parametrize("case", [c for c in KEPT["cases"] if c["recipe"] == name])


def values(case: dict, linear: object) -> np.ndarray:
    words = np.frombuffer(bytes.fromhex(case["words"]["u16"]), "<u2").reshape(case["words"]["shape"]).astype(np.uint32)
    return quantize(array(case["x"]), linear.slot(case["slot"]).quantizer, words=words).dequantize(F)


@proves("recipe:accuracy_booster", "official")
@of("accuracy_booster")
def test_accuracy_booster(case: dict) -> None:
    booster = recipe("accuracy_booster")
    linear = booster.variants[case["variant"]] if case["variant"] else booster.linear
    np.testing.assert_array_equal(values(case, linear), array(case["out"]))
    if case["variant"]:
        np.testing.assert_array_equal(values(case, booster.at(99, 100).linear), array(case["out"]))


@proves("recipe:muppet", "official")
@of("muppet")
def test_muppet_operands(case: dict) -> None:
    levels = kind_of(recipe("muppet").controllers[0]).levels
    now = in_force(recipe("muppet"), [levels[{8: 0, 12: 1, 16: 3}[case["bits"]]]])
    np.testing.assert_array_equal(values(case, now.linear), array(case["out"]))
    assert replace(now.weights.gradient, tail="error") == replace(now.linear.slot(case["slot"]).quantizer, tail="error")


@proves("recipe:muppet", "official")
def test_muppet_levels() -> None:
    """The level after every epoch, for gradients that agree more and more and then begin anew."""
    kind, ops, found = kind_of(replace(recipe("muppet").controllers[0])), backend("reference", "exact"), []
    kind = replace(kind, every=1)
    state = kind.start({}, ops)
    for epoch, grads in enumerate(KEPT["policy"]["grads"]):
        seen = Seen(Clock(epoch), 0.0, grads={n: F(g) for n, g in grads.items()}, ops=ops)
        state, _ = kind.after(state, seen)
        found.append(state["level"])
    assert found == KEPT["policy"]["levels"]
    assert found[-1] == 4


@proves("recipe:ultra_low_4bit", "official")
@of("ultra_low_4bit")
def test_sawb_codes(case: dict) -> None:
    """The forward operands (their authors' SAWB of 15 levels): codes, and which elements pass the gradient.

    The gradients' grids have no published code.
    """
    x, q = array(case["x"]), recipe("ultra_low_4bit").linear.slot(case["slot"]).quantizer
    made = quantize(x, q)
    np.testing.assert_array_equal(made.element_values().astype(F), array(case["codes"]))
    clip = np.float64(made.scale_values()[0, 0]) * np.float64(made.tensor_scale) * 7
    assert abs(clip - array(case["clip"])[0]) <= 2.0**-18 * clip  # 12 rms - 12 mean is a fifth of either: five times their roundings
    np.testing.assert_array_equal(np.abs(x) <= clip, array(case["passes"]) == 1)


@pytest.mark.parametrize("case", KEPT["fade"]["cases"])
def test_faded_weights(case: dict) -> None:
    """w + lambda (Q(w) - w), computed there in units of 1 / scale: within the roundings of seven operations; the gradient is the one that comes."""
    w, share = array(case["w"]), case["lambda"]
    assert recipe("continual_qat_fade").linear.fprop.b.quantizer == recipe("bitnet_b158").linear.fprop.b.quantizer
    q = quantize(w, recipe("continual_qat_fade").linear.fprop.b.quantizer).dequantize(np.float64)
    want = (1 - share) * w.astype(np.float64) + share * q
    most = np.abs(w).astype(np.float64) + np.abs(q)
    assert (np.abs(array(case["out"]) - want) <= 12 * 2.0**-24 * most).all()  # the scale is a mean of 192 there: three more
    np.testing.assert_allclose(array(case["grad"]), np.ones(w.shape), rtol=4 * 2.0**-24, atol=0)
