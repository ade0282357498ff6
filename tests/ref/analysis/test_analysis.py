"""Laws and searches: exact recovery on synthetic data, the published anchors, and brute force where it is possible.

A new law: a test that its fit finds the constants that made the data, and one for each sign that its page claims.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from lpref.ref.analysis import (
    Chinchilla,
    Policy,
    PrecisionLaw,
    QatLaw,
    SplitLoss,
    allocate,
    best_fraction,
    fit_efficiency,
    fit_noisy_qat_law,
    fit_qat_law,
    fit_split,
    linear_fit,
    reward,
    roulette,
    tokens_per_byte,
)
from lpref.ref.analysis.qat_law import EXPONENTS, FITTED
from lpref.ref.errors import SpecError

GRID = [(n, d, g) for n in (74e6, 145e6, 297e6, 595e6) for d in (10e9, 30e9, 100e9) for g in (32, 64, 128, 256)]


@pytest.mark.parametrize("name", EXPONENTS)
def test_the_fit_finds_the_constants_that_made_the_data(name: str) -> None:
    law = QatLaw(0.16, *EXPONENTS[name])
    found = fit_qat_law([(*p, law.delta(*p)) for p in GRID])
    for one, other in ((found.k, law.k), (found.n, law.n), (found.d, law.d), (found.g, law.g)):
        assert abs(one - other) <= 1e-9 * other


@pytest.mark.parametrize("name", EXPONENTS)
def test_the_noisy_fit_finds_them_too_and_takes_deltas_below_zero(name: str) -> None:
    law = QatLaw(0.16, *EXPONENTS[name])
    points = [(*p, law.delta(*p)) for p in GRID]
    noise = 0.3 * points[0][3] * np.random.default_rng(1).standard_normal(len(GRID))
    plain, noisy = fit_noisy_qat_law(points), fit_noisy_qat_law([(*p[:3], p[3] + e) for p, e in zip(points, noise, strict=True)])
    assert [plain.k, plain.n, plain.d, plain.g] == pytest.approx([law.k, law.n, law.d, law.g], rel=1e-9)
    below = [(n, d, g, delta - 0.9 * points[0][3]) for n, d, g, delta in points]
    assert min(delta for *_, delta in below) < 0
    for data, found in (([(*p[:3], p[3] + e) for p, e in zip(points, noise, strict=True)], noisy), (below, fit_noisy_qat_law(below))):
        least = squares(data, found)
        for field in ("k", "n", "d", "g"):
            for factor in (0.999, 1.001):
                assert squares(data, replace(found, **{field: getattr(found, field) * factor})) > least


def squares(points: list[tuple[float, float, float, float]], law: QatLaw) -> float:
    return sum((law.delta(*p[:3]) - p[3]) ** 2 for p in points)


def test_huber_ignores_an_outlier_that_squares_do_not() -> None:
    law = FITTED["w4a4"]
    points = [(*p, law.delta(*p)) for p in GRID]
    points[7] = (*points[7][:3], points[7][3] * 3)
    robust, plain = fit_qat_law(points), fit_qat_law(points, huber=None)
    assert abs(robust.n - law.n) < 1e-3 < abs(plain.n - law.n)


def test_signs_of_the_law() -> None:
    law = FITTED["w4a4"]
    base = law.delta(297e6, 30e9, 64)
    assert law.delta(595e6, 30e9, 64) < base < law.delta(297e6, 100e9, 64)
    assert base < law.delta(297e6, 30e9, 128)
    assert law.delta(297e6, 30e9, 1) == 0
    assert EXPONENTS["w4a16"][1] > EXPONENTS["w16a4"][1]  # weights' error rises faster with tokens
    with pytest.raises(SpecError, match=r"points\.0: delta 0\.0"):
        fit_qat_law([(1e6, 1e9, 32, 0.0)])
    with pytest.raises(SpecError, match="do not determine"):
        fit_qat_law([(1e6, 1e9, 32, 0.1)] * 8)


def test_linear_fit_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    a, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    want = np.linalg.lstsq(a, y, rcond=None)[0]
    np.testing.assert_allclose(linear_fit(a.tolist(), y.tolist()), want, rtol=1e-10)


def test_the_split_law_has_its_anchors() -> None:
    """f* at S = 10 .. 1e5: .05 .23 .38 .48 .56."""
    for s, f in ((10, 0.05), (100, 0.23), (1e3, 0.38), (1e4, 0.48), (1e5, 0.56)):
        assert abs(best_fraction(s) - f) < 0.005
        want = math.exp(math.log(s) - 6.7297 / math.log(s)) / s  # as it is published
        assert abs(best_fraction(s) - want) < 1e-12
    points = [(s, best_fraction(s)) for s in (20, 200, 5000)]
    assert abs(fit_split(points) - 6.7297) < 1e-9
    n, d = 1e9, 100e9
    assert best_fraction(tokens_per_byte(2 * d, n, 4)) > best_fraction(tokens_per_byte(d, n, 4))
    assert best_fraction(tokens_per_byte(d, 2 * n, 4)) < best_fraction(tokens_per_byte(d, n, 4)) < best_fraction(tokens_per_byte(d, n, 2))
    with pytest.raises(SpecError, match="more than 1"):
        best_fraction(0.5)


def test_the_best_split_of_a_loss_is_its_minimum() -> None:
    law = SplitLoss(Chinchilla(), theta=0.1, kappa=1.0, phi=30.0, chi=0.5, psi=0.2, omega=0.6, lambda_=2.0, mu=0.3, nu=0.1, xi=0.3, rho=0.0)
    n, d, bits = 3e8, 30e9, 4
    best = law.best(n, d, bits)
    grid = [i / 1000 for i in range(1, 1000)]
    assert abs(best - min(grid, key=lambda f: law.loss(n, d, bits, f))) <= 1e-3
    assert 0.01 < best < 0.99


def test_efficiencies_are_recovered() -> None:
    law = PrecisionLaw(1.5e5, 0.589, 5.3e5, 0.544, 0.274, 1.35)
    points = [(n, d) for n in (3e7, 1e8) for d in (1e9, 4e9, 16e9)]
    for which in ("eff_n", "eff_d"):
        for value in (0.3, 0.64, 0.94, 1.0):
            made = [(n, d, law.loss(n, d, **{which: value})) for n, d in points]
            assert abs(fit_efficiency(law, made, which) - value) < 1e-6
    assert law.loss(1e8, 1e9, 0.64) > law.loss(1e8, 1e9)
    assert abs(law.speed_for_loss(1e8, 1e9, 1.0, 0.5) - 0.5) < 1e-9


def test_allocation_is_the_best_of_all() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        sizes = [int(n) * 8 for n in rng.integers(1, 6, 4)]
        costs = [{b: float(c) for b, c in zip((2, 4, 8), np.sort(rng.random(3))[::-1], strict=True)} for _ in sizes]
        budget = int(4.2 * sum(sizes))
        found = allocate(costs, sizes, budget)
        assert sum(n * b for n, b in zip(sizes, found, strict=True)) <= budget
        best = min(
            sum(c[b] for c, b in zip(costs, bits, strict=True))
            for bits in itertools.product((2, 4, 8), repeat=4)
            if sum(n * b for n, b in zip(sizes, bits, strict=True)) <= budget
        )
        assert abs(sum(c[b] for c, b in zip(costs, found, strict=True)) - best) < 1e-12
    with pytest.raises(SpecError, match="narrowest widths need"):
        allocate([{4: 1.0}], [10], 20)


def test_roulette_sums_to_one() -> None:
    for trace in (0.5, 1.0, 2.0):
        assert sum(roulette(trace, 1.0, [2, 4, 6, 8]).values()) == 1
    assert roulette(0.5, 1.0, [2, 4, 6, 8])[2] == Fraction(1, 4)


def test_the_gradients_of_the_policy() -> None:
    """One step against differences of advantage ln p(c) + weight H(p)."""
    policy = Policy(((0.3, -0.2, 0.5),), steps=10, rate=1.0, entropy=0.2, baseline=0.1, step=3)
    made = policy.after([1], 0.7)

    def objective(row):
        e = np.exp(np.array(row) - max(row))
        p = e / e.sum()
        return 0.6 * np.log(p[1]) - policy.weight() * (p * np.log(p)).sum()

    for i in range(3):
        h = 1e-6
        up, down = list(policy.alphas[0]), list(policy.alphas[0])
        up[i] += h
        down[i] -= h
        assert abs((made.alphas[0][i] - policy.alphas[0][i]) - (objective(up) - objective(down)) / (2 * h)) < 1e-8


def test_the_search_finds_the_best_network_at_its_cost() -> None:
    """Layer 0 needs 8 bits, layers 1 and 2 are content with 4: the target cost is that of (8, 4, 4)."""
    widths, products = (4, 8), (1, 1, 1)
    gain = {(0, 8): 0.5, (0, 4): 0.0, (1, 8): 0.12, (1, 4): 0.1, (2, 8): 0.12, (2, 4): 0.1}
    rng, policy = np.random.default_rng(0), Policy.start(3, 2, steps=1500, rate=0.6, entropy=0.05)
    for _ in range(1500):
        chosen = policy.draw(rng.random(3).tolist())
        bits = [widths[c] for c in chosen]
        cost = sum(n * b for n, b in zip(products, bits, strict=True))
        policy = policy.after(chosen, reward(sum(gain[i, b] for i, b in enumerate(bits)), cost, 16.0))
    assert [widths[c] for c in policy.best()] == [8, 4, 4]
    assert min(max(p) for p in policy.probabilities()) > 0.8  # it has committed
