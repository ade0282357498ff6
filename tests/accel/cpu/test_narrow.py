"""Sums rounded to a narrow format at every addition, by register tiles: the definition's bits, and what is left to other kernels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lpref.accel.cpu import narrow
from lpref.accel.cpu.gather import elements
from lpref.accel.cpu.gemm import gemm
from lpref.accel.cpu.narrow_tile import LONG, ROWS, SHORT, VECTORS
from lpref.accel.cpu.sums import placed
from lpref.ref import formats
from lpref.ref.linalg import Accumulate, accumulator
from lpref.ref.linalg import gemm as definition
from lpref.ref.linalg.gemm import factors
from lpref.ref.quantize import Blocks, Quantizer, quantize
from lpref.ref.scaling import Scale

f32 = np.float32
CASTS = {name: Quantizer(name, Blocks(), Scale("none")) for name in ("e5m2", "e4m3", "e4m3_none_b11", "e6m9_ieee", "e2m1", "int8")}
MODELS = ("ibm_chunk64", "bf16_chunk64", "bf16_sequential", "fp16_sequential")


def codes(rng: Any, rows: int, k: int, name: str, scale: float, wild: bool = False) -> Any:
    x = f32(rng.standard_normal((rows, k)) * 2.0 ** (scale + rng.integers(-6, 7, (rows, k))) * (rng.random((rows, k)) > 0.1))
    f = formats.format(name)
    if wild:
        x[rng.random(x.shape) < 0.1] = rng.choice([f.max, f.min, f.min_subnormal, -0.0])
    return quantize(x, CASTS[name])


def chosen(a: Any, b: Any, name: str) -> Any:
    model = accumulator(name)
    return narrow._numbers(factors(a), factors(b), a.shape[1], model.chunk or a.shape[1], placed(model.format))


@pytest.mark.parametrize("model", MODELS)
def test_equals_the_definition(model: str) -> None:
    rng, used = np.random.default_rng(4), set()
    for left, right in itertools.combinations_with_replacement(CASTS, 2):
        for (m, n, k), scale in (((1, 1, 1), 0), ((3, 5, 70), -14), ((9, 40, 130), -6), ((33, 17, 65), 3)):
            a, b = codes(rng, m, k, left, scale), codes(rng, n, k, right, -2, wild=scale == -6)
            used.add(chosen(a, b, model))
            want, got = definition(a, b, model), gemm(a, b, model)
            assert (want.view(np.int32) == got.view(np.int32)).all(), (left, right, m, n, k, scale)
    assert used >= ({SHORT, None} if model.startswith("bf16") else {SHORT, LONG, None})


@pytest.mark.parametrize("precision", [4, 8, 10, 11])
def test_one_rounding_of_every_significand(precision: int) -> None:
    """round(s) of the float32 tile for all s in [1, 2), both signs, against rounding the bits."""
    drop, step = 24 - precision, VECTORS * SHORT.lanes
    one, count = np.ones((ROWS, 1), f32), 1 << 19
    for start in range(0, 1 << 23, count):
        bits = np.arange(start, start + count, dtype=np.int32) | np.int32(127 << 23)
        s = bits.view(f32).reshape(1, -1)
        want = (bits + ((1 << (drop - 1)) - 1) + ((bits >> drop) & 1)) >> drop << drop
        out = np.zeros((ROWS, count), f32)
        narrow.sums_of(0, ROWS, one, s, out, step, 1, precision, -30)
        assert (out.view(np.int32) == want).all()
        out[:] = 0
        narrow.sums_of(0, ROWS, -one, s, out, step, 1, precision, -30)
        assert (out.view(np.int32) == (want | np.int32(-(2**31)))).all()


def test_ties_that_float64_loses_are_refused() -> None:
    """2^14 (1 + 2^-10) + 2^-39: the second number decides the tie, and float64 does not hold the sum."""
    a = quantize(f32([[2.0**-8 * 2, 2.0**7 * (1 + 2**-5)]]), CASTS["e6m9_ieee"])
    b = quantize(f32([[2.0**-30 * 2, 2.0**7 * (1 + 2**-5 + 0)]]), CASTS["e6m9_ieee"])
    assert chosen(a, b, "ibm_chunk64") is None
    assert gemm(a, b, "ibm_chunk64").tolist() == definition(a, b, "ibm_chunk64").tolist()


def test_what_is_left_to_other_kernels() -> None:
    rng = np.random.default_rng(5)
    a, b = codes(rng, 4, 16, "e5m2", 0), codes(rng, 4, 16, "e5m2", 13)
    assert chosen(a, b, "fp16_sequential") is None  # sums could overflow
    nan = quantize(f32([[np.nan, 1.0]]), CASTS["e5m2"])
    assert chosen(nan, nan, "ibm_chunk64") is None
    long = codes(rng, 2, 600, "e5m2", 0)
    assert chosen(long, long, "bf16_sequential") is None  # so many roundings that sums could more than double
    assert chosen(long, long, "ibm_chunk64") is SHORT


def test_elements_by_table() -> None:
    rng = np.random.default_rng(6)
    for name in CASTS:
        x = codes(rng, 5, 7, name, 0, wild=name != "int8")
        got = elements(x)
        assert got is not None
        assert got.dtype == f32
        assert np.array_equal(got, x.element_values())
    affine = quantize(f32(rng.standard_normal((4, 8))), "int8_affine_row")
    assert elements(affine) is None
    assert elements(quantize(f32(rng.standard_normal((4, 8))), Quantizer("posit16_1", Blocks(), Scale("none")))) is not None


def test_integers_that_saturate() -> None:
    rng = np.random.default_rng(7)
    for name, left, right in itertools.product(("int16_saturate", "int24_saturate", "int32_saturate", "int8"), ("int8", "e2m1"), ("int8", "e5m2")):
        model = Accumulate("integer", bits=8, overflow="saturate", chunk=32) if name == "int8" else accumulator(name)
        for m, n, k in ((1, 1, 1), (3, 5, 70), (9, 40, 130)):
            a, b = codes(rng, m, k, left, 4 if left == "int8" else 0), codes(rng, n, k, right, 3 if right == "int8" else -9)
            used = narrow.saturating(a, b, model) is not None
            assert used or name in ("int24_saturate", "int32_saturate") or right == "e5m2"
            want, got = definition(a, b, model), gemm(a, b, model)
            assert (want.view(np.int32) == got.view(np.int32)).all(), (name, left, right, m, n, k)


def test_integers_that_wrap_are_left_to_other_kernels() -> None:
    a = quantize(f32(np.full((2, 40), 100.0)), CASTS["int8"])
    assert narrow.saturating(a, a, accumulator("int16_wrap")) is None
    assert gemm(a, a, "int16_wrap").tolist() == definition(a, a, "int16_wrap").tolist()
