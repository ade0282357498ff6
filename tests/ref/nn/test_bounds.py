"""The bounds of activations and cross-entropy of grade fast hold for units at the worst that they may be, and are no wider than they need to be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lpref.ref import nn
from lpref.ref.nn import bounds
from lpref.ref.nn.activation import GELU_CUBIC, SQRT_2_OVER_PI

f32 = np.float32
U = 2.0**-24


class Units:
    """2^x and 1 / x off by `sign` (an array or number in [-1, 1]) times what PTX allows."""

    def __init__(self, two: float, one: float) -> None:
        self.two, self.one = two, one

    def exp(self, x: np.ndarray) -> np.ndarray:
        power = np.exp2((x * f32(1.44269504)).astype(np.float64)) * (1 + 4 * U * self.two)
        return np.where(power < 2.0**-126, 0.0, power).astype(f32)

    def reciprocal(self, x: np.ndarray) -> np.ndarray:
        y = (1.0 / x.astype(np.float64)) * (1 + 2 * U * self.one)
        return np.where(y < 2.0**-126, 0.0, y).astype(f32)

    def sigmoid(self, x: np.ndarray) -> np.ndarray:
        return self.reciprocal(f32(1) + self.exp(-x))

    def tanh(self, x: np.ndarray) -> np.ndarray:
        return f32(1) - f32(2) * self.reciprocal(f32(1) + self.exp(f32(2) * x))


def slope(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    return s * (f32(1) + x * (f32(1) - s))


def gelu_inner(x: np.ndarray, units: Units) -> np.ndarray:
    return units.tanh(f32(SQRT_2_OVER_PI) * (x + f32(GELU_CUBIC) * (x * x * x)))


def gelu_slope(x: np.ndarray, units: Units) -> np.ndarray:
    t = gelu_inner(x, units)
    inner = (f32(1) - t * t) * (f32(SQRT_2_OVER_PI) * (f32(1) + f32(3 * GELU_CUBIC) * (x * x)))
    return f32(0.5) * (f32(1) + t) + (f32(0.5) * x) * inner


NEAR: dict[str, Callable[..., np.ndarray]] = {
    "silu": lambda units, x: x * units.sigmoid(x),
    "silu_backward": lambda units, dy, x: dy * slope(x, units.sigmoid(x)),
    "gelu": lambda units, x: (f32(0.5) * x) * (f32(1) + gelu_inner(x, units)),
    "gelu_backward": lambda units, dy, x: dy * gelu_slope(x, units),
    "swiglu": lambda units, g, u: (g * units.sigmoid(g)) * u,
}
WORST = [Units(two, one) for two in (-1, 0, 1) for one in (-1, 0, 1)]


def arguments(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    spread = 2.0 ** rng.uniform(-140, 7, 50_000) * rng.choice([-1, 1], 50_000)
    x = np.concatenate([rng.normal(0, 3, 200_000), np.linspace(-100, 100, 200_001), spread])
    return [f32(x) if i + 1 == count else f32(rng.permutation(x)) for i in range(count)]


@pytest.mark.parametrize("op", NEAR)
def test_activations(op: str) -> None:
    args = arguments(1 if op in ("silu", "gelu") else 2)
    args = args[::-1] if op == "swiglu" else args
    with np.errstate(all="ignore"):
        want = getattr(nn, op)(*args).astype(np.float64)
        bound, most = getattr(bounds, f"{op}_bound")(want, *args), 0.0
        checked = np.isfinite(want) & np.isfinite(bound)
        assert checked.mean() > 0.99
        for units in WORST:
            off = np.abs(NEAR[op](units, *args).astype(np.float64) - want)[checked]
            assert (off <= bound[checked]).all()
            most = max(most, float((off / bound[checked]).max()))
    assert most > 0.2


def test_cross_entropy() -> None:
    rng = np.random.default_rng(4)
    for rows, n, spread in ((7, 3, 1.0), (40, 300, 6.0), (5, 4100, 30.0)):
        logits, targets = f32(rng.normal(0, spread, (rows, n))), rng.integers(0, n, rows)
        want = nn.softmax_cross_entropy(logits, targets)
        bound = bounds.softmax_cross_entropy_bound(want, logits, targets)
        for units in WORST:
            z = logits - logits.max(axis=1, keepdims=True)
            e = units.exp(z)
            s = e.sum(axis=1, keepdims=True, dtype=f32)
            loss = (np.log(s[:, 0]) - z[np.arange(rows), targets]).mean(dtype=f32)
            assert abs(float(loss) - float(want[0])) <= bound[0]
            assert (np.abs((e * units.reciprocal(s)).astype(np.float64) - want[1]) <= bound[1]).all()
        assert bound[0] < 1e-4 * (1 + spread)


def test_gelu_of_kind_erf() -> None:
    x, dy = arguments(2)
    x = x[np.abs(x) < 20]
    dy = dy[: len(x)]
    assert not bounds.gelu_bound(None, x, "erf").any()
    want = nn.gelu_backward(dy, x, "erf").astype(np.float64)
    allowed = bounds.gelu_backward_bound(want, dy, x, "erf")
    for units in WORST:
        bell = units.exp((f32(-0.5) * x) * x)
        t = nn.activation.erf(x * f32(np.sqrt(0.5)))
        got = dy * (f32(0.5) * (f32(1) + t) + x * (f32(1 / np.sqrt(2 * np.pi)) * bell))
        assert (np.abs(got.astype(np.float64) - want) <= allowed).all()
