"""What official codes of customized formats gave on a CPU, recorded in `data/customized_official.json`: inputs, outputs, commit and function.

To record again: run the named function of the cited commit on `x` (and `companion`). Values are equal in bits. Two codes round only stochastically in
their scripts; their deterministic mode is what was run, and `rounding` says so.
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
from lpref.ref.recipes.guided import guided
from lpref.specs import recipe

CASES = json.loads((Path(__file__).parent / "data" / "customized_official.json").read_text(encoding="utf-8"))["cases"]


def array(case: dict, name: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(case[name]["f32"]), np.float32).reshape(case[name]["shape"])


def of(companion: bool):
    found = [c for c in CASES if ("companion" in c) == companion]
    return pytest.mark.parametrize(("name", "case"), [(c["recipe"], c) for c in found], ids=[f"{c['recipe']}-{c['slot']}" for c in found])


@proves("recipe:{name}", "official")
@of(companion=False)
def test_values(name: str, case: dict) -> None:
    q = recipe(name).linear.slot(case["slot"]).quantizer
    if "rounding" in case:
        q = replace(q, rounding=case["rounding"], word_bits=None)
    given = array(case, "words") if "words" in case else np.zeros(case["x"]["shape"])
    words = given.astype(np.uint8) if q.rounding == "stochastic" else None
    k_axis = 0 if case["slot"].startswith("wgrad") else 1
    found = quantize(array(case, "x"), q, words=words, k_axis=k_axis).dequantize(np.float32)
    np.testing.assert_array_equal(found + np.float32(0), array(case, "out") + np.float32(0))


@proves("recipe:{name}", "official")
@of(companion=True)
def test_guided_values(name: str, case: dict) -> None:
    """All but weights that lie on their grid, which the code may move (the page's deviation)."""
    q, x, out = recipe(name).linear.fprop.b.quantizer, array(case, "x"), array(case, "out")
    found = guided(x, array(case, "companion"), q, backend("reference", "exact"))
    between = quantize(x, replace(q, rounding="toward_negative")).dequantize() != quantize(x, replace(q, rounding="toward_positive")).dequantize()
    np.testing.assert_array_equal(found[between], out[between])
    assert between.sum() > 0.7 * x.size
