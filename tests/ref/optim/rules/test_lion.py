"""Lion: exact signs, exact step length, momentum after the sign."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from lpref.ref.optim.rules import Lion, lion_update

rng = np.random.default_rng(3)


def test_every_step_has_the_length_lr() -> None:
    p, g, m = (rng.standard_normal(1000).astype(np.float32) for _ in range(3))
    delta, _ = lion_update(p, g, m, lr=1e-4, b1=0.9, b2=0.99, wd=0.0)
    assert np.all(np.abs(delta) == np.float32(1e-4))


def test_the_sign_is_that_of_the_exact_interpolation() -> None:
    """Exact rational c of the rounded coefficients; three roundings can only change its sign within 2u(|b1 m| + |c1 g|)."""
    g, m = (rng.standard_normal(300).astype(np.float32) for _ in range(2))
    m[:50] = -g[:50] * np.float32(0.1 / 0.9)  # nearly cancelling
    delta, _ = lion_update(np.zeros_like(g), g, m, lr=1.0, b1=0.9, b2=0.99, wd=0.0)
    b1, c1 = (Fraction(float(np.float32(x))) for x in (0.9, 1 - 0.9))
    for i in range(g.size):
        a, b = b1 * Fraction(float(m[i])), c1 * Fraction(float(g[i]))
        if abs(a + b) > Fraction(2, 2**24) * (abs(a) + abs(b)):
            assert delta[i] == (-1 if a + b > 0 else 1)


def test_zero_moves_nothing_and_decay_is_decoupled() -> None:
    zero = np.zeros(3, np.float32)
    p = np.float32([4, -4, 0])
    delta, m = lion_update(p, zero, zero, lr=0.5, b1=0.9, b2=0.99, wd=0.25)
    assert (p + delta).tolist() == [3.5, -3.5, 0.0]
    assert not m.any()  # the decay never enters the momentum


def test_the_sign_uses_the_old_momentum() -> None:
    one = np.float32([1])
    delta, m = lion_update(one, -one, one, lr=1.0, b1=0.75, b2=0.25, wd=0.0)
    assert (delta[0], m[0]) == (-1.0, -0.5)  # c = .75 - .25 > 0; with the new momentum it would be < 0


def test_scaling_the_gradient_by_a_power_of_two_changes_nothing() -> None:
    p, g, m = (rng.standard_normal(100).astype(np.float32) for _ in range(3))
    rule = Lion(weight_decay=0.1)
    one = rule.update(p, g, {"m": m}, t=1, lr=1e-3, decay=True)[0]
    two = rule.update(p, g * np.float32(4), {"m": m * np.float32(4)}, t=1, lr=1e-3, decay=True)[0]
    assert np.array_equal(one, two)


def test_without_decay_group() -> None:
    rule, zero = Lion(weight_decay=1.0), np.zeros(2, np.float32)
    assert not rule.update(np.float32([1, 2]), zero, {"m": zero}, t=1, lr=0.1, decay=False)[0].any()
