"""Guided rounding: the neighbour that the companion chooses, against a second definition and the official code's lines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lpref.accel import backend
from lpref.ref.quantize import lookup, quantize
from lpref.ref.recipes import Context, linear_forward
from lpref.ref.recipes.guided import cannot_guide, guided
from lpref.specs import recipe

Q = lookup("mxfp4_tetrajet")
GRID = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def weights(seed: int = 0, n: int = 24, k: int = 96):
    rng = np.random.default_rng(seed)
    w = (rng.standard_normal((n, k)) * np.exp2(rng.integers(-9, 9, (n, 1)))).astype(np.float32)
    return w, (
        w + rng.standard_normal((n, k)).astype(np.float32) * np.abs(w).max(1, keepdims=True) * np.float32(0.2)
    ).astype(np.float32)


def official(w: np.ndarray, ema: np.ndarray) -> np.ndarray:
    """thu-ml/TetraJet-MXFP4Training bbe9bd6 quantization/QuantizerFP_torch.py lines 135-172, transcribed, float64 (exact)."""
    out = np.empty(w.shape)
    for i in range(w.shape[0]):
        for j in range(0, w.shape[1], 32):
            x, e = w[i, j : j + 32].astype(np.float64), ema[i, j : j + 32].astype(np.float64)
            scale = 2.0 ** np.clip(np.ceil(np.log2(np.float32(2 * np.abs(x).max()) / np.float32(12.0))), -127, 127)
            sign, a, signed = np.sign(x), np.abs(x) / scale, np.sign(x) * e / scale
            expo = 2.0 ** np.maximum(np.floor(np.log2(a + 1e-30)), 0)
            mant, mant_ema = a / expo, signed / expo
            whole = np.floor(mant)
            frac, frac_ema = np.floor(np.clip((mant - whole) * 2, 0, 2)), (mant_ema - whole) * 2
            frac[frac_ema >= frac + 0.5] += 1
            out[i, j : j + 32] = np.clip(sign * expo * (whole + frac / 2), -6, 6) * scale
    return out


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("seed", range(3))
def test_values_are_the_official_ones(name: str, seed: int) -> None:
    w, ema = weights(seed)
    chosen = guided(w, ema, Q, backend(name, "exact"))
    np.testing.assert_array_equal(quantize(chosen, Q).dequantize(), official(w, ema))
    np.testing.assert_array_equal(chosen, official(w, ema).astype(np.float32))


def test_the_weight_itself_as_companion_is_nearest_up_to_ties() -> None:
    w, _ = weights(3)
    np.testing.assert_array_equal(
        quantize(guided(w, w, Q, backend("cpu", "exact")), Q).dequantize(), quantize(w, Q).dequantize()
    )


def test_a_value_between_two_stays_between_them() -> None:
    """Whatever the companion: never farther than a neighbour, also where it is infinite."""
    w, _ = weights(4)
    low, high = (quantize(w, replace(Q, rounding=r)).dequantize() for r in ("toward_negative", "toward_positive"))
    for companion in (np.full_like(w, np.inf), np.full_like(w, -np.inf), -w):
        chosen = guided(w, companion, Q, backend("reference", "exact"))
        assert ((chosen == low) | (chosen == high)).all()
    assert (guided(w, np.full_like(w, np.inf), Q, backend("reference", "exact")) == high).all()


def test_requantizing_a_choice_changes_nothing() -> None:
    """Every pair of neighbours at the top of a block: the scale of the choice is that of w or half of it."""
    for top in np.float32([3.01, 3.5, 3.99, 4, 4.7, 5.9, 6]):
        w = np.zeros((1, 32), np.float32)
        w[0, :15] = np.float32([*GRID, *-GRID[1:]])
        w[0, :15] *= np.minimum(1, top / 6) if top < 6 else 1
        w[0, 20] = top
        for companion in (w - 100, w + 100, w):
            chosen = guided(w.astype(np.float32), companion.astype(np.float32), Q, backend("reference", "exact"))
            np.testing.assert_array_equal(quantize(chosen, Q).dequantize(np.float32), chosen)


def test_a_layer_reads_its_companion_and_only_its_own() -> None:
    linear = recipe(
        {"base": "fp32", "set": {"linear.fprop.b": {"quantizer": {"base": "mxfp4_tetrajet"}, "guided": True}}}
    ).linear
    ops = backend("cpu", "exact")
    w, ema = weights(5, 32, 64)
    x = np.eye(64, dtype=np.float32)
    plain = linear_forward(x, w, linear, Context(site="a"), ops)[0]
    other = linear_forward(x, w, linear, Context(site="a", companions={"b": ema}), ops)[0]
    own = linear_forward(x, w, linear, Context(site="a", companions={"a": ema}), ops)[0]
    np.testing.assert_array_equal(plain, other)
    np.testing.assert_array_equal(own, official(w, ema).T.astype(np.float32))


def test_quantizers_that_would_move_the_choice_are_refused() -> None:
    assert cannot_guide(Q) == ""
    for name in ("mxfp4", "int8_tensor", "nvfp4", "mxfp4_three_quarters"):
        assert "use mx with" in cannot_guide(lookup(name))
    assert "stochastic" in cannot_guide(replace(Q, rounding="stochastic"))


def test_weights_flip_less_around_their_average() -> None:
    """T10: weights that jitter by a fiftieth of a step around fixed places; roundings that change from step to step, with and without the average."""
    rng = np.random.default_rng(6)
    place = rng.uniform(-5, 5, (32, 64)).astype(np.float32)
    place[:, ::32] = 6  # the block's scale stays
    flips = {"nearest": 0, "guided": 0}
    average, before = place.copy(), {}
    for _ in range(60):
        w = np.where(place == 6, place, place + rng.standard_normal(place.shape) * 0.02).astype(np.float32)
        now = {"nearest": quantize(w, Q).dequantize(np.float32), "guided": guided(w, average, Q, backend("cpu", "exact"))}
        for name, values in now.items():
            flips[name] += int(np.count_nonzero(values != before.get(name, values)))
        before, average = now, (average * np.float32(0.95) + w * np.float32(0.05)).astype(np.float32)
    assert flips["nearest"] > 1000
    assert flips["guided"] < flips["nearest"] / 3
