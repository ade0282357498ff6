"""Controllers: their updates against the sources' code, written out again, and the laws of their pages."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from lpref.accel import backend
from lpref.conformance.proves import proves
from lpref.ref.errors import SpecError, UnknownNameError
from lpref.ref.optim import OptimContext, optimizer
from lpref.ref.quantize import lookup, quantize
from lpref.ref.recipes import Controller
from lpref.ref.recipes.controllers import Clock, Diversity, Ema, Freeze, Hasb, Plateau, Ramping, Seen, Steer, kind_of

OPS = backend("reference", "exact")
LEVELS = ({"a": 3}, {"a": 4}, {"a": 6}, {"a": 8})


def through(kind, losses, **more) -> list[int]:
    """The level after each step."""
    state, found = kind.start({}, OPS), []
    for step, loss in enumerate(losses):
        state, replaced = kind.after(
            state, Seen(Clock(step), float(loss), ops=OPS, **{k: v[step] for k, v in more.items()})
        )
        assert replaced == {}
        found.append(state["level"])
    return found


class Official:
    """RICE-EIC/FracTrain dc4fa5b fractrain_cifar/train_pfq.py lines 108-157, transcribed; `epoch` is lines 389-403; train_frac.py has the same."""

    def __init__(self, threshold: float, decay: float, points: int, keep: int = 5) -> None:
        self.threshold, self.decay, self.points, self.keep = threshold, decay, points, keep
        self.loss, self.scale, self.sum, self.count, self.number = [], 1.0, 0.0, 0, 0

    def epoch(self, loss: float) -> int:
        self.number += 1
        if self.number <= 10:
            self.sum += loss
            self.scale = self.sum / self.number
        if self.count < self.points:
            self.loss = [*self.loss, loss][-self.keep :]
            if len(self.loss) == self.keep and all(
                not abs(one - self.loss[-1]) / self.scale > self.threshold for one in self.loss[:-1]
            ):
                self.count += 1
                self.threshold *= self.decay if self.count in (1, 2) else 1.0
                self.loss = []
        return self.count


@pytest.mark.parametrize("seed", range(4))
@proves("recipe:fractrain", "official")
@proves("recipe:fractrain_pfq", "official")
def test_plateau_turns_where_the_official_code_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses = 2 + np.exp(-np.arange(120) / 15) + rng.standard_normal(120) * 0.03
    official = Official(0.15, 0.4, 3)
    found = through(Plateau(levels=LEVELS, every=1), losses)
    assert found == [official.epoch(float(loss)) for loss in losses]
    assert found[-1] == 3
    assert found == sorted(found)


def test_plateau_averages_its_epochs_and_one_level_is_static() -> None:
    losses = np.repeat([3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 4) + np.tile([-1, 1, -2, 2], 8)
    assert through(Plateau(levels=LEVELS, every=4, threshold=0.1), losses) == [0] * 27 + [1] * 5
    assert set(through(Plateau(levels=LEVELS[:1], every=1), np.ones(40))) == {0}


def gradients(directions) -> list[dict]:
    return [{"w": np.float32(d).reshape(1, -1)} for d in directions]


def test_diversity_by_hand() -> None:
    """Two orthogonal gradients have 1; then two equal ones 1/2, every two steps: p = 2 > 1.5, twice a violation, then the next level."""
    kind = Diversity(levels=LEVELS[:2], every=1, window=2, alpha=1.5, beta=0.0, violations=2)
    seen = gradients([(1, 0), *[(0, 1)] * 6])
    assert through(kind, [0] * 7, grads=seen) == [0, 0, 0, 0, 0, 1, 1]
    never = Diversity(levels=LEVELS[:2], every=1, window=2, alpha=1e30, beta=0.0)
    assert set(through(never, [0] * 7, grads=seen)) == {0}


def test_diversity_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    kept = [
        {"a": rng.standard_normal((4, 5)).astype(np.float32), "b": rng.standard_normal((3, 7)).astype(np.float32)}
        for _ in range(3)
    ]
    from lpref.ref.recipes.controllers.diversity import diversity

    expected = np.mean(
        [
            sum((g[n].astype(float) ** 2).sum() for g in kept) / (sum(g[n].astype(float) for g in kept) ** 2).sum()
            for n in "ab"
        ]
    )
    found = diversity(kept, OPS)
    assert math.isclose(found, expected, rel_tol=1e-5)  # float32 squares and sums of 35 terms: below 40 u
    scaled = [{n: g * np.float32(8) for n, g in one.items()} for one in kept]
    assert diversity(scaled, OPS) == found
    assert diversity([{"w": np.zeros((2, 2), np.float32)}] * 2, OPS) == 0.0


def test_steer_moves_each_layer_by_its_own_share() -> None:
    kind = Steer("fprop.a.quantizer.scale.multiplier", factor=2.0, every=2, most=4.0)
    state = kind.start({}, OPS)
    seen = {
        "x/fprop/a": [{"overflowed": 9, "count": 10}],
        "y/fprop/a": [{"overflowed": 0, "count": 10}],
        "x/fprop/b": [{"overflowed": 0, "count": 1}],
    }
    for _ in range(8):
        state, _ = kind.after(state, Seen(Clock(), 0.0, seen))
    assert state["values"] == {"x": 4.0, "y": 2.0**-4}
    assert kind.influence(state, Clock()).layers == {
        s: {"fprop.a.quantizer.scale.multiplier": v} for s, v in state["values"].items()
    }


def test_ema_is_torch_s_two_products() -> None:
    rng = np.random.default_rng(1)
    kind, w = Ema(decay=0.9983, warm=2), {"w": rng.standard_normal((3, 4)).astype(np.float32)}
    state, average = kind.start(w, OPS), w["w"].copy()
    for step in range(3):
        assert (kind.influence(state, Clock()).companions == {}) == (step < 2)
        new = rng.standard_normal((3, 4)).astype(np.float32)
        state, _ = kind.after(state, Seen(Clock(step), 0.0, weights={"w": new}, ops=OPS))
        average = average * np.float32(0.9983) + new * np.float32(1 - 0.9983)
        np.testing.assert_array_equal(state["average"]["w"], average)
    assert state["average"]["w"] is not w["w"]


def test_kinds_say_what_is_wrong() -> None:
    with pytest.raises(UnknownNameError, match="unknown controller 'plateaux'; did you mean 'plateau'"):
        kind_of(Controller("plateaux"))
    with pytest.raises(UnknownNameError, match="unknown parameter 'treshold'; did you mean 'threshold'"):
        kind_of(Controller("plateau", {"treshold": 1}))
    with pytest.raises(SpecError, match=r"parameters.every: expected int, got 'x'"):
        kind_of(Controller("plateau", {"levels": LEVELS, "every": "x"}))
    for parameters in ({"every": 0}, {"keep": 1}, {"threshold": -1}):
        with pytest.raises(SpecError, match=r"parameters\."):
            kind_of(Controller("plateau", {"levels": LEVELS, **parameters}))
    for kind, parameters in (
        ("diversity", {"levels": LEVELS, "window": 1}),
        ("ema", {"decay": 2}),
        ("steer", {"path": "p", "low": 2}),
        ("steer", {}),
    ):
        with pytest.raises(SpecError):
            kind_of(Controller(kind, parameters))
    assert kind_of(Controller("plateau", {"levels": [{"a": 1}], "threshold": 1})).threshold == 1.0


def followed(kind, weights, quantizer=None):
    """(states, weights after the controller) of a sequence of weights."""
    state, out = kind.start({"w": weights[0]}, OPS), []
    for step, w in enumerate(weights):
        state, written = kind.after(state, Seen(Clock(step), 0.0, weights={"w": w}, quantizers={"w": quantizer}, ops=OPS))
        out.append((state, written.get("w", w)))
    return out


@proves("recipe:tetrajet_qramping", "official")
def test_ramping_periods_are_the_official_ones() -> None:
    """Qengine_DeiT.py lines 105-132 (bbe9bd6), transcribed: sums from the window's second step on, floor of the quotient, clamp."""
    rng, q = np.random.default_rng(0), lookup("mxfp4_tetrajet")
    base = rng.standard_normal((4, 64)).astype(np.float32)
    weights = [(base + rng.standard_normal(base.shape) * 0.01).astype(np.float32) for _ in range(12)]
    kind = Ramping(alpha=2.0, beta=3.0, window=8, every=12)
    found = followed(kind, weights, q)[-1][0]["periods"]["w"]
    seen = weights[3:]  # the first of them is where the window begins to look
    rounded = [quantize(w, q).dequantize() for w in seen]
    moved = sum(np.abs(b - a).astype(np.float64) for a, b in pairwise(seen))
    flips = sum(np.abs(b - a) for a, b in pairwise(rounded))
    wanted = np.minimum(np.floor(flips / 2 / (moved + 1e-8)) * 3 + 1, 12)
    np.testing.assert_array_equal(found, wanted)
    assert found.max() > 1
    assert found.min() == 1
    assert kind.start({"w": base}, OPS)["periods"]["w"].tolist() == np.ones_like(base).tolist()


def test_freeze_holds_what_oscillates_at_its_average() -> None:
    q = lookup("int8_tensor:format=int4")
    steady = np.float32([[7.0, 1.4, 2.0]])
    weights = [steady + np.float32([[0, 0.2 * (t % 2), 0]]) for t in range(12)]  # rounds to 1, 2, 1, 2, ...
    out = followed(Freeze(momentum=0.25, threshold=0.3), weights, q)
    written = np.array([w[0] for _, w in out])
    frozen = [bool(s["w"]["frozen"][0, 1]) for s, _ in out]
    assert frozen == sorted(frozen)
    assert frozen[-1]
    assert not frozen[2]
    at = frozen.index(True)
    assert len(set(written[at:, 1])) == 1
    assert 1 <= written[at, 1] <= 2
    np.testing.assert_array_equal(written[:, [0, 2]], np.array(weights)[:, 0, [0, 2]])
    never = followed(Freeze(threshold=1.0), weights, q)
    assert all(np.array_equal(w, given) for (_, w), given in zip(never, weights, strict=True))


def test_alrs_lowers_the_rate_of_scales_by_their_gradients() -> None:
    """By hand: mean of min(|ds|, 1) over the two live scales is (0.01 + 0.03) / 2; a scale without gradient stays; weights have the plain rate."""
    inner = optimizer("sgd", lr=0.1, roles={"w": "fc", "a": "quantizer_step", "b": "quantizer_step", "c": "quantizer_step"})
    wrapped = kind_of(Controller("alrs", {"eta": [1, 0.1]})).around({}, inner, Clock(pass_=1))
    params = {n: np.float32([1, 2]) for n in "wabc"}
    grads = {"w": np.float32([1, 1]), "a": np.float32([0.01, 0]), "b": np.float32([0, -0.03]), "c": np.float32([0, 0])}
    new, _ = wrapped.update(params, grads, {}, OptimContext(step=0, update=0, lr=0.1), OPS)
    rate = np.float32(0.1 * (0.1 - 0.02))
    np.testing.assert_allclose(new["w"], params["w"] - np.float32(0.1))
    np.testing.assert_allclose(new["a"], params["a"] - rate * grads["a"])
    np.testing.assert_allclose(new["b"], params["b"] - rate * grads["b"])
    np.testing.assert_array_equal(new["c"], params["c"])
    large = {**grads, "a": np.float32([9, 9])}
    stopped, _ = wrapped.update(params, large, {}, OptimContext(step=0, update=0, lr=0.1), OPS)
    np.testing.assert_array_equal(stopped["a"], params["a"])


def test_hasb_draws_by_sensitivity() -> None:
    kind = Hasb(widths=(8, 2), passes=(1,), set={"fprop.b.quantizer.format": "int{bits}"}, traces={"calm": 1.0, "touchy": 3.0})
    state = kind.start({"calm.weight": None, "touchy.weight": None}, OPS)
    assert kind.influence(state, Clock(pass_=0)).layers == {}
    drawn = [kind.influence(state, Clock(step=t, pass_=1)).layers for t in range(400)]
    wide = {site: sum(one[site]["fprop.b.quantizer.format"] == "int8" for one in drawn) / 400 for site in ("calm", "touchy")}
    assert abs(wide["calm"] - 0.5) < 0.1  # four standard deviations
    assert abs(wide["touchy"] - 0.8) < 0.08
    assert drawn == [kind.influence(state, Clock(step=t, pass_=1)).layers for t in range(400)]
    for wrong in ({"widths": []}, {"set": {}}, {"traces": {"a": "x"}}):
        with pytest.raises(SpecError):
            kind_of(Controller("hasb", {"set": {"p": 1}, **wrong}))
