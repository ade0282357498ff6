"""AdamW: bits against a scalar transcription, laws of the rule, and torch within a counted bound."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lpref.ref.optim.rules import AdamW, adamw_coefficients, adamw_update, integer_power

rng = np.random.default_rng(7)
f32 = np.float32


def arrays(n: int, dtype: type = np.float32) -> list[np.ndarray]:
    """p, g, m, v with widely different magnitudes."""
    spread = 10.0 ** rng.uniform(-6, 2, (4, n))
    p, g, m, v = rng.standard_normal((4, n)) * spread
    return [a.astype(dtype) for a in (p, g, m, v * v)]


@pytest.mark.parametrize("wd_order", ["before", "inside", "after"])
@pytest.mark.parametrize("eps_mode", ["outside", "raw"])
@pytest.mark.parametrize("t", [1, 2, 17, 100_000])
def test_bits_of_the_written_order(wd_order: str, eps_mode: str, t: int) -> None:
    lr, b1, b2, eps, wd = 3e-3, 0.9, 0.95, 1e-8, 0.1
    p, g, m, v = arrays(64)
    k = adamw_coefficients(t, lr, b1, b2, eps, wd, wd_order, eps_mode)
    delta, m_new, v_new = adamw_update(p, g, m, v, k, wd_order)
    power1, power2 = integer_power(b1, t), integer_power(b2, t)
    for i in range(p.size):  # the page, one element at a time
        me = f32(f32(f32(b1) * m[i]) + f32(f32(1 - b1) * g[i]))
        ve = f32(f32(f32(b2) * v[i]) + f32(f32(1 - b2) * f32(g[i] * g[i])))
        rate = 1.0 if wd_order == "inside" else lr
        if eps_mode == "outside":
            a, r = f32(rate / (1 - power1)), f32(1 / math.sqrt(1 - power2))
        else:
            a, r = f32(rate * math.sqrt(1 - power2) / (1 - power1)), f32(1)
        s = f32(f32(a * me) / f32(f32(f32(np.sqrt(ve)) * r) + f32(eps)))
        if wd_order == "before":
            want = -f32(f32(f32(lr * wd) * p[i]) + s)
        elif wd_order == "inside":
            want = -f32(f32(lr) * f32(s + f32(f32(wd) * p[i])))
        else:
            want = -f32(s + f32(f32(lr * wd) * f32(p[i] - s)))
        assert (m_new[i], v_new[i], delta[i]) == (me, ve, want)


def test_first_step_without_eps_is_lr_times_sign() -> None:
    """m' = (1-b1) g and v' = (1-b2) g^2, so the exact step is -lr sign(g); 10 roundings of relative error u each."""
    g = (rng.standard_normal(1000) * 10.0 ** rng.uniform(-12, 12, 1000)).astype(np.float32)
    zero = np.zeros_like(g)
    delta, _, _ = adamw_update(zero, g, zero, zero, adamw_coefficients(1, 0.25, eps=0.0))
    u = 2.0**-24
    assert np.all(np.abs(delta.astype(np.float64) + 0.25 * np.sign(g)) <= 0.25 * 11 * u)


def test_without_eps_the_step_does_not_see_powers_of_two_in_the_gradient() -> None:
    p, g, m, v = arrays(256)
    k = adamw_coefficients(3, 1e-3, eps=0.0)
    one = adamw_update(p, g, m, v, k)[0]
    assert np.array_equal(adamw_update(p, g * f32(8), m * f32(8), v * f32(64), k)[0], one)


def test_no_decay_equals_adam_and_decay_pulls_to_zero() -> None:
    p = f32([2.0, -2.0])
    zero = np.zeros_like(p)
    k = adamw_coefficients(1, 0.5, eps=1e-8, wd=0.0)
    assert not adamw_update(p, zero, zero, zero, k)[0].any()
    k = adamw_coefficients(1, 0.5, eps=1e-8, wd=0.5)
    assert (p + adamw_update(p, zero, zero, zero, k)[0]).tolist() == [1.5, -1.5]


def test_step_is_bounded() -> None:
    """|delta| <= lr max(1, (1-b1)/sqrt(1-b2)) over any gradient sequence (arXiv:1412.6980, section 2.1), plus the roundings."""
    b1, b2, lr = 0.9, 0.999, 0.01
    limit = lr * max(1.0, (1 - b1) / math.sqrt(1 - b2)) * (1 + 100 * 2.0**-24)
    m = v = p = np.zeros(200, np.float32)
    for t in range(1, 200):
        g = np.where(rng.random(200) < 0.02, rng.standard_normal(200) * 100, 0).astype(np.float32)
        delta, m, v = adamw_update(p, g, m, v, adamw_coefficients(t, lr, b1, b2, 0.0 if (v + g * g).all() else 1e-30))
        assert np.all(np.abs(delta) <= limit)


def test_wrong_order_of_decay_is_visible() -> None:
    p, g, m, v = arrays(64)
    results = [
        adamw_update(p, g, m, v, adamw_coefficients(2, 0.1, wd=0.5, wd_order=order), order)[0] for order in ("before", "inside", "after")
    ]
    assert not np.array_equal(results[0], results[1])
    exact = np.float64(0.05) * p  # "after" decays the stepped weight: the two differ by lr wd s, not only by rounding
    step = -results[0] - exact
    assert np.allclose(results[2] - results[0], 0.05 * step, rtol=1e-2, atol=1e-4 * np.abs(p).max())


def test_integer_power() -> None:
    assert integer_power(0.9, 0) == 1.0
    for n in (1, 2, 3, 10, 1000):
        assert abs(integer_power(0.999, n) - 0.999**n) <= 2 * n * 2.0**-53


@pytest.mark.peer
@pytest.mark.parametrize("wd", [0.0, 0.1])
def test_torch_in_float64(wd: float) -> None:
    """Lockstep: torch gets our state each step. Both sides round each listed operation once; u = 2^-53.

    m differs by at most 8u(|m|+|g|) (lerp against two products), v relatively by 10u, s by its share of both, p by 8u more.
    """
    torch = pytest.importorskip("torch")
    lr, b1, b2, eps, u = 3e-3, 0.9, 0.95, 1e-8, 2.0**-53
    p, g, m, v = arrays(500, np.float64)
    rule = AdamW(lr=lr, betas=(b1, b2), eps=eps, weight_decay=wd)
    for t in range(1, 20):
        g = rng.standard_normal(500) * 10.0 ** rng.uniform(-6, 2, 500)
        theirs = torch.nn.Parameter(torch.tensor(p))
        opt = torch.optim.AdamW([theirs], lr=lr, betas=(b1, b2), eps=eps, weight_decay=wd)
        opt.state[theirs] = {"step": torch.tensor(float(t - 1)), "exp_avg": torch.tensor(m), "exp_avg_sq": torch.tensor(v)}
        theirs.grad = torch.tensor(g)
        opt.step()
        delta, new = rule.update(p, g, {"m": m, "v": v}, t=t, lr=lr, decay=True)
        denominator = np.sqrt(new["v"] / (1 - b2**t)) + eps
        dm = 8 * u * (np.abs(m) + np.abs(g))
        s = np.abs(lr * new["m"] / (1 - b1**t) / denominator)
        bound = lr / (1 - b1**t) / denominator * dm + 32 * u * s + 8 * u * np.abs(p)
        assert np.all(np.abs(theirs.detach().numpy() - (p + delta)) <= bound)
        assert np.all(np.abs(opt.state[theirs]["exp_avg"].numpy() - new["m"]) <= dm)
        p, m, v = p + delta, new["m"], new["v"]
