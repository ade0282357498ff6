"""What quantizers lose and observe: error statistics, known shares and errors of Gaussian tensors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lpref.ref.errors import ShapeError
from lpref.ref.quantize import init_state, quantize, stats

RNG = np.random.default_rng(0)
X = RNG.standard_normal((128, 512)).astype(np.float32)


def test_ternary_codes_of_a_gaussian_are_31_percent_zero() -> None:
    codes = quantize(RNG.standard_normal((400, 400)).astype(np.float32), "ternary_absmean").unpacked().astype(np.uint8)
    assert set(np.unique(codes)) == {0, 1, 3}
    assert abs((codes == 0).mean() - 0.310) < 5 * math.sqrt(0.31 * 0.69 / codes.size)


@pytest.mark.parametrize(
    ("name", "relative"), [("mxfp4", 0.0133), ("mxfp4:scale=rceil", 0.0134), ("mxfp4:multiplier=0.75", 0.0138)]
)  # fmt: skip
def test_mean_squared_error_of_gaussian_blocks(name: str, relative: float) -> None:
    """The relative error of Gaussian blocks is the quoted figure, which has four decimals.

    Blocks are independent: d = |e|^2 - relative |x|^2 of a block has mean 0 but for the figure's rounding, and the mean of 10^4 of them is
    normal: beyond 5 standard errors with a probability of 6e-7.
    """
    x = RNG.standard_normal((10_000, 32)).astype(np.float32)
    error = ((quantize(x, name).dequantize() - x) ** 2).sum(1)
    size = (x.astype(float) ** 2).sum(1)
    d = error - relative * size
    assert abs(d.mean()) <= 0.5e-4 * size.mean() + 5 * d.std(ddof=1) / math.sqrt(d.size)


def test_statistics() -> None:
    x = np.float32([[6, 7.5, 0.1, -0.2, 1, 0, 2, 4]])
    t = quantize(x, "mxfp4:k=8")
    s = stats(x, t)
    assert (s["overflowed"], s["underflowed"], s["count"]) == (1, 2, 8)
    assert s["max_abs_err"] == 1.5
    assert s["mse"] == pytest.approx((1.5**2 + 0.1**2 + 0.2**2) / 8)
    assert s["amax"] == 7.5
    assert s["bits_per_element"] == 5.0
    assert stats(np.float32([[1, 2]]), quantize(np.float32([[1, 2]]), "bf16"))["sqnr_db"] == math.inf
    with pytest.raises(ShapeError):
        stats(x[:, :4], t)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nothing_finite_leaves_nothing_to_measure(bad: float) -> None:
    x = np.full((2, 32), bad, np.float32)
    s = stats(x, quantize(x, "mxfp8_e4m3"))
    assert math.isnan(s["sqnr_db"])
    assert math.isnan(s["mse"])
    assert math.isnan(s["max_abs_err"])
    x[1] = 1
    assert stats(x, quantize(x, "mxfp8_e4m3"))["sqnr_db"] == math.inf  # the rest is exact


def test_observed_merges() -> None:
    assert init_state("mxfp4") == {}
    assert init_state("int4_learned")["scale"] == 1
    t = quantize(X, "fp8_tensor")
    assert t.observed["amax"] == np.abs(X).max()
    assert t.observed["count"] == X.size
