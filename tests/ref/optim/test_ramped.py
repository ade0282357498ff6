"""Q-Ramping's update: period 1 is AdamW's bits, other periods are the official code's numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lpref.accel import backend
from lpref.ref.errors import SpecError
from lpref.ref.optim import OptimContext, optimizer
from lpref.ref.optim.ramped import Ramped

HYPER = {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.9, 0.95)}


def official(p, grads, periods, lr, wd, b1, b2, eps=1e-8):
    """thu-ml/TetraJet-MXFP4Training bbe9bd6 Qoptimizers/adamw_bs_ramping.py lines 214-286, transcribed, float64."""
    acc, count, m, v = (np.zeros(p.shape) for _ in range(4))
    for t, g in enumerate(grads, 1):
        count, acc = count + 1, acc + g
        due = count % periods == 0
        p = p * (1 - lr * wd)
        mean = acc / count
        m, v = np.where(due, m * b1 + mean * (1 - b1), m), np.where(due, v * b2 + mean * mean * (1 - b2), v)
        size = lr * count / (1 - b1**t)
        p = np.where(due, p - m / (np.sqrt(v) / math.sqrt(1 - b2**t) + eps) * size, p)
        count, acc = np.where(due, 0, count), np.where(due, 0, acc)
    return p


def draws(seed: int, steps: int, shape=(6, 10)):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape).astype(np.float32), [rng.standard_normal(shape).astype(np.float32) for _ in range(steps)]


def run(p, grads, periods, name: str = "reference"):
    ops = backend(name, "exact")
    inner = optimizer("adamw", **HYPER)
    both = {"w": p, "b": p[0].copy()}
    state = inner.init(both, ops)
    for t, g in enumerate(grads):
        opt = Ramped(inner, periods)
        both, state = opt.update(both, {"w": g, "b": g[0]}, state, OptimContext(step=t, update=t, lr=HYPER["lr"]), ops)
    return both, state


def test_period_one_is_adamw_bit_for_bit() -> None:
    p, grads = draws(0, 5)
    ramped, state = run(p, grads, {"w": np.ones_like(p)})
    plain, moments = run(p, grads, {})
    for name in plain:
        np.testing.assert_array_equal(ramped[name], plain[name])
    for key in moments:
        np.testing.assert_array_equal(state[key], moments[key])


def test_other_periods_are_the_official_numbers() -> None:
    """float32 against float64: twelve updates of at most 2^-6 each, ten roundings an update, far below 1e-5."""
    p, grads = draws(1, 12)
    periods = np.random.default_rng(2).integers(1, 6, p.shape).astype(np.float32)
    found, _ = run(p, grads, {"w": periods})
    np.testing.assert_allclose(found["w"], official(p.astype(float), grads, periods, HYPER["lr"], 0.1, 0.9, 0.95), atol=1e-5, rtol=0)


def test_the_cpu_backend_has_the_bits() -> None:
    p, grads = draws(3, 7)
    periods = {"w": np.random.default_rng(4).integers(1, 4, p.shape).astype(np.float32)}
    for one, other in zip(run(p, grads, periods), run(p, grads, periods, "cpu"), strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_what_cannot_be_ramped_is_refused() -> None:
    for wrong in (optimizer("sgd"), optimizer("adamw", wd_order="inside"), optimizer("adamw", storage_of={"m": "dynamic8"})):
        with pytest.raises(SpecError, match="Q-Ramping"):
            Ramped(wrong, {"w": np.ones(3, np.float32)})
