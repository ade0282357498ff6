"""Derivatives in few bits: the published constants, the error of every other cut, and steps of a recipe."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel import backend
from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.conformance.proves import proves
from lpref.ref.errors import SpecError, UnknownNameError
from lpref.ref.nn.activation import gelu_backward
from lpref.ref.nn.few_bit import DERIVATIVES, pieces
from lpref.ref.recipes import Context, Operation, OpRecipe
from lpref.specs import recipe

BOUNDS = [-2.39798704, -0.711248159, -0.326290283, -1.55338428e-04, 0.326182064, 0.710855860, 2.39811567]
LEVELS = [-0.00260009, -0.08883533, 0.1251944, 0.37204148, 0.6277958, 0.87466175, 1.08880716, 1.00259936]
"""skolai/fewbit, the constants of its functional GELU (3 bits)."""


@proves("recipe:few_bit_backward", "official")
def test_three_bits_of_gelu_are_the_published_ones() -> None:
    """Bounds within one step of the grid (0.02); levels within what that step changes: 0.02 times the largest slope, over the piece."""
    bounds, levels = pieces("gelu_erf", 3)
    assert np.abs(bounds - BOUNDS).max() <= 0.02
    assert np.abs(levels - LEVELS).max() <= 0.02


@pytest.mark.parametrize("name", DERIVATIVES)
@pytest.mark.parametrize("bits", [1, 2])
def test_no_cut_has_a_smaller_error(name: str, bits: int) -> None:
    """The squared error on the grid's middles, against cuts moved by a few steps."""
    x = -10 + 0.02 * (np.arange(1000) + 0.5)
    d = DERIVATIVES[name](x)

    def error(cuts) -> float:
        return sum(float(np.square(part - part.mean()).sum()) for part in np.split(d, cuts) if part.size)

    cuts = np.rint((pieces(name, bits)[0].astype(np.float64) + 10) / 0.02).astype(int)
    for i in range(cuts.size):
        for move in (-7, -1, 1, 7):
            other = cuts.copy()
            other[i] += move
            assert error(cuts) <= error(np.sort(other)) + 1e-12


@proves("recipe:few_bit_backward", "oracle")
@pytest.mark.parametrize(("function", "name"), [(F.silu, "silu"), (lambda x, under: F.gelu(x, "erf", under), "gelu_erf")])
def test_the_backward_pass_takes_levels(function, name: str) -> None:
    x = np.concatenate([np.random.default_rng(0).normal(size=500) * 3, pieces(name, 3)[0], [-0.0, 11, -11]]).astype(np.float32)[None]
    dy = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    bounds, levels = pieces(name, 3)
    want = dy * levels[np.searchsorted(bounds, x, side="left")]
    for grade in ("exact", "fast"):
        ops = backend("cpu", grade)
        under = Operation("silu", OpRecipe(derivative=3), Context(), {})
        t = Tensor(x, ops, requires_grad=True)
        y = function(t, under)
        y.backward(dy)
        np.testing.assert_array_equal(y.data, function(Tensor(x, ops), None).data)
        np.testing.assert_array_equal(t.grad, want)


def test_relu_stays_exact() -> None:
    ops, x = backend("cpu", "exact"), np.float32([[-1, 0, 2]])
    t = Tensor(x, ops, requires_grad=True)
    F.relu(t, Operation("activation", OpRecipe(derivative=3), Context(), {})).backward(np.ones_like(x))
    assert t.grad.tolist() == [[0, 0, 1]]
    assert gelu_backward(np.ones(1), np.zeros(1), "erf") == 0.5


def test_bad_derivatives() -> None:
    with pytest.raises(SpecError, match=r"operations\.norm\.derivative"):
        recipe({"base": "fp32", "operations": {"norm": {"derivative": 3}}})
    with pytest.raises(SpecError, match=r"operations\.silu\.derivative: 5"):
        recipe({"base": "fp32", "operations": {"silu": {"derivative": 5}}})
    with pytest.raises(UnknownNameError):
        pieces("mish", 3)
