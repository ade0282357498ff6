"""The public wrappers and what stands behind them refuse what does not fit, typed."""

from __future__ import annotations

import numpy as np
import pytest

import lpref
from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.ref.errors import ShapeError, SpecError, UnknownNameError
from lpref.ref.optim import OptimContext


def test_a_gradient_of_another_shape() -> None:
    params = {"a": np.ones(3, np.float32)}
    opt = lpref.optimizer("adamw")
    with pytest.raises(ShapeError, match=r"a: \(3,\) and \(4,\)"):
        opt.update(params, {"a": np.ones(4, np.float32)}, opt.init(params), OptimContext(step=0, update=0, seed=1, lr=1e-3))


@pytest.mark.parametrize("hyper", [{"lr": "x"}, {"betas": ("a", 0.9)}, {"eps": None}])
def test_hyper_parameters_are_numbers(hyper: dict) -> None:
    with pytest.raises(SpecError, match=next(iter(hyper))):
        lpref.optimizer("adamw", **hyper)


@pytest.mark.parametrize(("stride", "padding"), [(0, 0), (1, -1)])
def test_a_convolution_steps_forward(stride: int, padding: int) -> None:
    backend = lpref.backend("reference")
    x, w = (Tensor(np.ones(shape, np.float32), backend) for shape in ((1, 2, 4, 4), (3, 2, 3, 3)))
    with pytest.raises(ShapeError, match="stride"):
        F.conv2d(x, w, stride=stride, padding=padding)


def test_linear_of_a_scalar_and_its_context() -> None:
    with pytest.raises(ShapeError, match="scalar"):
        lpref.linear(np.float32(1), np.ones((2, 3)), "fp32")
    assert lpref.linear(np.ones((2, 32)), np.ones((2, 32)), "mxfp8", {"seed": 1, "pass": 1}).shape == (2, 2)


def test_own_names_come_first() -> None:
    with pytest.raises(UnknownNameError) as found:
        lpref.format("?")
    assert "CUDA_R" not in str(found.value)


def test_numpy_numbers_are_numbers() -> None:
    assert lpref.optimizer("adamw", lr=np.float32(0.5)).rule.lr == 0.5
