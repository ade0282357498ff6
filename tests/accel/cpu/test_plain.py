"""Casts without scales by their values: those of the definition's codes, with its observations."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel import backend
from lpref.ref.quantize import Quantizer, quantize
from lpref.ref.scaling import Scale

RNG = np.random.default_rng(0)
SPREAD = (RNG.standard_normal((40, 30)) * np.exp2(RNG.integers(-24, 20, (40, 30)))).astype(np.float32)
EDGES = np.float32([[0.0, -0.0, 2**-17, -(2**-17), 2**-16, 32767.5, 32768, -32768, -32769, 1e30, -1e30, np.inf, -np.inf, 127.998, -128.01]])


FINITE = EDGES[:, np.isfinite(EDGES[0])]
NARROW = [(form, rounding) for form in ("fixed16.8", "ufixed8.4", "fixed8.0") for rounding in ("toward_negative", "nearest_even", "toward_zero")]


@pytest.mark.parametrize(("form", "rounding"), [*NARROW, ("fixed32.16", "toward_negative")])
@pytest.mark.parametrize("x", [SPREAD, FINITE, EDGES], ids=["spread", "finite", "edges"])
def test_fixed_point(form: str, rounding: str, x: np.ndarray) -> None:
    if form == "fixed32.16" and x is EDGES:
        pytest.skip("its largest value is none of float32: infinity has no value to become")
    q = Quantizer(form, scale=Scale("none"), rounding=rounding)
    want, got = quantize(x, q), backend("cpu", "fast").operand(x, q, k_axis=1)
    np.testing.assert_array_equal(got.dequantize(np.float32), want.dequantize(np.float32))
    assert {k: float(v) for k, v in got.observed.items()} == {k: float(v) for k, v in want.observed.items()}
