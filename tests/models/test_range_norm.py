"""Range batch normalization in a model: the page's bits, its gradient by differences, and training."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel import backend
from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.autodiff.check import check_grads
from lpref.models import build
from lpref.ref.errors import ShapeError, SpecError
from lpref.ref.nn.range_norm import range_batch_norm
from lpref.ref.recipes import Context
from lpref.specs import recipe

MODEL = {"kind": "cnn", "widths": [4], "groups": 2, "norm": "range", "range_chunks": 4}


def test_the_layer_has_the_bits_of_the_page() -> None:
    model = build(MODEL, None, 0, backend("cpu", "exact"))
    rng = np.random.default_rng(0)
    x, weight, bias = rng.normal(size=(5, 4, 8, 8)), rng.normal(size=4), rng.normal(size=4)
    x, weight, bias = (a.astype(np.float32) for a in (x, weight, bias))
    model.set_arrays({**model.arrays(), "stem.norm.weight": weight, "stem.norm.bias": bias})
    y = model.range_norm("stem.norm", Tensor(x, model.backend), Context())
    np.testing.assert_array_equal(y.data, range_batch_norm(x, weight, bias, chunks=4))


def test_its_gradient() -> None:
    """By differences in float64, through extremes and mean."""
    model = build(MODEL, None, 0, backend("reference", "exact"))
    x = np.random.default_rng(1).normal(size=(2, 4, 4, 4))

    def loss(t: Tensor) -> Tensor:
        model.params = {n: Tensor(a.data.astype(np.float64), model.backend) for n, a in model.params.items()}
        y = model.range_norm("stem.norm", t, Context())
        return F.sum(y * y * y)

    check_grads(loss, [Tensor(x, model.backend, requires_grad=True)])


def test_a_step_moves_every_parameter() -> None:
    model = build(MODEL, None, 0, backend("cpu", "fast"))

    class Batch:
        inputs = np.random.default_rng(2).normal(size=(6, 1, 8, 8)).astype(np.float32)
        targets = np.arange(6)

    model.loss(Batch, Context()).backward()
    assert all(np.any(g) for name, g in model.grads().items())


def test_what_is_refused() -> None:
    with pytest.raises(SpecError, match="norm: 'batch' is not one of group, range"):
        build({**MODEL, "norm": "batch"})
    model = build(MODEL, recipe("actnn"), 0, backend("cpu", "exact"))
    with pytest.raises(SpecError, match="range normalization has no form under a recipe"):
        model.range_norm("stem.norm", Tensor(np.zeros((1, 4, 8, 8), np.float32), model.backend), Context())
    model = build({**MODEL, "range_chunks": 7}, None, 0, backend("cpu", "exact"))
    with pytest.raises(ShapeError, match="64 values of a channel in 7 chunks"):
        model.range_norm("stem.norm", Tensor(np.zeros((1, 4, 8, 8), np.float32), model.backend), Context())
