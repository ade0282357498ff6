"""A residual addition and the norm of its sum in one op: the bits of the two apart, first and second order, checked gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from lpref.accel import backend
from lpref.autodiff import Tensor, check_grads, grad, no_grad
from lpref.autodiff import functional as F
from lpref.autodiff.transforms import hvp
from lpref.ref.errors import DTypeError, ShapeError
from lpref.ref.recording import RecordingBackend

NORMS = ("rmsnorm", "layernorm")
SHAPE = (3, 5)


def vectors(name: str) -> list[tuple[int, ...]]:
    return [SHAPE[-1:]] * NORMS.index(name) + [SHAPE[-1:]]


def together(name: str, *args: Tensor, **kept: str) -> tuple[Tensor, Tensor]:
    return getattr(F, f"add_{name}")(*args, 1e-5, **kept)


def apart(name: str, x: Tensor, h: Tensor, *args: Tensor) -> tuple[Tensor, Tensor]:
    s = x + h
    return s, getattr(F, name)(s, *args, 1e-5)


def two_branches(norm: Callable[..., tuple[Tensor, Tensor]], name: str, x: Tensor, h: Tensor, *args: Tensor) -> Tensor:
    """A stream whose sums have younger users, one without any, and a norm of no sum whose input has another user."""
    first = getattr(F, name)(x, *args, 1e-5)
    s, y = norm(name, x, F.tanh(first) * h, *args)
    t, z = norm(name, s, F.tanh(y), *args)
    return F.sum(z * 0.3) + F.sum(t * s)


@pytest.mark.parametrize("name", NORMS)
def test_bits_of_the_two_apart(tensor, name: str) -> None:
    args = [tensor(s, seed=i, dtype=np.float32) for i, s in enumerate((SHAPE, SHAPE, *vectors(name)))]
    for one, other in zip(together(name, *args), apart(name, *args), strict=True):
        np.testing.assert_array_equal(one.data, other.data)
    found, wanted = (grad(two_branches(norm, name, *args), args) for norm in (together, apart))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.data.view(np.uint32), other.data.view(np.uint32))


@pytest.mark.parametrize("name", NORMS)
def test_first_and_second_order(tensor, name: str) -> None:
    args = [tensor(s, seed=i) for i, s in enumerate((SHAPE, SHAPE, *vectors(name)))]
    check_grads(lambda *args: two_branches(together, name, *args), args, order=2, coordinates=4)
    directions = [tensor(a.shape, seed=9) for a in args]
    found, wanted = (hvp(partial(two_branches, norm, name), args, directions) for norm in (together, apart))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=0, atol=1e-10)


def test_who_adds() -> None:
    """One op each way; a copy for h where it is asked for, and no longer than the gradient that it is a copy of."""
    ops = RecordingBackend(backend("cpu", "exact"))
    draw = np.random.default_rng(1)
    x, h, w = (Tensor(draw.normal(size=s).astype(np.float32), ops, True) for s in ((4, 8), (4, 8), (8,)))
    s, y = F.add_rmsnorm(x, h, w, back="bfloat16")
    total = F.sum(y * 2.0) + F.sum(s * 3.0)
    grad(total, [x, h, w], retain_graph=True)
    names = [call.op for call in ops.recording.calls]
    assert names.count("add_rmsnorm") == names.count("add_rmsnorm_backward") == 1
    of_x, of_h, _ = grad(total, [x, h, w], retain_graph=True)
    np.testing.assert_array_equal(of_h.data, ops.cast(of_x.data, "bfloat16"))
    (of_h,) = grad(F.sum(s * 5.00001), [h])
    assert of_h.data[0, 0] == np.float32(5.00001)


def test_nothing_is_recorded_without_need(tensor) -> None:
    x, h, w = (tensor(s, requires_grad=False) for s in (SHAPE, SHAPE, SHAPE[1:]))
    assert not any(t.requires_grad for t in F.add_rmsnorm(x, h, w))
    gain = tensor(SHAPE[1:])
    s, y = F.add_rmsnorm(x, h, gain, back="bfloat16")
    assert (s.requires_grad, y.requires_grad) == (False, True)
    np.testing.assert_array_equal(grad(F.sum(y), [gain])[0].data, grad(F.sum(F.rmsnorm(x + h, gain)), [gain])[0].data)
    with no_grad():
        assert not F.add_rmsnorm(x, h, gain)[1].requires_grad


def test_refusals(tensor) -> None:
    x, w = tensor(SHAPE), tensor(SHAPE[1:])
    with pytest.raises(ShapeError, match="h is"):
        F.add_rmsnorm(x, tensor((1, 5)), w)
    with pytest.raises(ShapeError, match="vector"):
        F.add_rmsnorm(x, x, tensor((4,)))
    with pytest.raises(DTypeError, match="add of"):
        F.add_layernorm(x, tensor(SHAPE, dtype=np.float32), w, w)
