"""Integers between two ends: the kernel has the definition's codes, scales, values and observations; affine ranges in hindsight too."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel.cpu import minmax
from lpref.accel.cpu.embedded import embedded
from lpref.accel.cpu.quantize import embed, quantize
from lpref.ref import quantize as ref
from lpref.ref.quantize import Blocks, Quantizer, Scale, init_state, update_state
from lpref.ref.random import WordAddress

WORDS = WordAddress(3, 5, "h.0.mlp.up/dgrad/a/rounding", start=7)
F = np.float32
CASES = [
    Quantizer(form, blocks, Scale(rule, **more), rounding=rounding, narrow=False, tail="partial", word_bits=16 if rounding == "stochastic" else None)
    for rule, form, more in (
        ("minmax", "uint8", {}), ("minmax", "uint2", {"eps": 1e-6}),
        ("minmax", "uint6", {"span": "symmetric"}), ("minmax", "uint4", {"format": "bfloat16"}),
    )
    for blocks in (Blocks(), Blocks(1, None), Blocks(1, 24), Blocks(16, 16))
    for rounding in ("nearest_even", "stochastic")
] + [Quantizer("uint8", Blocks(), Scale("minmax", span="rows"))]  # fmt: skip


def same(x: np.ndarray, q: Quantizer, state=None, axis: int = 1) -> None:
    words = WORDS if q.rounding == "stochastic" else None
    want = ref.quantize(x, q, words=words, state=state, k_axis=axis)
    got, shown = (f(x, q, words=words, state=state, k_axis=axis) for f in (quantize, embed))
    np.testing.assert_array_equal(want.codes, got.codes)
    for expected, actual in zip(want.scales, got.scales, strict=True):
        np.testing.assert_array_equal(expected, actual)
    assert (want.zero is None) == (got.zero is None)
    if want.zero is not None:
        np.testing.assert_array_equal(want.zero, got.zero)
    expected = embedded(want)
    np.testing.assert_array_equal(expected.values, shown.values)
    np.testing.assert_array_equal(expected.grid, shown.grid)
    assert expected.tensor_scale == shown.tensor_scale
    for seen in (got.observed, shown.observed):
        assert {k: np.asarray(v).tolist() for k, v in want.observed.items()} == {k: np.asarray(v).tolist() for k, v in seen.items()}


@pytest.mark.parametrize("q", CASES, ids=lambda q: f"{q.scale.rule} {q.format} {q.blocks.other}x{q.blocks.k} {q.rounding}")
def test_the_definitions_bits(q: Quantizer) -> None:
    rng = np.random.default_rng(4)
    x = (rng.standard_normal((33, 50)) * np.exp(rng.standard_normal((33, 50)))).astype(F)
    x[3] = 0
    x[4, :16] = 2.5
    assert minmax.covered(x, q)
    for axis in (1, 0):
        same(x, q, axis=axis)
    same(np.abs(x) + 1, q)


@pytest.mark.parametrize("rule", ["affine", "minmax"])
def test_ranges_in_hindsight(rule: str) -> None:
    q = Quantizer("uint8", Blocks(), Scale(rule, history="hindsight", momentum=0.5))
    state = init_state(q)
    for step in range(3):
        x = (np.random.default_rng(step).standard_normal((16, 24)) * (step + 1)).astype(F)
        same(x, q, state)
        state = update_state(q, state, [quantize(x, q, state=state).observed])


def test_what_is_not_finite_takes_the_definition() -> None:
    x = np.ones((4, 8), F)
    x[1, 2] = np.inf
    q = Quantizer("uint8", Blocks(1, None), Scale("minmax"))
    assert minmax.quantize(x, q, None, None, 1) is None
    np.testing.assert_array_equal(quantize(x, q).dequantize(), ref.quantize(x, q).dequantize())
