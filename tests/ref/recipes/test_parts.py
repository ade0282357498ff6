"""Split operands: what the parts are, what they add up to, and that every split has its plain ancestor as a limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lpref.accel.reference import ReferenceBackend
from lpref.ref.quantize import Quantizer, lookup
from lpref.ref.recipes import Context, GemmSpec, LinearRecipe, Slot, Split
from lpref.ref.recipes.layer import Layer
from lpref.ref.recipes.parts import Parts, tensor_of_operand
from lpref.ref.scaling import Scale
from lpref.specs import recipe

OPS = ReferenceBackend("exact")
BLOCK = "int8_tensor:other=4:k=4"


def made(slot: Slot, x: np.ndarray, path: str = "dgrad.a", **ctx) -> Parts:
    gemm, _, side = path.partition(".")
    linear = replace(LinearRecipe(), **{gemm: GemmSpec(**{side: slot})})
    return Layer(linear, Context(seed=1, step=2, site="h", **ctx), OPS, {}).operand(path, x)


def tensor(rows: int = 16, columns: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def digits() -> Slot:
    return recipe("int4_hq_lss").linear.dgrad.a


def test_digits_are_the_rounding_of_z_within_105_and_saturate_beyond() -> None:
    """hi + lo with both digits rounded to nearest: |hi + lo - z| <= 1/2 where |z| <= 105 (98 from hi, 7 from lo), 105 beyond."""
    given = digits().split
    nearest = replace(given, quantizers=tuple(replace(q, rounding="nearest_even") for q in given.quantizers))
    z = np.linspace(-127.5, 127.5, 1021, dtype=np.float32)[None, :]
    parts = made(Slot(split=nearest), z)
    assert parts.factor == 1
    hi, lo = (parts.of[name].dequantize() for name in ("hi", "lo"))
    assert set(np.unique(hi) / 14) == set(range(-7, 8))
    assert np.abs(lo).max() == 7
    inside = np.abs(z) <= 105
    assert np.abs(hi + lo - z)[inside].max() <= 0.5
    assert (np.abs(hi + lo)[np.abs(z) >= 105] == 105).all()


def test_a_target_is_taken_out_again() -> None:
    x = tensor()
    parts = made(digits(), x)
    assert parts.factor == np.float32(127.5 / np.abs(x).max())
    low = np.abs(x * parts.factor) <= 104
    assert np.abs(parts.tensor(np.float32, OPS) - x)[low].max() <= 1 / float(parts.factor)  # one step of the stochastic digit
    assert made(digits(), np.zeros((4, 4), np.float32)).factor == 1


def test_the_stochastic_digit_is_unbiased_over_all_words() -> None:
    """Multiples of 1/256 within the reach of the digits: the mean of hi + lo over the 256 words of 8 bits is z."""
    z = np.float32([[127.5, -98.0, 0.25, 3.5 + 3 / 256, -20.75, 55 / 256, 104.0 - 1 / 256]])
    q = digits().split.quantizers[1]
    left = z - made(digits(), z).of["hi"].dequantize(np.float32)
    values = [OPS.operand(left, replace(q, word_bits=8), k_axis=1, words=np.full(z.shape, w, np.uint8)).dequantize() for w in range(256)]
    np.testing.assert_array_equal(np.mean(values, axis=0)[0, 1:], left[0, 1:].astype(np.float64))


def test_fallback_without_a_block_above_the_threshold_is_plain() -> None:
    x = tensor()
    q = lookup(BLOCK)
    split = Split("fallback", ("main", "rest"), (q, q), threshold=float(np.abs(x).max()))
    parts = made(Slot(split=split), x)
    np.testing.assert_array_equal(parts.of["main"].unpacked(), OPS.operand(x, q, k_axis=1).unpacked())
    assert not parts.of["rest"].unpacked().any()


def test_fallback_keeps_the_remainder_of_the_blocks_above_it_and_of_no_other() -> None:
    """Two INT8 codes: |x - x^| <= amax / 254^2 in those blocks (half a step of the second, whose amax is half a step of the first)."""
    x = tensor()
    x[5, 6] = 40.0
    q = lookup(BLOCK)
    parts = made(Slot(split=Split("fallback", ("main", "rest"), (q, q), threshold=10.0)), x)
    rest = parts.of["rest"].unpacked()
    beyond = np.zeros(x.shape, bool)
    beyond[4:8, 4:8] = True
    assert rest[beyond].any()
    assert not rest[~beyond].any()
    error = np.abs(parts.tensor(np.float32, OPS) - x)
    assert error[beyond].max() <= 40 / 254**2 * (1 + 2**-20)
    np.testing.assert_array_equal(parts.of["main"].unpacked(), OPS.operand(x, q, k_axis=1).unpacked())


@pytest.mark.parametrize("keep", [1.0, 0.99, 0.9])
def test_outliers_are_what_the_clamp_takes(keep: float) -> None:
    x = tensor(20, 15)
    q = lookup("int8_row")
    parts = made(Slot(split=Split("outliers", ("body", "outliers"), (q, None), keep=keep)), x)
    ordered = np.sort(x.reshape(-1))
    last = x.size - 1
    high = ordered[int(np.floor(keep * last))]
    low = ordered[last - int(np.floor(keep * last))]
    body = np.clip(x, low, high)
    np.testing.assert_array_equal(parts.of["body"].unpacked(), OPS.operand(body, q, k_axis=1).unpacked())
    np.testing.assert_array_equal(parts.of["outliers"].dequantize(np.float32), x - body)
    if keep == 1:
        assert not parts.of["outliers"].dequantize().any()


def test_samples_draw_words_of_their_own_and_average() -> None:
    x = tensor()
    q = lookup("mxfp4:rounding=stochastic:k=4")
    parts = made(Slot(quantizer=q, split=Split("samples", ("first", "second"))), x)
    one, two = (p.dequantize(np.float32) for p in parts.of.values())
    assert (one != two).any()
    np.testing.assert_array_equal(parts.tensor(np.float32, OPS), one * np.float32(0.5) + two * np.float32(0.5))


def test_words_of_a_part_are_those_of_the_global_batch() -> None:
    x = tensor()
    q = lookup("int8_row:rounding=stochastic")
    split = Slot(quantizer=q, split=Split("samples", ("first", "second")))
    whole = made(split, x)
    for micro in (0, 1):
        half = made(split, x[8 * micro : 8 * micro + 8], micro=micro)
        for name, part in half.of.items():
            np.testing.assert_array_equal(part.unpacked(), whole.of[name].unpacked()[8 * micro : 8 * micro + 8])


def test_complex_parts_alternate_in_columns_of_x_and_rows_of_w() -> None:
    split = Slot(split=Split("complex", ("real", "imag")))
    x, w = tensor(), tensor(8, 6)
    parts = made(split, x)
    np.testing.assert_array_equal(parts.of["real"].values, x[:, 0::2])
    np.testing.assert_array_equal(parts.of["imag"].values, x[:, 1::2])
    np.testing.assert_array_equal(tensor_of_operand(parts, np.float32, OPS), x)
    rows = made(split, w, "fprop.b")
    np.testing.assert_array_equal(rows.of["imag"].values, w[1::2])
    np.testing.assert_array_equal(rows.tensor(np.float32, OPS), w)


def test_every_quantized_complex_weight_has_one_part() -> None:
    w = tensor(8, 6)
    linear = recipe("ifairy").linear
    parts = Layer(linear, Context(site="h"), OPS, {}).operand("fprop.b", w)
    real, imaginary = (p.dequantize() for p in parts.of.values())
    assert ((real != 0) ^ (imaginary != 0)).all()
    larger = np.abs(w[0::2]) > np.abs(w[1::2])
    np.testing.assert_array_equal(larger, real != 0)


def test_a_residual_cascade_of_binary_parts() -> None:
    """Parts alpha_i sign(what is left) with alpha_i = mean |what is left|: each takes the best multiple of signs, so the error falls."""
    x = tensor(4, 64)
    q = Quantizer("int1", scale=Scale("absmean"))
    norms = []
    for count in (1, 2, 3):
        names = tuple(f"p{i}" for i in range(count))
        parts = made(Slot(split=Split("residual", names, (q,) * count)), x)
        norms.append(float(np.linalg.norm(parts.tensor(np.float32, OPS) - x)))
    assert norms[0] > norms[1] > norms[2]
