"""check_grads itself: planted errors are found, right rules pass, the message says where."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.autodiff import Tensor, check_grads
from lpref.autodiff import functional as F
from lpref.autodiff.check import GradientError, difference, noise
from lpref.autodiff.fused import Fused
from lpref.ref.errors import DTypeError


def wrong(backward, composite=None):
    return Fused("wrong", lambda B, x: (x * x, None), backward, composite or (lambda x: x * x))


@pytest.mark.parametrize("factor", [2.0 + 1e-6, 2.0 - 1e-7, -2.0, 0.0])
def test_planted_errors_are_caught(tensor, factor) -> None:
    op = wrong(lambda B, dy, saved, xs, wants: (dy * xs[0] * factor,))
    with pytest.raises(GradientError, match=r"argument 0 at \(0, 0\).*the bound is"):
        check_grads(op, [tensor((2, 2), 0.5, 2.0)])


def test_one_wrong_element_is_named(tensor) -> None:
    mask = np.ones((2, 3))
    mask[1, 2] = 1 + 1e-5
    op = wrong(lambda B, dy, saved, xs, wants: (dy * xs[0] * 2 * mask,))
    with pytest.raises(GradientError) as error:
        check_grads(op, [tensor((2, 3), 0.5, 2.0)])
    assert error.value.place == (1, 2)
    assert abs(error.value.analytic - error.value.numeric) > error.value.bound


def test_a_wrong_second_order_is_caught(tensor) -> None:
    op = wrong(lambda B, dy, saved, xs, wants: (dy * xs[0] * 2,), lambda x: x * x.detach() * 2.0)
    check_grads(op, [tensor((3,), 0.5, 2.0)])
    with pytest.raises(GradientError):
        check_grads(op, [tensor((3,), 0.5, 2.0)], order=2)


def test_needs_float64(B) -> None:
    with pytest.raises(DTypeError, match="argument 0 is float32"):
        check_grads(lambda x: x, [Tensor(np.ones(2, np.float32), B)])


def test_returns_how_much_of_the_bound_was_used(tensor) -> None:
    assert 0 <= check_grads(lambda x: F.sum(x * x * x), [tensor((3,))]) <= 1


def test_noise_is_measured_not_assumed() -> None:
    """φ rounded to a grid of 2^-30 has noise of about 2^-30/√12, a smooth φ that of float64."""
    rough = noise(lambda t: (round(t / 1e-12 * 1.618) / 2**30, 1.0), 1e-12)
    assert 2**-34 < rough < 2**-29
    assert noise(lambda t: (1.0 + t, 1.0), 2.0**-30) < 2.0**-51
    value, bound = difference(lambda t: ((1 + t) ** 3, (1 + t) ** 3), 1.0)
    assert abs(value - 3.0) <= bound < 1e-7
