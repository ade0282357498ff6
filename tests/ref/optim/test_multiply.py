"""LNS-Madam's update against the official optimizer's lines, and its laws."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel import backend
from lpref.conformance.proves import proves
from lpref.ref.errors import SpecError
from lpref.ref.optim import OptimContext, optimizer
from lpref.ref.optim.multiply import Madam
from lpref.ref.optim.weights import DefinedOps, Weights
from lpref.ref.quantize import Quantizer, Scale
from lpref.specs import recipe


def official(p: np.ndarray, grads: list[np.ndarray], lr: float = 1 / 128, scale: float = 3.0, bound: float = 10.0) -> np.ndarray:
    """jiaweizzhao/lns-madam-optimizer 42eba0a lns_madam.py lines 29-58, transcribed, float64."""
    most, square = scale * np.sqrt((p * p).mean()), np.zeros(p.shape)
    for step, g in enumerate(grads, 1):
        square = 0.999 * square + 0.001 * g**2
        with np.errstate(invalid="ignore", divide="ignore"):
            normed = g / np.sqrt(square / (1 - 0.999**step))
        normed[np.isnan(normed)] = 0
        p = np.clip(p * 2.0 ** (-lr * np.rint(np.clip(normed, -bound, bound)) * np.sign(p)), -most, most)
    return p


def case(seed: int, steps: int):
    rng = np.random.default_rng(seed)
    p = rng.standard_normal((5, 12)).astype(np.float32)
    p[0, :3] = 0
    grads = [(rng.standard_normal(p.shape) * np.exp(rng.standard_normal(p.shape))).astype(np.float32) for _ in range(steps)]
    for g in grads:
        g[1, :2] = 0
    return p, grads


@pytest.mark.parametrize("seed", range(3))
@proves("recipe:lns_madam", "official")
def test_steps_are_the_official_ones(seed: int) -> None:
    """The whole steps n are equal, so weights differ by the roundings of one product and one exponential a step."""
    p, grads = case(seed, 8)
    m, w = Madam(), p
    kept = m.first("w", p, DefinedOps)
    for t, g in enumerate(grads, 1):
        w, kept = m.updated("w", w, g, kept, t, 1.0, DefinedOps)
    wanted = official(p.astype(np.float64), [g.astype(np.float64) for g in grads])
    np.testing.assert_allclose(w, wanted, rtol=8 * 3 * 2.0**-24, atol=0)
    assert (w[0, :3] == 0).all()
    assert (np.sign(w) == np.sign(p)).all()


def test_relative_steps_do_not_depend_on_the_weight() -> None:
    """An additive update of 2^-12 vanishes beside 1 in twelve bits; a multiplicative one is the same number of codes for each."""
    p, g = np.float32([[1.0, 2.0**-6, -1.0, 2.0**-12]]), np.full((1, 4), 0.5, np.float32)
    w, _ = Madam(rate=1 / 128, largest=1e9).updated("w", p, g, Madam().first("w", p, DefinedOps) | {"w/most": np.float32([9])}, 1, 1.0, DefinedOps)
    np.testing.assert_allclose(np.log2(np.abs(w)) - np.log2(np.abs(p)), np.float32([[-1, -1, 1, -1]]) / 128, atol=1e-6)


def test_stored_codes_move_by_whole_exponents() -> None:
    """Stored with 128 steps an octave under a grid that never moves, a weight's code changes by n exactly."""
    q = Quantizer("lns16_g128", scale=Scale("amax"), name="")
    kept = Weights(stored=q, update="multiply", grid="first")
    rng = np.random.default_rng(5)
    p = {"w": rng.standard_normal((4, 8)).astype(np.float32) * 0.3}
    opt = optimizer("adamw", weights={"w": kept})
    ops = backend("reference", "exact")
    first, state = opt.start(p, 0, ops)
    g = {"w": rng.standard_normal((4, 8)).astype(np.float32)}
    after, _ = opt.update(first, g, state, OptimContext(step=0, update=0, lr=1.0, peak=1.0), ops)
    moved = np.log2(np.abs(after["w"].astype(np.float64)) / np.abs(first["w"].astype(np.float64))) * 128
    top = np.abs(first["w"]) == np.abs(first["w"]).max()  # at the end of the grid the largest may only shrink
    wanted = -np.sign(g["w"]) * np.sign(first["w"])
    np.testing.assert_allclose(moved[~top], wanted[~top], atol=1e-3)


def test_backends_agree_and_the_recipe_uses_it() -> None:
    assert recipe("lns_madam").weights.update == "multiply"
    p, grads = case(7, 3)
    found = []
    for name in ("reference", "cpu"):
        opt, ops = optimizer("adamw", weights={"w": recipe("lns_madam").weights}), backend(name, "exact")
        both, state = opt.start({"w": p}, 0, ops)
        for t, g in enumerate(grads):
            both, state = opt.update(both, {"w": g}, state, OptimContext(step=t, update=t, lr=1e-3, peak=2e-3), ops)
        found.append((both, state))
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_constants_are_checked() -> None:
    for wrong in ({"rate": 0.0}, {"bound": -1.0}, {"beta": 1.0}, {"largest": float("inf")}):
        with pytest.raises(SpecError):
            Madam(**wrong)
