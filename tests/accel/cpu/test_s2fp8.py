"""Rule s2fp8 on the cpu backend: codes, observations and values are the definition's, bit for bit; casts whose words are an address."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel import backend
from lpref.accel.cpu.embedded import Embedded
from lpref.ref.quantize import Quantizer, quantize
from lpref.ref.random import WordAddress
from lpref.ref.scaling import Blocks, Scale

CPU = backend("cpu", "exact")
S2FP8 = Quantizer("e5m2", Blocks(), Scale("s2fp8"))


def same(x: np.ndarray, q: Quantizer, words: WordAddress | None = None) -> None:
    want, got = quantize(x, q, words=words), CPU.quantize(x, q, words=words)
    np.testing.assert_array_equal(got.codes, want.codes)
    assert len(got.scales) == len(want.scales)
    for one, other in zip(got.scales, want.scales, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_equal(dict(got.observed), dict(want.observed))
    assert {k: v.tobytes() for k, v in (got.aux or {}).items()} == {k: v.tobytes() for k, v in (want.aux or {}).items()}
    np.testing.assert_array_equal(CPU.qdq(x, q, words=words), want.dequantize(np.float32))


@pytest.mark.parametrize("shape", [(7, 300), (64, 128), (1, 1), (3, 5)])
def test_s2fp8(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x = (np.exp(rng.standard_normal(shape) * 3) * np.sign(rng.standard_normal(shape))).astype(np.float32)
    same(x, S2FP8)
    x.flat[0] = 0
    same(x, S2FP8)


def test_operands_of_grade_fast_hold_the_values() -> None:
    """Float32 values looked up by code are those of the definition, rounded once."""
    x = np.random.default_rng(1).lognormal(sigma=3, size=(33, 65)).astype(np.float32)
    x[3, :5] = [0, -0.0, 1e-38, -3e38, 7]
    found = backend("cpu", "fast").operand(x, S2FP8, k_axis=1)
    np.testing.assert_array_equal(found.dequantize(np.float32).view(np.uint32), quantize(x, S2FP8).dequantize(np.float32).view(np.uint32))


@pytest.mark.parametrize("scale", [np.float32(3e-39), np.float32(0.1), np.float32(3e38)])
def test_values_times_a_scale_are_rounded_once(scale: np.float32) -> None:
    """The float32 product of an embedded operand is the float64 product rounded to float32, subnormal and infinite results too."""
    values = np.random.default_rng(2).lognormal(sigma=20, size=(9, 64)).astype(np.float32)
    values[0, :4] = [np.nan, np.inf, -0.0, 1e-45]
    one = Embedded(values, scale, 1, S2FP8, np.ones((1, 1), np.float32))
    with np.errstate(over="ignore", under="ignore"):
        want = (values.astype(np.float64) * np.float64(scale)).astype(np.float32)
    np.testing.assert_array_equal(one.dequantize(np.float32).view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_takes_the_definition(bad: float) -> None:
    x = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)
    x[1, 3] = bad
    same(x, S2FP8)


def test_casts_take_addresses() -> None:
    x = np.random.default_rng(0).standard_normal((40, 33)).astype(np.float32) * 70000
    for overflow in ("saturate", "to_infinity"):
        same(
            x,
            Quantizer("e5m2", scale=Scale("none"), rounding="stochastic", overflow=overflow),
            WordAddress(1, 2, "s", 3),
        )
