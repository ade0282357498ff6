"""Minimum and maximum: the sources' formulas, unbiasedness over all words, special blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpref.ref.errors import SpecError
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer, quantize
from lpref.ref.scaling import Blocks, Scale

F = np.float32


def quantizer(
    bits: int = 2, size: int = 16, name: str = "float32", rounding: str = "nearest_even", eps: float = 2e-6
) -> Quantizer:
    scale = Scale("minmax", format=name, eps=eps)
    return Quantizer(
        f"uint{bits}",
        Blocks(1, size),
        scale,
        rounding=rounding,
        tail="partial",
        word_bits=8 if rounding == "stochastic" else None,
    )


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4, 8]), st.sampled_from(["float32", "bfloat16"]))
def test_values_are_the_cards(seed: int, bits: int, name: str) -> None:
    x = np.random.default_rng(seed).standard_normal((2, 40)).astype(np.float32)
    kept = format_named(name).round
    for r in range(2):
        for c in range(0, 40, 16):
            part = x[r, c : c + 16]
            low, n = part.min(), F(2**bits - 1)
            scale = n / (part.max() - low + F(2e-6))
            codes = np.clip(np.rint((part - low) * scale), 0, n).astype(np.float32)
            wanted = codes / F(kept(np.float64(scale))) + F(kept(np.float64(low)))
            found = quantize(x, quantizer(bits, name=name)).dequantize(np.float32)[r, c : c + 16]
            np.testing.assert_array_equal(found, wanted)


def test_the_mean_over_all_words_is_x_up_to_a_word() -> None:
    x = np.random.default_rng(0).standard_normal((1, 16)).astype(np.float32)
    q = quantizer(rounding="stochastic", eps=0.0)
    total = sum(quantize(x, q, words=np.full(x.shape, w, np.uint8)).dequantize() for w in range(256)) / 256
    step = (x.max() - x.min()) / 3
    assert np.abs(total - x).max() <= step * (
        2.0**-8 + 2.0**-20
    )  # the part of x below a word is lost; float32 roundings


def test_nearest_is_biased_where_stochastic_is_not() -> None:
    x = np.float32([[0, 1, 0.2, 0.2]])
    assert quantize(x, quantizer(1, eps=0.0)).dequantize()[0, 2] == 0


def test_special_blocks() -> None:
    x = np.float32([[5] * 16 + [np.nan] + [1] * 15 + [0] * 16])
    made = quantize(x, quantizer(eps=0.0))
    values = made.dequantize()
    assert (values[0, :16] == 5).all()
    assert np.isnan(values[0, 16:32]).all()
    assert (values[0, 32:] == 0).all()
    assert made.nbytes == 48 // 4 + 2 * 3 * 4


def test_padding_takes_no_part() -> None:
    x = np.float32([[3, 4, 5]])
    assert quantize(x, quantizer(2, 16, eps=0.0)).dequantize()[0, 0] == 3


@pytest.mark.parametrize("name", ["int4", "e4m3"])
def test_other_formats_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match="unsigned integer"):
        Quantizer(name, Blocks(1, 16), Scale("minmax"))
