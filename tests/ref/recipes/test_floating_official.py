"""What official codes of floating-point recipes gave on a CPU, recorded in `data/float_official.json`: inputs, outputs, commit and lines.

To record again: run the named function of the cited commit on `x` (with `words` / 256 as its noise where there are words); `made` says which
were transcribed line by line because they are CUDA or Triton. Values are equal in bits.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpref.conformance.proves import proves
from lpref.ref.optim.loss_scale import update_loss_scale
from lpref.ref.quantize import init_state, quantize, update_state
from lpref.ref.recipes import Epilogue
from lpref.ref.recipes.factors import factor
from lpref.specs import recipe

CASES = json.loads((Path(__file__).parent / "data" / "float_official.json").read_text(encoding="utf-8"))["cases"]
ACTIVATIONS = {"linear": "", "readout": "", "swiglu": "activation", "gelu": "activation", "attention": "attention"}


def array(case: dict, name: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(case[name]["f32"]), np.float32).reshape(case[name]["shape"])


def quantizer(case: dict) -> Any:
    """The quantizer of the recipe at the case's place."""
    made, (first, last) = recipe(case["recipe"]), case["slot"].split(".")
    return (
        getattr(made.operations[first], last) if first in made.operations else made.linear.slot(case["slot"]).quantizer
    )


def of(*names: str) -> Any:
    found = [c for c in CASES if c["recipe"] in names]
    return pytest.mark.parametrize(
        ("name", "case"), [(c["recipe"], c) for c in found], ids=[f"{c['recipe']}-{c['slot']}" for c in found]
    )


@proves("recipe:{name}", "official")
@of("fp8_block", "fp8_current", "fp8_current_pow2", "nvfp4", "coat", "deepseek_v3", "fp8_lm", "actnn", "gact", "exact", "scalify", "mxfp8")
def test_values(name: str, case: dict) -> None:
    x = array(case, "x")
    words = array(case, "words").astype(np.uint8) if "words" in case else None
    found = quantize(x, quantizer(case), words=words).dequantize(np.float32)
    np.testing.assert_array_equal(found, array(case, "out"))


@proves("recipe:fp8_delayed", "official")
def test_delayed_scaling() -> None:
    """The scales after each of 23 steps that saw these amax, with a window of 16."""
    (case,) = (c for c in CASES if c["recipe"] == "fp8_delayed")
    q = quantizer(case)
    q = replace(q, scale=replace(q.scale, window=16))
    state, found = init_state(q), []
    for amax in array(case, "x"):
        state = update_state(q, state, [{"amax": amax, "count": 1}])
        found.append(state["scale"])
    np.testing.assert_array_equal(np.float32(found), array(case, "out"))


def factors_of(case: dict) -> list[float]:
    """The factors of the page in the order in which the official function applies them: gradients of the inputs, then the result."""
    made, sizes, slot = recipe("unit_scaling"), case["sizes"], case["slot"]
    if slot in ("linear", "readout"):
        linear = made.linear if slot == "linear" else made.variants["readout"]
        y, dx, dw = ((sizes["rows"], sizes["n"]), (sizes["rows"], sizes["k"]), (sizes["n"], sizes["k"]))
        return [length(linear.dgrad.epilogue[0], dx, sizes["n"]), length(linear.wgrad.epilogue[0], dw, sizes["rows"]),
                length(linear.fprop.epilogue[0], y, sizes["k"])]  # fmt: skip
    ops = made.operations
    if slot == "residual":
        values = [*reversed(ops["residual_split"].scale_grad), *reversed(ops["residual_add"].scale_in)]
    elif slot in ACTIVATIONS:
        op, inputs = ops[ACTIVATIONS[slot]], {"gelu": 1, "swiglu": 2, "attention": 3}[slot]
        values = [op.scale_grad[0]] * inputs + [op.scale_out]
    else:
        values = [ops[slot].scale_grad[1 if slot == "norm" else 0]]
    return [factor(value, sizes) for value in values]


def length(step: Epilogue, shape: tuple[int, int], k: int) -> float:
    return step.factor * float({"k": k, "a": shape[0], "b": shape[1]}[step.size]) ** step.power


@proves("recipe:unit_scaling", "official")
@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c["recipe"] == "unit_scaling"],
    ids=lambda c: f"{c['slot']}-{list(c['sizes'].values())}",
)
def test_unit_scaling(case: dict) -> None:
    """Each factor as it meets a float32 tensor. The library's loss is a sum of which the gradient is not divided by the rows: ours is."""
    found, wanted = factors_of(case), [float.fromhex(value) for _, value in case["factors"]]
    if case["slot"] == "loss":
        found, wanted = [f / case["sizes"]["rows"] for f in found], wanted[:1]
    assert [np.float32(f) for f in found] == [np.float32(w) for w in wanted]


@proves("recipe:{name}", "official")
@of("fp16_loss_scaled", "fp16_megatron")
def test_loss_scale(name: str, case: dict) -> None:
    """The scale after each step, with the recipe's controller; the start and the interval are the case's, so that it moves in few steps."""
    config = replace(recipe(name).loss_scale, init=case["init"], interval=case["interval"])
    state, found = config.start(), []
    for overflow in case["overflow"]:
        state = update_loss_scale(config, state, bool(overflow))
        found.append(state.scale)
    assert found == case["scales"]
    assert {np.sign(b - a) for a, b in pairwise(found)} == {-1, 0, 1}
