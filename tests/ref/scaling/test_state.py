"""Scales with a state or a spread: Flexpoint and S2FP8."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import quantizers as oracle

from lpref.ref.linalg import gamma
from lpref.ref.quantize import Quantizer, Scale, init_state, lookup, merge, quantize, update_state
from lpref.ref.quantize.state import settled
from lpref.ref.scaling.flexpoint import predicted

RNG = np.random.default_rng(9)


def test_s2fp8_centres_the_logarithms() -> None:
    """Before the cast the logarithms have mean 0, but for float32's roundings of the n logarithms, of their sum, of alpha and of alpha mu:
    gamma_{n + 4} of the mean of their sizes. The cast to E5M2 moves a number by an eighth of it at most."""
    x = np.exp(3 * RNG.standard_normal((64, 64)) - 40).astype(np.float32)  # far below E5M2
    x[0, :5] = 0
    t = quantize(x, "s2fp8")
    before = np.log2(np.abs(x[x != 0].astype(float)))
    alpha, beta = float(t.aux["alpha"]), float(t.aux["beta"])
    centred = abs(alpha * before.mean() + beta)
    assert centred <= gamma(before.size + 4) * alpha * np.abs(before).mean()
    assert abs(np.log2(np.abs(t.element_values()[x != 0])).mean()) <= centred + np.log2(8 / 7)
    assert np.abs(t.element_values()).max() == 2.0**15
    assert (t.dequantize()[0, :5] == 0).all()
    error = np.abs(np.log2(t.dequantize()[x != 0] / x[x != 0]))
    assert error.max() <= np.log2(1.125) / float(t.aux["alpha"]) + 1e-4
    assert quantize(x, Quantizer("e5m2")).dequantize().any()
    assert not quantize(x, Quantizer("e5m2", scale=Scale("none"))).dequantize().any()


def test_s2fp8_alpha_is_one_where_the_spread_fits_and_for_one_magnitude() -> None:
    x = np.float32([[1, 2.0**-15, 2.0**-30, 2.0**-15]])  # mean -15, largest 0
    t = quantize(x, "s2fp8")
    assert (float(t.aux["alpha"]), float(t.aux["beta"])) == (1.0, 15.0)
    assert (t.dequantize() == x).all()
    assert (quantize(np.full((2, 2), -0.3, np.float32), "s2fp8").dequantize(np.float32) == np.float32(-0.3)).all()
    assert np.isnan(quantize(np.float32([[1, np.inf]]), "s2fp8").dequantize()).all()


@settings(max_examples=30)
@given(st.lists(st.floats(2.0**-20, 100, width=32), min_size=1, max_size=16), st.integers(-31, 0))
def test_the_predicted_scale(past: list[float], e: int) -> None:
    scale = lookup("flexpoint16").scale
    assert F(float(predicted(np.float32(past), 2.0**e, 16, scale))) == oracle.autoflex([F(v) for v in past], F(2) ** e, 16)


def test_a_growing_sequence_never_overflows_and_a_jump_clips_once() -> None:
    q, x = lookup("flexpoint16"), np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8) * np.float32(2.0**-8)
    state, overflowed = settled(q, x), []
    for step in range(60):
        t = quantize(x * np.float32(1.05**step), q, state=state)
        overflowed.append(t.observed["overflowed"])
        state = update_state(q, state, [t.observed])
    assert not any(overflowed)
    seen = []
    for _ in range(4):
        t = quantize(x * np.float32(500 * 1.05**60), q, state=state)
        seen.append(t.observed["overflowed"] > 0)
        state = update_state(q, state, [t.observed])
        if t.observed["overflowed"]:
            assert int(state["length"]) == 1  # the history is cleared, and Gamma doubled
    assert seen[0]
    assert not seen[-1]


def test_micro_batches_merge_to_the_largest_mantissa() -> None:
    q = lookup("flexpoint16:window=2")
    state = init_state(q)
    parts = [quantize(np.float32([[v]]), q, state=state).observed for v in (3.0, -9.0, 4.0)]
    assert merge(parts)["top"] == 9
    state = update_state(q, state, parts)
    assert (int(state["length"]), state["history"].tolist()) == (1, [9.0, 0.0])
    assert update_state(q, state, []) == state
