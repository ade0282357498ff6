"""Matrix units that read FP8, by tiles in float32: the definition's bits, and what is left to the general kernel."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lpref.accel.cpu.gemm import gemm
from lpref.accel.cpu.unit import covered, fours_table, unit
from lpref.ref.linalg import ACCUMULATORS, HighPrecision, accumulator
from lpref.ref.linalg import gemm as definition
from lpref.ref.quantize import QUANTIZERS, Blocks, Quantizer, quantize
from lpref.ref.scaling import Scale

f32 = np.float32
CASTS = {name: Quantizer(name, Blocks(), Scale("none")) for name in ("e4m3", "e5m2")}
OPERANDS = {**CASTS, **{name: QUANTIZERS[name] for name in ("fp8_tile1x128", "fp8_block128", "mxfp8_e4m3")}}
UNITS = ("hopper_fp8_promote128", "hopper_fp8_fast", "ada_fp8", "ada_fp8_promote128")


def draw(rng: Any, rows: int, k: int, scale: float) -> np.ndarray:
    x = rng.standard_normal((rows, k)) * 2.0 ** (scale + rng.integers(-8, 9, (rows, k))) * (rng.random((rows, k)) > 0.2)
    x[:, : k // 3] *= scale != 0  # whole steps of zeros
    return f32(x)


@pytest.mark.parametrize("name", UNITS)
def test_equals_the_definition(name: str) -> None:
    rng = np.random.default_rng(7)
    for left, right in itertools.product(OPERANDS.values(), repeat=2):
        for (m, n, k), scale in (((1, 1, 1), 0), ((3, 5, 70), -12), ((9, 40, 130), 0), ((6, 33, 288), 4), ((4, 0, 8), 0), ((0, 3, 8), 0)):
            a, b = quantize(draw(rng, m, k, scale), replace(left, tail="partial")), quantize(draw(rng, n, k, -2), replace(right, tail="partial"))
            assert covered(a, b, accumulator(name))
            want, got = definition(a, b, name), gemm(a, b, name)
            assert want.shape == got.shape
            assert (want.view(np.int32) == got.view(np.int32)).all(), (left, right, m, n, k)


def test_extreme_codes_and_cancellation() -> None:
    """Largest numbers, subnormal numbers and sums that are exactly zero, in every order."""
    rng, largest = np.random.default_rng(8), {"e4m3": 448.0, "e5m2": 57344.0}
    for name, (p, q) in itertools.product(UNITS, itertools.product(CASTS, repeat=2)):
        values = [np.array([largest[x], -largest[x], 2.0**-9, -(2.0**-9), 0.0, -0.0, 1.0]) for x in (p, q)]
        a, b = (quantize(f32(rng.choice(v, (8, 160))), CASTS[x]) for v, x in zip(values, (p, q), strict=True))
        assert (definition(a, b, name).view(np.int32) == gemm(a, b, name).view(np.int32)).all()


def test_contraction_along_columns() -> None:
    rng = np.random.default_rng(9)
    a = quantize(draw(rng, 256, 24, -2), "fp8_tile1x128", k_axis=0)
    b = quantize(draw(rng, 256, 40, -2), "fp8_block128:tail=partial", k_axis=0)
    name = "hopper_fp8_promote128"
    assert (definition(a, b, name).view(np.int32) == gemm(a, b, name).view(np.int32)).all()


def test_what_is_left_to_the_general_kernel() -> None:
    a = quantize(f32(np.ones((4, 32))), CASTS["e5m2"])
    for name, one in ACCUMULATORS.items():
        assert covered(a, a, one.model) == (name in UNITS), name
    model = accumulator("hopper_fp8_fast")
    assert not covered(a, HighPrecision(np.ones((4, 32), f32)), model)
    assert not covered(quantize(f32(np.ones((4, 32))), "mxfp4"), a, model)
    wild = quantize(f32([[np.nan, np.inf, 1.0]]), CASTS["e5m2"])
    assert covered(wild, wild, model)
    assert unit(wild, wild, model) is None
    assert np.isnan(gemm(wild, wild, model)).all()


def test_exponents_four_times() -> None:
    for name, most in (("e4m3", 8), ("e5m2", 15)):
        fours = fours_table(name).view(np.int8).reshape(-1, 4)
        assert (fours[:, :1] == fours).all()
        assert fours.max() == most
        assert fours[0].max() + 15 < -32  # zero takes no part: below the exponent of any sum
    assert fours_table("e4m3").view(np.int8).reshape(-1, 4)[0x38].tolist() == [0, 0, 0, 0]  # 1.0
