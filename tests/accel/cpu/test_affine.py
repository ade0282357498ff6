"""The affine kernel has the definition's codes, zero points, scales and observations; its values are theirs, rounded once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lpref.accel import backend
from lpref.ref.quantize import Blocks, lookup, quantize
from lpref.ref.random import WordAddress

RNG = np.random.default_rng(0)
WIDE = (RNG.standard_normal((33, 70)) * np.exp2(RNG.integers(-12, 3, (33, 70)))).astype(np.float32)
TENSORS = [
    WIDE, np.zeros((3, 4), np.float32), np.float32([[1, -2, 0.5, 7.5]]), np.float32([[1, -2, np.nan, 7.5]]), np.float32([[1, -2, np.inf, 7.5]]),
    np.float32([[3e38, -3e38, 1e-44, 7.5]]), np.full((2, 5), -3, np.float32),
]  # fmt: skip


@pytest.mark.parametrize("base", ["int8_affine_row", "uint8_affine", "uint4_affine_group", "int8_affine_row:apply=mul_inverse"])
@pytest.mark.parametrize("form", ["int3", "uint2", "int8", "int12"])
@pytest.mark.parametrize(("rounding", "bits"), [("nearest_even", None), ("stochastic", None), ("stochastic", 16)])
@pytest.mark.parametrize("blocks", [Blocks(), Blocks(1, None), Blocks(1, 16), Blocks(4, 32)])
def test_the_definition_s_bits(base: str, form: str, rounding: str, bits: int | None, blocks: Blocks) -> None:
    q = replace(lookup(base), format=form, rounding=rounding, word_bits=bits, blocks=blocks, tail="partial")
    exact, fast = backend("cpu", "exact"), backend("cpu", "fast")
    for x in TENSORS:
        for axis in (0, 1):
            words = WordAddress(3, 4, "s/x") if rounding == "stochastic" else None
            want, got = quantize(x, q, words=words, k_axis=axis), exact.quantize(x, q, words=words, k_axis=axis)
            np.testing.assert_array_equal(got.codes, want.codes)
            np.testing.assert_array_equal(got.zero, want.zero)
            np.testing.assert_array_equal(got.scale_values(), want.scale_values())
            assert {k: str(v) for k, v in got.observed.items()} == {k: str(v) for k, v in want.observed.items()}
            values, d = fast.operand(x, q, k_axis=axis, words=words).dequantize(np.float64), want.dequantize()
            near = (np.abs(values - d) <= 2.0**-24 * np.abs(d)) | (np.isnan(values) & np.isnan(d)) | (np.abs(d) > 3.4e38)
            assert near.all()


def test_given_words_are_read_by_their_low_bits() -> None:
    q = replace(lookup("int8_affine_row"), rounding="stochastic", word_bits=8)
    words = RNG.integers(0, 1 << 16, WIDE.shape).astype(np.uint16)
    want, got = quantize(WIDE, q, words=words), backend("cpu", "exact").quantize(WIDE, q, words=words)
    np.testing.assert_array_equal(got.codes, want.codes)
