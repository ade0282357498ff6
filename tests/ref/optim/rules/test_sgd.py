"""SGD: limits, look-ahead, torch in lockstep."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.optim.rules import SGD, sgd_update

rng = np.random.default_rng(5)


def test_constant_gradient_saturates_the_momentum() -> None:
    """b tends to g/(1-mu); powers of two make every operation exact until the spacing is reached."""
    g = np.float32([1.0])
    b = np.zeros_like(g)
    for t in range(1, 80):
        _, b = sgd_update(g, g, b, lr=0.1, mu=0.5, first=t == 1)
    assert b[0] == 2.0


def test_first_buffer_is_the_undamped_gradient() -> None:
    g = np.float32([3.0])
    assert sgd_update(g, g, np.float32([100]), lr=1.0, mu=0.5, dampening=0.5, first=True)[1][0] == 3.0
    assert sgd_update(g, g, np.float32([4]), lr=1.0, mu=0.5, dampening=0.5)[1][0] == 3.5


def test_nesterov_looks_ahead() -> None:
    g, b = np.float32([2.0]), np.float32([4.0])
    assert sgd_update(g, g, b, lr=1.0, mu=0.5)[0][0] == -4.0
    assert sgd_update(g, g, b, lr=1.0, mu=0.5, nesterov=True)[0][0] == -4.0 * 1.0  # g + mu (mu b + g) = 2 + .5 * 4
    assert sgd_update(g, 2 * g, b, lr=1.0, mu=0.5, nesterov=True)[0][0] == -7.0


def test_no_momentum_keeps_no_state() -> None:
    assert SGD().states() == ()
    delta, state = SGD(lr=0.5).update(np.float32([1]), np.float32([3]), {}, t=1, lr=0.5, decay=True)
    assert delta.tolist() == [-1.5]
    assert state == {}


@pytest.mark.peer
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("wd", [0.0, 0.01])
def test_torch_in_float64(nesterov: bool, wd: float) -> None:
    """Same products in the same order up to one fused multiply-add each: at most 8 roundings of the largest term apart."""
    torch = pytest.importorskip("torch")
    rule = SGD(lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=wd)
    p, b = rng.standard_normal(200), np.zeros(200)
    theirs = torch.nn.Parameter(torch.tensor(p))
    opt = torch.optim.SGD([theirs], lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=wd)
    for t in range(1, 6):
        g = rng.standard_normal(200)
        theirs.data = torch.tensor(p)
        if t > 1:
            opt.state[theirs]["momentum_buffer"] = torch.tensor(b)
        theirs.grad = torch.tensor(g)
        opt.step()
        old, (delta, new) = b, rule.update(p, g, {"b": b}, t=t, lr=0.1, decay=True)
        bound = 8 * 2.0**-53 * (np.abs(p) + np.abs(g) + np.abs(old) + np.abs(new["b"]))
        assert np.all(np.abs(theirs.detach().numpy() - (p + delta)) <= bound)
        p, b = p + delta, new["b"]
