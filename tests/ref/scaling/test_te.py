"""TransformerEngine's scales: current scaling's special cases, and delayed scaling as a state machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpref.ref.errors import SpecError
from lpref.ref.quantize import init_state, lookup, quantize, update_state

FLT_MAX = np.float32(np.finfo(np.float32).max)


@pytest.mark.parametrize("bad", [0.0, np.inf, np.nan])
def test_amax_without_a_scale_casts_unscaled(bad: float) -> None:
    x = np.float32([[bad, 0.0]])
    t = quantize(x, "fp8_tensor")
    assert t.scale_values().tolist() == [[1.0]]
    assert t.unpacked()[0, 0] == {0.0: 0, np.inf: 0x7E}.get(bad, 0x7F)


def test_a_tiny_amax_takes_flt_max() -> None:
    t = quantize(np.float32([[2.0**-140]]), "fp8_tensor")
    assert t.scale_values()[0, 0] == np.float32(1) / FLT_MAX


def test_the_largest_element_becomes_the_largest_code() -> None:
    x = np.random.default_rng(0).standard_normal((300, 7)).astype(np.float32)
    assert (np.max(np.abs(quantize(x, "fp8_row").element_values()), axis=1) == 448).all()


def test_pow2_equivariance_and_no_overflow() -> None:
    x = np.random.default_rng(1).standard_normal((8, 16)).astype(np.float32)
    q = lookup("fp8_tensor:pow2=down")
    a, b = quantize(x, q), quantize(x * np.float32(2**7), q)
    assert (a.codes == b.codes).all()
    assert np.abs(a.element_values()).max() <= 448
    assert (b.dequantize() == a.dequantize() * 2**7).all()


def run(q: str, amaxes: list[float]) -> list[tuple[float, list[float]]]:
    """(scale, history) after every step in which a tensor of that amax was cast."""
    quantizer, out = lookup(q), []
    state = init_state(quantizer)
    for amax in amaxes:
        t = quantize(np.float32([[amax, 0]]), quantizer, state=state)
        state = update_state(quantizer, state, [t.observed])
        out.append((float(state["scale"]), state["history"].tolist()))
    return out


def test_delayed_first_step_uses_scale_one_then_the_largest_of_the_window() -> None:
    steps = run("fp8_tensor:history=delayed:window=3", [7, 3.5, 3.5, 3.5])
    assert [s for s, _ in steps] == [64, 64, 64, 128]  # three values incl. the newest: 7 leaves after the fourth
    assert steps[0][1] == [0, 0, 7]
    assert steps[1][1] == [0, 7, 3.5]
    assert steps[2][1] == [0, 3.5, 3.5]


def test_most_recent_with_window_one_is_current_scaling_one_step_late() -> None:
    amaxes = [3.0, 5.0, 0.7]
    late = [s for s, _ in run("fp8_tensor:history=delayed:window=1:algo=most_recent", amaxes)]
    now = [float(1 / quantize(np.float32([[a]]), "fp8_tensor").scale_values()[0, 0]) for a in amaxes]
    assert late == [float(np.float32(448) / np.float32(a)) for a in amaxes]
    assert np.allclose(late, now, rtol=2**-22)  # the stored scale is fl(1 / S)


def test_zero_does_not_age_the_history_and_keeps_the_scale() -> None:
    steps = run("fp8_tensor:history=delayed:window=3", [7, 0, 0, 0])
    assert steps[0] == steps[1] == steps[3]


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_bad_amax_keeps_the_scale(bad: float) -> None:
    steps = run("fp8_tensor:history=delayed:window=4", [7, bad])
    assert steps[1][0] == 64


def test_infinity_holds_the_scale_until_it_leaves_the_window() -> None:
    assert [s for s, _ in run("fp8_tensor:history=delayed:window=3", [7, np.inf, 1, 1, 1])] == [64, 64, 64, 64, 448]


def test_margin_halves_and_tiny_amax_takes_flt_max() -> None:
    assert run("fp8_tensor:history=delayed:window=2:margin=1", [7])[0][0] == 32
    assert run("fp8_tensor:history=delayed:window=2", [2.0**-140])[0][0] == FLT_MAX


def test_a_jump_by_2_to_the_k_saturates_exactly_one_step() -> None:
    q = lookup("fp8_tensor:history=delayed:window=16")
    state, over = init_state(q), []
    for amax in (448.0, 448.0, 448.0 * 8, 448.0 * 8, 448.0 * 8):
        t = quantize(np.float32([[amax, 1]]), q, state=state)
        over.append(t.observed["overflowed"])
        state = update_state(q, state, [t.observed])
    assert over == [0, 0, 1, 0, 0]


@given(st.lists(st.lists(st.floats(0.5, 128, width=32), min_size=1, max_size=4), min_size=1, max_size=4))
def test_micro_batches_merge_to_their_largest(steps: list[list[float]]) -> None:
    q = lookup("fp8_tensor:history=delayed:window=3")
    many, one = init_state(q), init_state(q)
    for amaxes in steps:
        many = update_state(q, many, [{"amax": a} for a in amaxes])
        one = update_state(q, one, [{"amax": max(amaxes)}])
    assert many["scale"] == one["scale"]
    assert many["history"].tolist() == one["history"].tolist()


def test_state_is_not_mutated_and_no_observation_changes_nothing() -> None:
    q = lookup("fp8_tensor:history=delayed:window=3")
    state = init_state(q)
    before = state["history"].copy()
    update_state(q, state, [{"amax": 3.0}])
    assert state["scale"] == 1
    assert (state["history"] == before).all()
    assert update_state(q, state, [])["history"].tolist() == [0, 0, 0]
    with pytest.raises(SpecError, match="needs a state"):
        quantize(np.float32([[1]]), q)
