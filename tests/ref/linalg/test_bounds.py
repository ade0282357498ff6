"""Every accumulation model within its proved bound of the exact product; and bounds that say something."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel.cpu.gemm import gemm
from lpref.ref import formats
from lpref.ref.contracts import Bound
from lpref.ref.linalg import ACCUMULATORS, HighPrecision, accumulation_bound
from lpref.ref.quantize import QUANTIZERS, quantize

CONTRACT = Bound("lpref.ref.linalg.bounds", lambda expected, a, b, model: accumulation_bound(a, b, model))
f32 = np.float32


def operands(name, rng):
    model = ACCUMULATORS[name].model
    if model.inner == "integer":
        limit = {16: 40, 24: 400, 32: 3000}[model.bits]
        yield tuple(HighPrecision(rng.integers(-limit, limit, (5, 19)).astype(f32)) for _ in range(2))
        return
    if model.scales != "aligned":
        f = formats.format(model.core.inputs[0] if model.core else "bfloat16")
        for depth in (1, 31, 150):
            for kind in range(4):
                x, y = rng.standard_normal((2, 3, depth))
                if kind == 1:
                    x, y = np.abs(x), np.abs(y)
                if kind == 2:
                    x = x * 2.0 ** rng.integers(-6, 3, x.shape)
                    y[:, 1::2] = -y[:, : y[:, 1::2].shape[1]]
                if kind == 3 and f.emin < -100:
                    x, y = x * 2.0**-70, y * 2.0**-68
                yield HighPrecision(f.round(x).astype(f32)), HighPrecision(f.round(y).astype(f32))
    for q in ("nvfp4", "mxfp4") if "tf32" not in name else ():
        if "mxf8" not in name or q == "mxfp4":
            yield tuple(quantize(rng.standard_normal((3, 64)).astype(f32), QUANTIZERS[q]) for _ in range(2))


@pytest.mark.parametrize("name", ACCUMULATORS)
def test_every_model_keeps_its_bound(name: str) -> None:
    promised = 0
    for a, b in operands(name, np.random.default_rng(len(name))):
        exact = a.dequantize(np.float64) @ b.dequantize(np.float64).T
        assert CONTRACT.mismatch(exact, gemm(a, b, name).astype(np.float64), (a, b, name), {}) is None
        bound = accumulation_bound(a, b, name)
        promised += int(np.isfinite(bound).sum())
        assert (bound > 0).all()
    assert promised


def test_bounds_say_something() -> None:
    """Not more than some ten (promoted: some thirty) times what sums of one sign really lose."""
    rng, f = np.random.default_rng(1), formats.format("e4m3")
    a, b = (HighPrecision(f.round(rng.random((6, 1024))).astype(f32)) for _ in range(2))
    exact = a.values.astype(float) @ b.values.astype(float).T
    for name, factor in (("hopper_fp8_fast", 12), ("hopper_fp8_promote128", 40), ("bf16_chunk64", 40)):
        lost = np.abs(gemm(a, b, name) - exact).max()
        assert lost <= accumulation_bound(a, b, name).max() <= factor * lost


def test_nothing_is_promised_beyond_the_range() -> None:
    x = HighPrecision(np.full((1, 40), 127, f32))
    assert np.isinf(accumulation_bound(x, x, "int16_saturate")).all()
    assert np.isfinite(accumulation_bound(x, x, "int24_saturate")).all()
    y = HighPrecision(np.full((1, 300), 1, f32))
    assert np.isinf(accumulation_bound(y, y, "bf16_kahan")).all()
