"""Loss scaling: the controller, exact unscaling, torch's GradScaler."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.errors import SpecError
from lpref.ref.optim import LossScale, LossScaleState, all_finite, unscale, update_loss_scale


def test_defaults_are_torch_grad_scaler() -> None:
    c = LossScale("dynamic")
    assert (c.init, c.growth, c.backoff, c.interval) == (65536.0, 2.0, 0.5, 2000)


def test_growth_after_the_interval_and_backoff_resets_it() -> None:
    config = LossScale("dynamic", init=8.0, interval=3)
    state, scales = config.start(), []
    for overflow in (0, 0, 0, 0, 0, 1, 0, 0, 0):
        state = update_loss_scale(config, state, bool(overflow))
        scales.append(state.scale)
    assert scales == [8, 8, 16, 16, 16, 8, 8, 8, 16]
    assert (state.skipped, state.in_a_row) == (1, 0)


def test_limits_and_counters() -> None:
    config = LossScale("dynamic", init=2.0, interval=1, maximum=4.0)
    state = LossScaleState(2.0)
    for _ in range(4):
        state = update_loss_scale(config, state, True)
    assert (state.scale, state.skipped, state.in_a_row) == (1.0, 4, 4)
    for _ in range(5):
        state = update_loss_scale(config, state, False)
    assert (state.scale, state.skipped, state.in_a_row) == (4.0, 4, 0)


def test_hysteresis_is_megatrons() -> None:
    """NVIDIA/Megatron-LM megatron/core/optimizer/grad_scaler.py DynamicGradScaler.update, transcribed."""
    config = LossScale("dynamic", init=64.0, interval=3, hysteresis=2, maximum=2.0**32)
    state = config.start()
    scale, grown, tolerated = 64.0, 0, 2
    for overflow in np.random.default_rng(0).random(400) < 0.3:
        if overflow:
            grown, tolerated = 0, tolerated - 1
            if tolerated <= 0:
                scale = max(scale * 0.5, 1.0)
        else:
            grown += 1
            if grown == 3:
                grown, tolerated, scale = 0, 2, scale * 2.0
        state = update_loss_scale(config, state, bool(overflow))
        assert state.scale == scale


def test_a_minimum_that_rises_lifts_the_scale_at_the_next_good_step() -> None:
    state = LossScaleState(8.0)
    raised = LossScale("dynamic", minimum=32.0)
    assert update_loss_scale(raised, state, False).scale == 32.0
    assert update_loss_scale(raised, LossScaleState(64.0), True).scale == 32.0


def test_static_and_none_keep_the_scale() -> None:
    for config in (LossScale("static", init=128.0), LossScale()):
        state = config.start()
        assert update_loss_scale(config, state, True).scale == state.scale == (1.0 if config.kind == "none" else 128.0)


def test_unscaling_by_a_power_of_two_is_exact() -> None:
    g = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert np.array_equal(unscale({"w": g * np.float32(65536)}, 65536.0)["w"], g)
    assert unscale({"w": g}, 1.0)["w"] is g


def test_finite() -> None:
    good = np.float32([0, 3e38, -1e-45])
    assert all_finite([good, good])
    assert all_finite([])
    for bad in (np.inf, -np.inf, np.nan):
        assert not all_finite([good, np.float32([0, bad])])


def test_only_powers_of_two() -> None:
    with pytest.raises(SpecError, match=r"init: 1000\.0 is not a power of two"):
        LossScale("static", init=1000.0)
    with pytest.raises(SpecError, match="interval"):
        LossScale("dynamic", interval=0)


@pytest.mark.peer
def test_torch_grad_scaler() -> None:
    """torch._amp_update_scale_ is the controller of torch.amp.GradScaler."""
    torch = pytest.importorskip("torch")
    config = LossScale("dynamic", init=64.0, interval=4)
    state, rng = config.start(), np.random.default_rng(1)
    scale, tracker = torch.full((1,), 64.0), torch.zeros(1, dtype=torch.int32)
    for _ in range(60):
        overflow = bool(rng.random() < 0.15)
        torch._amp_update_scale_(scale, tracker, torch.tensor([float(overflow)]), 2.0, 0.5, 4)
        state = update_loss_scale(config, state, overflow)
        assert (float(scale), int(tracker)) == (state.scale, state.good)
