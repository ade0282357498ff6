"""Recipes of sums against what their official code gave on a CPU: recorded once, in `data`, with commit and lines.

float32 values are stored as their bits. To record again, run the named functions on the inputs of the file.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpref.accel.reference import ReferenceBackend
from lpref.conformance.proves import proves
from lpref.ref.quantize import quantize
from lpref.ref.recipes import Context, Sampling, linear_backward, linear_forward
from lpref.ref.recipes.layer import Layer
from lpref.ref.recipes.mixing import Mixed
from lpref.ref.recipes.sampling import GRID, chosen, probabilities, row_scores
from lpref.specs import recipe

DATA = Path(__file__).parent / "data"
OPS = ReferenceBackend("exact")
U = 2.0**-24


def recorded(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def floats(bits: list[int], shape: Any = -1) -> np.ndarray:
    return np.array(bits, np.uint32).view(np.float32).reshape(shape)


@proves("recipe:int4_hq_lss", "official")
def test_digits_of_int4_training() -> None:
    """TwoLayerWeightPreconditioner: the same factor, the same first digit, and the same remainder for the stochastic one, bit for bit."""
    want = recorded("int4_hq_lss")
    x = floats(want["x"], want["shape"])
    parts = Layer(recipe("int4_hq_lss").linear, Context(site="h"), OPS, {}).operand("wgrad.a", x)
    assert parts.factor == floats([want["factor"]])[0]
    hi = parts.of["hi"].dequantize(np.float32)
    np.testing.assert_array_equal((hi / 14).reshape(-1), want["hi"])
    rest = x * parts.factor - hi
    np.testing.assert_array_equal(rest.reshape(-1), floats(want["rest"]))
    assert np.abs(parts.of["lo"].dequantize() - np.clip(rest, -7, 7)).max() <= 1  # a neighbour of the remainder


@proves("recipe:int4_hq_lss", "official")
@pytest.mark.parametrize("case", range(4))
def test_probabilities_of_int4_training(case: int) -> None:
    """sample_index_from_bernouli: n float32 roundings in the sum and a few more a round of redistribution there, the grid of 2^-24 here.

    Where the code divides by zero probabilities it has put 1e-10; rows of score 0 are never kept in either."""
    want = recorded("int4_hq_lss")
    scores, official = floats(want["scores"][case]).astype(np.float64), floats(want["p"][case]).astype(np.float64)
    p = probabilities(scores, 0.5)
    np.testing.assert_array_equal(p == 1, official == 1)
    assert (np.abs(p - official) <= 8 * (scores.size + 4) * U * official + 1 / GRID).all()


@proves("recipe:statquant_ptq", "official")
def test_codes_of_statquant_per_tensor() -> None:
    """ScalarPreconditioner with rounding to nearest: the same codes, and values within the rounding of the scale and one product."""
    want = recorded("statquant")
    x = floats(want["x"], want["shape"])
    made = quantize(x, "uint8_affine:zero=widen")
    np.testing.assert_array_equal(made.unpacked().reshape(-1), want["ptq"]["codes"])
    values = floats(want["ptq"]["values"], want["shape"])
    span = 255 / floats([want["ptq"]["scale"]])[0]
    assert np.abs(made.dequantize(np.float32) - values).max() <= 6 * U * span


@proves("recipe:statquant_psq", "official")
@proves("recipe:statquant_bhq", "official")
def test_codes_of_statquant_per_sample() -> None:
    """DiagonalPreconditioner with rounding to nearest: the same codes; its ends are moved by 1e-8, of rows no smaller than 1e-2."""
    want = recorded("statquant")
    x = floats(want["x"], want["shape"])
    made = quantize(x, replace(recipe("statquant_psq").linear.dgrad.a.quantizer, rounding="nearest_even"))
    np.testing.assert_array_equal(made.unpacked().reshape(-1), want["psq"]["codes"])
    room = 8 * U * np.abs(x).max(axis=1, keepdims=True) + 2e-8
    assert (np.abs(made.dequantize(np.float32) - floats(want["psq"]["values"], want["shape"])) <= room).all()


@proves("recipe:statquant_bhq", "official")
@pytest.mark.parametrize("case", range(4))
def test_transforms_of_statquant(case: int) -> None:
    """get_transform: the same groups, leaders and, within its float32 arithmetic, the same matrix."""
    want = recorded("statquant")["transforms"][case]
    x = floats(want["x"], (want["rows"], -1))
    official = floats(want["T"], (want["rows"], want["rows"])).astype(np.float64)
    found = Mixed(x, 0.0, OPS).forward(np.eye(want["rows"], dtype=np.float32)).astype(np.float64)
    np.testing.assert_array_equal(np.abs(found) > 1e-6 * np.abs(found).max(axis=0), np.abs(official) > 1e-6 * np.abs(official).max(axis=0))
    assert (np.abs(found - official) <= 32 * U * np.abs(official).max(axis=0)).all()


@proves("recipe:fqt_1bit", "official")
def test_rows_that_1_bit_fqt_keeps() -> None:
    want = recorded("fqt_1bit")
    x = floats(want["x"], want["shape"])
    s = recipe("fqt_1bit").linear.dgrad.sampling
    assert s == Sampling("top", "other", 0.25, ("a",), "amax")
    rows = chosen(s, {"": row_scores(x, "amax", OPS)}, Layer(recipe("fqt_1bit").linear, Context(), OPS, {}), "dgrad.a")[""]
    np.testing.assert_array_equal(rows.index, np.flatnonzero(want["mask"]))


@proves("recipe:shiftaddvit", "official")
def test_shifts_and_fixed_point_of_shiftaddvit() -> None:
    """clampabs, then round_power_of_2; round_to_fixed: bit for bit."""
    want, linear = recorded("shiftaddvit"), recipe("shiftaddvit").linear
    w, a = floats(want["w"])[None, :], floats(want["a"])[None, :]
    np.testing.assert_array_equal(quantize(w, linear.fprop.b.quantizer).dequantize(np.float32)[0], floats(want["power"]))
    np.testing.assert_array_equal(quantize(a, linear.fprop.a.quantizer).dequantize(np.float32)[0], floats(want["fixed"]))


def paired(real: np.ndarray, imaginary: np.ndarray, axis: int) -> np.ndarray:
    return np.stack([real, imaginary], axis=axis + 1).reshape([s * (1 + (i == axis)) for i, s in enumerate(real.shape)])


@proves("recipe:ifairy", "official")
def test_the_complex_layer_of_ifairy() -> None:
    """ComplexLinear forward and backward. Its scales are 1 / (1 / mean) and its activations x s / s: two more roundings a value than here;
    products of sums of 2 K, 2 N or 2 M terms, each with those of its operands (Higham 2002, sec. 3.1)."""
    want = recorded("ifairy")
    m, n, k = want["m_n_k"]
    f = lambda name, shape: floats(want[name], shape)  # noqa: E731
    x, w = paired(f("x_r", (m, k)), f("x_i", (m, k)), 1), paired(f("w_r", (n, k)), f("w_i", (n, k)), 0)
    dy, linear, context = paired(f("dy_r", (m, n)), f("dy_i", (m, n)), 1), recipe("ifairy").linear, Context(site="h")
    parts = Layer(linear, context, OPS, {}).operand("fprop.b", w)
    for name, part in zip(("q_r", "q_i"), parts.of.values(), strict=True):
        quantized = part.dequantize()
        np.testing.assert_array_equal(np.sign(quantized), np.sign(f(name, (n, k))))
        assert np.abs(quantized - f(name, (n, k))).max() <= (n * k + 4) * U * np.abs(quantized).max()
    y, saved = linear_forward(x, w, linear, context, OPS)
    grads = linear_backward(dy, saved, linear, context, OPS)
    largest = {"y": 2 * k, "dx": 2 * n, "dw": 2 * m}
    for name, found, shape, axis in (("y", y, (m, n), 1), ("dx", grads.dx, (m, k), 1), ("dw", grads.dw, (n, k), 0)):
        official = paired(f(f"{name}_r", shape), f(f"{name}_i", shape), axis)
        terms = np.abs(x).max() * np.abs(w).max() if name == "y" else np.abs(dy).max() * np.abs(w if name == "dx" else x).max()
        assert np.abs(found - official).max() <= (2 * largest[name] + n * k + 12) * U * largest[name] * terms




@proves("recipe:luq", "official")
def test_neighbours_of_luq() -> None:
    """GradStochasticClippingQ: every element above alpha takes the two powers of two around it, and a power of two itself alone."""
    want = recorded("luq")
    x = floats(want["x"])[None, :]
    q = recipe("luq").linear.dgrad.a.quantizer
    made = np.stack([quantize(x, q, words=np.full(x.shape, word, np.uint8)).dequantize()[0] for word in range(256)])
    assert [sorted(set(column)) for column in made.T.tolist()] == want["values"]
