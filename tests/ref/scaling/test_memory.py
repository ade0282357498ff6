"""Scales with a memory: ranges in hindsight, powers of two steered by overflow, searched thresholds; and shifts of one scale, fan-in."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from lpref.accel import backend
from lpref.ref.quantize import Blocks, Quantizer, Scale, init_state, lookup, quantize, update_state
from lpref.ref.scaling import clip, overflow_rate
from lpref.ref.scaling.fan_in import alpha

F = np.float32
rng = np.random.default_rng(12)
CPU = backend("cpu", "exact")


def steps(q: Quantizer, tensors, ops=None):
    """(states before each tensor, quantized tensors)."""
    state, states, made = init_state(q), [], []
    for x in tensors:
        states.append(state)
        made.append((quantize if ops is None else ops.quantize)(x, q, state=state))
        state = update_state(q, state, [made[-1].observed])
    return [*states, state], made


# ---- in hindsight
def test_in_hindsight_is_the_running_range_one_step_late() -> None:
    q = Quantizer("int8", scale=Scale("amax", history="hindsight", momentum=0.9))
    tensors = [(rng.standard_normal((8, 16)) * (i + 1)).astype(F) for i in range(5)]
    states, made = steps(q, tensors)
    running = None
    for x, _state, t in zip(tensors, states, made, strict=False):
        expected = np.abs(x).max() if running is None else running
        np.testing.assert_array_equal(t.codes, quantize(x, "int8_tensor", amax=expected).codes)
        a = np.abs(x).max()
        running = a if running is None else F(1 - 0.9) * a + F(0.9) * running
    assert states[-1]["amax"] == running


def test_without_momentum_it_is_delayed_scaling_of_one_step() -> None:
    """Identity 9: delayed with window 1 and most_recent; the scales are those, one divides and one multiplies."""
    late = Quantizer("int8", scale=Scale("amax", history="hindsight", momentum=0.0))
    te = lookup("fp8_tensor:format=int8:history=delayed:window=1:algo=most_recent")
    tensors = [(rng.standard_normal((8, 16)) * (i + 1)).astype(F) for i in range(4)]
    for a, b in list(zip(steps(late, tensors)[0], steps(te, tensors)[0], strict=True))[1:]:
        assert a["amax"] / F(127) == pytest.approx(1 / b["scale"], rel=2**-22)


@pytest.mark.parametrize("rule", ["affine", "minmax"])
def test_two_ends_in_hindsight(rule: str) -> None:
    q = Quantizer("uint8", scale=Scale(rule, history="hindsight", momentum=0.5))
    x = F([[-1, 3], [2, 0.5]])
    states, made = steps(q, [x, 2 * x, 100 * x])
    assert (float(states[1]["low"]), float(states[1]["high"])) == (-1, 3)
    assert (float(states[2]["low"]), float(states[2]["high"])) == (-1.5, 4.5)
    assert made[2].observed["overflowed"] == 4
    assert made[2].dequantize().max() <= 4.5 + 6 / 255
    seen = made[0].observed | {"low": F(np.nan)}
    assert update_state(q, states[1], [seen])["low"] == states[1]["low"]


# ---- overflow rate
def test_scales_move_by_one_octave_and_stand_without_a_window() -> None:
    q = Quantizer("int10", scale=Scale("overflow_rate", history="delayed", window=2, limit=1e-2))
    tensors = [(rng.standard_normal((16, 64)) * 2.0 ** (i // 4)).astype(F) for i in range(32)]
    states, made = steps(q, tensors)
    scales = [float(s["scale"]) for s in states[1:]]
    ratios = {b / a for a, b in itertools.pairwise(scales)}
    assert ratios <= {0.5, 1.0, 2.0}
    assert 2.0 in ratios
    for x, state, t, on_cpu in zip(tensors, states, made, steps(q, tensors, CPU)[1], strict=False):
        s = float(state["scale"]) or float(overflow_rate.fitting(np.abs(x).max(), 511.0))
        np.testing.assert_array_equal(t.dequantize(), np.clip(np.rint(x / s), -511, 511).astype(np.float64) * s)
        assert t.observed["half"] == int(np.count_nonzero(np.abs(2 * x / s) > 511.5))
        assert {k: np.asarray(v).item() for k, v in t.observed.items()} == {k: np.asarray(v).item() for k, v in on_cpu.observed.items()}
        np.testing.assert_array_equal(t.codes, on_cpu.codes)
    frozen = Quantizer("int10", scale=Scale("overflow_rate", history="delayed", window=10**6))
    assert len({float(s["scale"]) for s in steps(frozen, tensors)[0][1:]}) == 1


def test_a_fixed_scale_is_plain_fixed_point() -> None:
    q = Quantizer("int8", scale=Scale("overflow_rate", history="delayed", window=8))
    x = rng.standard_normal((8, 8)).astype(F) * 2
    state = {**overflow_rate.initial(), "scale": F(2.0**-6)}
    np.testing.assert_array_equal(quantize(x, q, state=state).dequantize(), np.clip(np.rint(x * 64), -127, 127) / 64)


# ---- clip
@pytest.mark.parametrize("criterion", ["mse", "weighted", "cosine"])
@pytest.mark.parametrize("blocks", [Blocks(), Blocks(1, None), Blocks(None, 1)])
def test_the_searched_threshold_is_the_best_of_its_candidates(criterion: str, blocks: Blocks) -> None:
    x = rng.standard_normal((12, 20)).astype(F)
    x[3, 4] = 40
    q = Quantizer("int4", blocks, Scale("clip", criterion=criterion, steps=8))
    t = quantize(x, q)
    br, bc = blocks.on(x.shape, 1)
    for i, j in np.ndindex(*t.scale_values().shape):
        part = x[i * br : (i + 1) * br, j * bc : (j + 1) * bc].astype(np.float64)

        def cost(c: float, part: np.ndarray = part) -> float:
            s = F(F(c) / F(7))
            y = np.clip(np.rint(part.astype(F) / s), -7, 7).astype(np.float64) * s
            if criterion == "cosine":
                return float(1 - (part * y).sum() / math.sqrt((part * part).sum() * (y * y).sum()))
            return float(((part - y) ** 2 * (np.abs(part) if criterion == "weighted" else 1)).sum())

        top = F(np.abs(part).max())
        costs = [cost(top * F(k / 8)) for k in range(8, 0, -1)]
        assert cost(t.scale_values()[i, j] * F(7)) <= min(costs) * (1 + 1e-6) + 1e-15


def test_percentile_keeps_its_share() -> None:
    x = np.arange(1, 1001, dtype=F).reshape(1, -1)
    t = quantize(x, Quantizer("int8", scale=Scale("clip", criterion="percentile", share=0.9)))
    assert t.scale_values()[0, 0] == F(900) / F(127)
    assert np.count_nonzero(t.unpacked() == 127) >= 100


def test_a_search_is_kept_for_its_window() -> None:
    q = Quantizer("int8", Blocks(None, 1), Scale("clip", criterion="weighted", history="hindsight", window=3))
    tensors = [(rng.standard_normal((16, 6)) * (1 + i)).astype(F) for i in range(7)]
    for ops in (None, CPU):
        states, made = steps(q, tensors, ops)
        searched = ["clip" in t.observed for t in made]
        assert searched == [True, False, False, True, False, False, True]
        for i in (1, 2, 4, 5):
            np.testing.assert_array_equal(made[i].scale_values(), made[i - i % 3].scale_values())
        assert int(states[-1]["age"]) == 7
        assert all(t.observed["deviation"] >= 0 for t in made if "clip" in t.observed)


def test_the_direction_is_kept_at_least_as_well_as_without_clipping() -> None:
    x = (rng.standard_normal((32, 32)) * np.exp(2 * rng.standard_normal((32, 32)))).astype(F)
    made = quantize(x, Quantizer("int8", scale=Scale("clip", criterion="cosine")))
    plain = quantize(x, "int8_tensor")
    assert clip.deviation(x, (32, 32), made.scale_values(), 127.0) <= clip.deviation(x, (32, 32), plain.scale_values(), 127.0)
    assert clip.deviation(np.zeros((2, 2), F), (2, 2), np.ones((1, 1), F), 127.0) == 0


# ---- shift, fan-in
def test_channels_share_one_scale_up_to_powers_of_two() -> None:
    x = rng.standard_normal((32, 24)).astype(F) * np.exp2(-rng.integers(0, 7, 24)).astype(F)
    one = quantize(x, Quantizer("int6", Blocks(None, 1), Scale("shift", group=1)))
    np.testing.assert_array_equal(one.dequantize(), quantize(x, Quantizer("int6")).dequantize())
    four = quantize(x, Quantizer("int6", Blocks(None, 1), Scale("shift", group=4)))
    ratios = four.scale_values().max() / four.scale_values()
    assert set(np.unique(ratios)) <= {1, 2, 4, 8}
    assert four.observed["overflowed"] == 0
    error = lambda t: np.square(t.dequantize() - x).sum()  # noqa: E731
    assert error(four) <= error(one)
    zero = quantize(np.zeros((2, 3), F), Quantizer("int6", Blocks(None, 1), Scale("shift")))
    assert not zero.dequantize().any()


def test_alpha_is_the_published_constant() -> None:
    """boluoweifenda/WAGE myInitializer.py scaleLimit with beta 1.5, factor 1, uniform, 2 bits; no fan-in is at a tie."""
    for k in (*range(1, 4000), 2**20):
        limit, most = math.sqrt(3.0 / k), 1.5 / 2
        scale = 2 ** round(math.log(most / limit, 2.0))
        assert alpha(k) == max(scale, 1.0)
