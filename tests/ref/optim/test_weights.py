"""Weights without a master copy: grids, integer updates, averaging, on NumPy and on the cpu backend."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel import backend
from lpref.ref.errors import SpecError
from lpref.ref.optim import Averaging, OptimContext, Weights, optimizer
from lpref.ref.quantize import Blocks, Quantizer, Scale, quantize
from lpref.ref.random import WordAddress

F = np.float32
rng = np.random.default_rng(5)
SHAPES = {"a.weight": (12, 16), "conv.weight": (4, 2, 3, 3), "norm.weight": (16,)}
FIXED = Quantizer("fixed8.6", Blocks(), Scale("none"), rounding="stochastic", word_bits=16)
ROWS = Quantizer("int8", Blocks(1, None), Scale("bfp", format="e8m0"), rounding="stochastic", word_bits=16)
STEPS = Quantizer("int8", Blocks(), Scale("amax", pow2="nearest", target=8.0), rounding="stochastic", word_bits=16)
GRID = Quantizer("int4", Blocks(), Scale("amax"), rounding="stochastic", word_bits=16)
KINDS = {
    "default": Weights(),
    "fixed": Weights(stored=FIXED, gradient=FIXED, state=FIXED),
    "rows": Weights(stored=ROWS, gradient=ROWS, state=ROWS, average=Averaging(0.5, 1)),
    "codes": Weights(stored=Quantizer("int8", Blocks(), Scale("constant", value=2.0**-7)), gradient=STEPS, update="codes", clip=0.5),
    "first": Weights(stored=GRID, grid="first"),
    "previous": Weights(stored=GRID, grid="previous"),
    "fan_in": Weights(stored=FIXED, start="fan_in"),
}


def tree(scale: float = 0.3) -> dict[str, np.ndarray]:
    return {name: (scale * rng.standard_normal(shape)).astype(F) for name, shape in SHAPES.items()}


def context(step: int, lr: float = 1e-2, peak: float = 1e-2) -> OptimContext:
    return OptimContext(step=step, update=step, seed=3, lr=lr, peak=peak, total=4)


def trained(kept: Weights, ops=None, steps: int = 4, **hyper):
    opt = optimizer("sgd", momentum=0.9, weights=dict.fromkeys(SHAPES, kept), **hyper)
    grads = np.random.default_rng(8)
    params, state = opt.start({n: np.random.default_rng(1).standard_normal(s).astype(F) * F(0.3) for n, s in SHAPES.items()}, 3, ops)
    for step in range(steps):
        g = {n: grads.standard_normal(s).astype(F) for n, s in SHAPES.items()}
        params, state = opt.update(params, g, state, context(step), ops)
    return params, state


@pytest.mark.parametrize("kind", KINDS)
def test_the_cpu_backend_has_the_bits_of_the_definition(kind: str) -> None:
    want, got = trained(KINDS[kind]), trained(KINDS[kind], backend("cpu", "fast"))
    for expected, actual in zip(want, got, strict=True):
        assert set(expected) == set(actual)
        for name, value in expected.items():
            np.testing.assert_array_equal(value, actual[name], err_msg=name)


def test_the_default_is_no_weights_at_all() -> None:
    opt = optimizer("sgd", momentum=0.9)
    params, grads = tree(), tree()
    plain = opt.update(params, grads, opt.init(params), context(0))
    kept = optimizer("sgd", momentum=0.9, weights=dict.fromkeys(SHAPES, Weights()))
    first, state = kept.start(params)
    assert all(first[n] is params[n] for n in params)
    for want, got in zip(plain, kept.update(first, grads, state, context(0)), strict=True):
        assert all(np.array_equal(want[n], got[n]) for n in want)


def test_what_is_stored_stays_on_its_grid() -> None:
    params, state = trained(KINDS["fixed"])
    for name, p in params.items():
        assert np.array_equal(p * 64, np.rint(p * 64))
        assert np.abs(p).max() <= 2
        assert np.array_equal(state[f"{name}/b"] * 64, np.rint(state[f"{name}/b"] * 64))
    params, state = trained(KINDS["rows"])
    for name, p in params.items():
        for row in p.reshape(p.shape[0], -1) if p.ndim > 1 else p[None]:
            step = 2.0 ** (np.frexp(np.abs(row).max())[1] - 1 - 6)
            assert np.array_equal(row / step, np.rint(row / step)), name


def test_an_update_below_half_a_step_is_lost_by_nearest_and_kept_in_the_mean_by_stochastic_rounding() -> None:
    old, delta = F(0.5) * np.ones((1, 1 << 16), F), F(2.0**-9)  # a step is 2^-6
    words = np.arange(1 << 16, dtype=np.uint32).reshape(1, -1)
    nearest = Quantizer("fixed8.6", Blocks(), Scale("none"))
    assert np.array_equal(quantize(old + delta, nearest).dequantize(), old)
    moved = quantize(old + delta, FIXED, words=words).dequantize()  # every word once: the exact mean
    assert set(np.unique(moved)) == {0.5, 0.5 + 2.0**-6}
    assert moved.mean() == 0.5 + 2.0**-9


def wage_gradient(g: np.ndarray, lr: float, words: np.ndarray) -> np.ndarray:
    """sign(n) (floor|n| + [frac|n| > r]) / 128 with n = lr g / 2^round(log2 max|g|), in float64; r from 16-bit words."""
    n = lr * g.astype(np.float64) / 2.0 ** np.round(np.log2(np.abs(g).max()))
    whole = np.floor(np.abs(n))
    up = np.floor((np.abs(n) - whole) * 65536) + words >= 65536
    return np.sign(n) * (whole + up) / 128


@pytest.mark.parametrize("share", [1.0, 0.125])
def test_codes_are_wages_gradient(share: float) -> None:
    p, g = tree()["a.weight"], (rng.standard_normal((12, 16)) * 1e-5).astype(F)
    got = KINDS["codes"].before("a.weight", p, g, {}, context(2, lr=1e-2 * share), backend("reference"))
    words = WordAddress(3, 2, "a.weight/gradient").bits(g.size, 16).reshape(g.shape).astype(np.int64)
    np.testing.assert_array_equal(got, wage_gradient(g, 8 * share, words))
    assert np.abs(got).max() <= 12 / 128
    assert p.shape == got.shape


def test_codes_forget_the_magnitude() -> None:
    kept, ops = KINDS["codes"], backend("reference")
    g = tree()["a.weight"]
    want = kept.before("a.weight", g, g, {}, context(1), ops)
    for power in (-20, 13):
        assert np.array_equal(kept.before("a.weight", g, np.ldexp(g, power).astype(F), {}, context(1), ops), want)


def test_codes_have_no_state_and_keep_to_the_clip() -> None:
    params, state = trained(KINDS["codes"], steps=40)
    assert state == {}
    assert max(np.abs(p).max() for p in params.values()) == 0.5
    assert all(np.array_equal(p * 128, np.rint(p * 128)) for p in params.values())


def test_grids() -> None:
    """first: one grid for ever. previous: the largest weight before the update spans it."""
    opt = optimizer("sgd", lr=1.0, weights={"w": KINDS["first"]})
    params, state = opt.start({"w": np.linspace(-1, 0.7, 32, dtype=F).reshape(2, 16)}, 0)
    step = F(1) / F(7)
    for i in range(3):
        assert np.array_equal(np.rint(params["w"] / step) * step, params["w"])
        assert state["w/grid"].tolist() == [1]
        params, state = opt.update(params, {"w": params["w"] * F(0.3)}, state, context(i, lr=1.0))
    assert np.abs(params["w"]).max() < 0.9
    drifting = optimizer("sgd", lr=1.0, weights={"w": KINDS["previous"]})
    old = {"w": (np.arange(-5, 6, dtype=F) / F(7)).reshape(1, -1)}  # no weight at the end of the grid any more
    new, _ = drifting.update(old, {"w": np.zeros((1, 11), F)}, {}, context(0))
    step = np.abs(old["w"]).max() / F(7)
    assert np.array_equal(np.rint(new["w"] / step) * step, new["w"])


def test_averages_are_the_mean_of_what_was_stored() -> None:
    opt = optimizer("sgd", lr=0.1, weights={"w": Weights(stored=ROWS, average=Averaging(0.5, 1))})
    params, state = opt.start({"w": tree()["a.weight"]}, 3)
    seen = []
    for step in range(4):
        params, state = opt.update(params, {"w": tree()["a.weight"]}, state, context(step))
        seen.append(params["w"])
        assert bool(opt.averages(params, state, step + 1, 4)) == (step >= 2)
    np.testing.assert_allclose(opt.averages(params, state, 4, 4)["w"], (seen[2].astype(np.float64) + seen[3]) / 2, rtol=2**-22, atol=1e-9)


def test_averaged_noise_converges_where_the_weights_stay_in_a_ball() -> None:
    """SWALP's quadratic: |mean - w*| falls with the number of averaged weights, |w - w*| does not."""
    opt = optimizer("sgd", lr=0.125, weights={"w": Weights(stored=FIXED, average=Averaging(0.1, 1))})
    best = np.full((1, 256), 0.3 + 2.0**-8, F)
    params, state = opt.start({"w": np.zeros((1, 256), F)}, 3)
    total = 400
    for step in range(total):
        noise = F(0.2) * np.random.default_rng(step).standard_normal(best.shape).astype(F)
        ctx = OptimContext(step=step, update=step, seed=3, lr=0.125, total=total)
        params, state = opt.update(params, {"w": params["w"] - best + noise}, state, ctx)
    ball, mean = (float(np.sqrt(np.square(w - best).mean())) for w in (params["w"], state["w/average"]))
    assert mean < ball / 4


def test_random_sites_and_bytes() -> None:
    kept = {"a.weight": KINDS["rows"], "norm.weight": KINDS["codes"]}
    opt = optimizer("sgd", momentum=0.9, weights=kept)
    assert opt.random_sites(tree()) == ["a.weight/param", "a.weight/gradient", "a.weight/b", "a.weight/start", "norm.weight/gradient"]
    sizes = {n: np.zeros(s, F) for n, s in SHAPES.items()}
    assert opt.memory(sizes) == {"param": 12 * 16 + 12 + 4 * 72 + 16, "b": 4 * (192 + 72)}


@pytest.mark.parametrize("fields", [{"start": 1.0}, {"start": -0.1}, {"every": 0}, {"every": True}])
def test_averaging_refuses(fields: dict) -> None:
    with pytest.raises(SpecError):
        Averaging(**fields)
