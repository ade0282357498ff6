"""The rules deviation (Quartet) and center (posits): their formulas written out again, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpref.accel import backend
from lpref.conformance.proves import proves
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Blocks, Quantizer, Scale, lookup, quantize

C = 2.92247856 / 6
QUARTET = Quantizer("e2m1", Blocks(1, 32), Scale("deviation", format="e8m0", std=C, eps=1e-8))
POSIT = Quantizer("posit8_1", scale=Scale("center"), overflow="posit")


def normal(seed: int, rows: int = 16, columns: int = 128) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, columns)) * np.exp2(rng.integers(-20, 20, (rows, 1)))).astype(np.float32)


def triton(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IST-DASLab/Quartet 00ccd38 quantizers/mxfp4_triton.py lines 45-53 and 128-166 for quest=True, transcribed; float64 sums, values and mask."""
    g = x.astype(np.float64).reshape(-1, 32)
    mean, squares = g.mean(-1, keepdims=True), (g * g).mean(-1, keepdims=True)
    scales = C * np.sqrt(squares - mean * mean) + 1e-8
    shared = np.exp2(np.floor(np.log2(scales)))
    a, sign = np.abs(g / shared), np.where(g > 0, 1, -1)
    values = np.select([a > 5, a > 3.5, a > 2.5, a > 1.75, a > 1.25, a > 0.75, a > 0.25], [6, 4, 3, 2, 1.5, 1, 0.5], 0) * sign * shared
    return values.reshape(x.shape), (a < 6).reshape(x.shape)


@pytest.mark.parametrize("seed", range(4))
@proves("recipe:quartet", "official")
def test_deviation_is_the_official_kernel(seed: int) -> None:
    """Sums in another order give another exponent only next to a power of two, which these blocks avoid; no element lies on a tie."""
    x = normal(seed)
    level = C * x.astype(np.float64).reshape(-1, 32).std(-1) + 1e-8
    fraction = np.log2(level) % 1
    assert fraction.min() > 1e-5
    assert fraction.max() < 1 - 1e-5
    np.testing.assert_array_equal(quantize(x, QUARTET).dequantize(), triton(x)[0])


def test_deviation_of_constant_zero_and_broken_blocks() -> None:
    x = np.zeros((1, 128), np.float32)
    x[0, 32:64], x[0, 64], x[0, 96] = 3, np.nan, 1e30
    t = quantize(x, QUARTET)
    assert t.scales[0].reshape(-1).tolist() == [100, 100, 255, 255]
    assert t.dequantize()[0, :32].tolist() == [0] * 32
    assert np.isnan(t.dequantize()[0, 64:]).all()


def test_deviation_is_invariant_under_powers_of_two() -> None:
    x = normal(9)
    q = Quantizer("e2m1", Blocks(1, 32), Scale("deviation", format="e8m0", std=C))
    for k in (-9, 4):
        np.testing.assert_array_equal(quantize(np.ldexp(x, k), q).dequantize(), np.ldexp(quantize(x, q).dequantize(), k))


def test_the_floor_of_the_kernel_clips_gaussians() -> None:
    """c sigma is the best step of 6 levels; rounded down to a power of two it clips between 1.46 and 2.92 sigma, and the error on a Gaussian is
    above that of the amax rule whatever sigma is (the paper's table has it below)."""
    g, ops = np.random.default_rng(5).standard_normal((128, 128)), backend("cpu", "exact")
    for sigma in np.exp2(np.arange(8) / 8):
        x = (g * sigma).astype(np.float32)
        floor, amax = (float(np.square(ops.qdq(x, q).astype(np.float64) - x).mean()) for q in (QUARTET, lookup("mxfp4")))
        assert floor > amax


def test_center_by_hand() -> None:
    form = format_named("posit8_1")
    x = normal(3, 8, 32)
    live = np.abs(x[x != 0]).astype(np.float64)
    s = 2.0 ** np.rint(np.log2(live).mean())
    t = quantize(x, POSIT)
    assert float(t.scale_values().reshape(-1)[0]) == s
    np.testing.assert_array_equal(t.dequantize(), form.round(x.astype(np.float64) / s, overflow="posit") * s)


@given(k=st.integers(-60, 60))
def test_center_takes_powers_of_two_out(k: int) -> None:
    x = normal(4, 4, 16)
    np.testing.assert_array_equal(quantize(np.ldexp(x, k), POSIT).codes, quantize(x, POSIT).codes)


def test_center_of_zeros_and_infinities() -> None:
    assert float(quantize(np.zeros((2, 2), np.float32), POSIT).scale_values()[0, 0]) == 1
    assert np.isnan(quantize(np.float32([[1, np.inf]]), POSIT).dequantize()).all()


@pytest.mark.parametrize("q", [QUARTET, POSIT], ids=["deviation", "center"])
def test_the_cpu_backend_has_the_bits(q: Quantizer) -> None:
    ops = backend("cpu", "exact")
    for x in (normal(6), normal(7, 3, 32), np.zeros((2, 32), np.float32)):
        for axis in (0, 1) if x.shape[0] == 16 else (1,):
            block = q if axis == 1 else Quantizer(q.format, Blocks(1, 16 if q is QUARTET else None), q.scale, overflow=q.overflow)
            want, got = quantize(x, block, k_axis=axis), ops.quantize(x, block, k_axis=axis)
            np.testing.assert_array_equal(got.codes, want.codes)
            np.testing.assert_array_equal(got.scale_values(), want.scale_values())
            assert dict(got.observed) == dict(want.observed)
