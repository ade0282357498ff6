"""The measurements, where their value is known."""

from __future__ import annotations

from typing import Any

import pytest

from lpref.ref.analysis.qat_law import QatLaw
from lpref.ref.errors import UnknownNameError
from lpref.trainer.reproduce.measures import laws
from lpref.trainer.reproduce.measures.gradients import input_gradient, weight_gradient
from lpref.trainer.reproduce.measures.laws import best_share, qat_exponent
from lpref.trainer.reproduce.measures.products import accumulation_error, forward_error, product_error
from lpref.trainer.reproduce.measures.rounding import relative_error, shrinkage

NEAREST = {"base": "actnn", "set": {"linear.save.x.quantizer.rounding": "nearest_even"}}
SMALL = {"rows": 32, "outputs": 8, "inputs": 64}


@pytest.mark.parametrize("figure", ["variance", "bias", "squared_bias"])
def test_float32_gradients_have_neither_variance_nor_bias(figure: str) -> None:
    assert input_gradient(1, "fp32", figure, draws=2, rows=32, outputs=8, inputs=8) == 0
    assert weight_gradient(1, "fp32", figure, draws=2, **SMALL) == 0


def test_nearest_rounding_has_no_variance_and_all_of_its_error_is_bias() -> None:
    assert weight_gradient(1, NEAREST, "variance", draws=2, **SMALL) == 0
    two, three = (weight_gradient(1, NEAREST, "squared_bias", draws=draws, **SMALL) for draws in (2, 3))
    assert two == pytest.approx(three, rel=1e-12)
    assert two > 0.05


def test_squared_bias_is_below_the_variance_for_stochastic_rounding() -> None:
    """Unbiased: of its estimate the standard deviation is at most the variance of one draw over the draws, times a few."""
    variance = weight_gradient(1, "actnn", "variance", draws=32, **SMALL)
    assert abs(weight_gradient(1, "actnn", "squared_bias", draws=32, **SMALL)) < variance / 32


def test_an_unknown_figure_is_refused() -> None:
    with pytest.raises(UnknownNameError):
        weight_gradient(1, "fp32", "luck", draws=2, **SMALL)


def test_products_of_float32_are_as_exact_as_float32() -> None:
    assert forward_error(1, "fp32", "gaussian", rows=16, outputs=16, inputs=64) < 1e-6
    assert forward_error(1, "nvfp4", "gaussian", rows=16, outputs=16, inputs=64) > 1e-2


def test_sums_that_fit_are_exact_and_long_ones_swamp() -> None:
    assert accumulation_error(1, terms=1, chunk=None) < 2**-9
    assert accumulation_error(1, terms=8192, chunk=None) > 0.5 > 0.1 > accumulation_error(1, terms=8192, chunk=64)


def test_bfloat16_errs_by_no_more_than_half_a_step() -> None:
    """u = 2^-8 is half of a relative step; a product of two such matrices errs by at most the sum of both, and the second order."""
    u = 2.0**-8
    assert 0 < relative_error(1, "bf16", "heavy", rows=8, columns=64) <= u**2
    assert abs(shrinkage(1, "bf16", rows=8, columns=64)) <= u
    assert 0 < product_error(1, "bf16", "gaussian", rows=16, columns=16, depth=64) < 16 * (2 * u + u**2)


TINY = {"train": "train/ci_gpt", "train.batch": 2, "model.layers": 1, "model.context": 16, "data.valid_windows": 2}


def test_the_best_share_is_one_of_those_asked_for() -> None:
    assert best_share(1, bits=2, group=64, shares=[0, 0.5], **TINY, **{"train.steps": 2, "model.ffn": 192}) in (0, 0.5)  # type: ignore[arg-type]


def test_the_fitted_exponents_are_those_of_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses that follow a law exactly give its exponents back."""

    def loss(seed: int, train: str, fields: dict[str, Any]) -> float:
        n, d = 12.0 * fields["model.d_model"] ** 2, float(fields["train.steps"])
        if fields["recipe"] == "bf16":
            return 2.0
        group = fields["recipe"]["set"]["linear.fprop.a.quantizer"]["blocks"]["k"]
        return 2.0 + QatLaw(0.5, 0.25, 0.125, 0.75).delta(n, d, group)

    monkeypatch.setattr(laws, "trained_loss", loss)
    laws._law.cache_clear()
    grid: dict[str, Any] = {"train": "train/ci_gpt", "widths": [32, 64], "steps": [10, 40], "groups": [8, 16]}
    assert [qat_exponent(1, exponent, **grid) for exponent in "ndg"] == pytest.approx([0.25, 0.125, 0.75], rel=1e-3)
    laws._law.cache_clear()


def test_an_unknown_exponent_is_refused() -> None:
    with pytest.raises(UnknownNameError):
        qat_exponent(1, "x", "train/ci_gpt", [32], [1], [8])
