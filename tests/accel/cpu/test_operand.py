"""Operands of the CPU backend: codes of the definition in grade exact, their values in grade fast, and the product of values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lpref.accel import reference
from lpref.accel.cpu.operand import gemm_fast, operand, operand_fast
from lpref.ref import linalg
from lpref.ref.errors import ShapeError
from lpref.ref.linalg import HighPrecision
from lpref.ref.linalg.bounds import fast_bound
from lpref.ref.quantize import lookup
from lpref.ref.random import WordAddress
from lpref.ref.recipes import Transform

RNG = np.random.default_rng(5)
WORDS = WordAddress(1, 2, "h.0/wgrad/a/round")
RHT = ((Transform(size=16), np.where(RNG.random(16) < 0.5, -1, 1).astype(np.float32)),)
NAMES = ["nvfp4", "nvfp4:rounding=stochastic", "mxfp8_e4m3", "mxfp4:multiplier=0.75", "int8_row", "fp8_tensor", "fp8_tile1x128", "bf16"]


def matrix(rows: int, columns: int) -> np.ndarray:
    return (RNG.standard_normal((rows, columns)) * np.exp2(RNG.integers(-4, 4, (rows, 1)))).astype(np.float32)


@pytest.mark.parametrize("collect", [False, True])
@pytest.mark.parametrize("k_axis", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_exact_operands_are_the_references(name: str, k_axis: int, collect: bool) -> None:
    x = matrix(128, 256)
    args = {"k_axis": k_axis, "transforms": RHT, "words": WORDS, "collect": collect}
    want, got = reference.operand(x, lookup(name), **args), operand(x, lookup(name), **args)
    assert np.array_equal(got.codes, want.codes)
    assert repr(dict(got.observed)) == repr(dict(want.observed))
    fast = operand_fast(x, lookup(name), **args)
    assert repr(dict(fast.observed)) == repr(dict(want.observed))
    exact = want.dequantize()
    error = np.abs(fast.dequantize(np.float64) - exact)
    assert (error == 0).all() if fast.exact else (error <= 2.0**-24 * np.abs(exact)).all()
    scale = np.repeat(np.repeat(fast.scale_values(), fast.block[0], 0)[:128], fast.block[1], 1)[:, :256] if fast.grid.size > 1 else 1
    assert np.allclose(fast.values, want.element_values() * scale, rtol=2**-23, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_fast_products_are_within_the_bound(name: str) -> None:
    q = replace(lookup(name), tail="pad_zero")
    x, w = matrix(48, 256), matrix(80, 256)
    a, b = operand(x, q, k_axis=1, words=WORDS), operand(np.ascontiguousarray(w.T), q, k_axis=0, words=WORDS)
    fa, fb = operand_fast(x, q, k_axis=1, words=WORDS), operand_fast(np.ascontiguousarray(w.T), q, k_axis=0, words=WORDS)
    want = linalg.gemm(a, b)
    for got in (gemm_fast(fa, fb), gemm_fast(a, fb), gemm_fast(fa, b), gemm_fast(a, b)):
        assert got.dtype == np.float32
        assert (np.abs(got.astype(float) - want) <= fast_bound(a, b)).all()
    high = HighPrecision(w, 1)
    assert (np.abs(gemm_fast(fa, high).astype(float) - linalg.gemm(a, high)) <= fast_bound(a, high)).all()


def test_codes_reused_along_the_other_axis() -> None:
    w = matrix(32, 64)
    fast, codes = operand_fast(w, lookup("nvfp4_2d"), k_axis=1), operand(w, lookup("nvfp4_2d"), k_axis=1)
    dy = HighPrecision(matrix(8, 32), 1)
    got, want = gemm_fast(dy, replace(fast, k_axis=0)), linalg.gemm(dy, replace(codes, k_axis=0))
    assert (np.abs(got.astype(float) - want) <= fast_bound(dy, replace(codes, k_axis=0))).all()


def test_high_precision_and_bad_shapes() -> None:
    x = matrix(32, 64)
    assert (operand_fast(x, None, k_axis=1, transforms=RHT).values == reference.operand(x, None, k_axis=1, transforms=RHT).values).all()
    with pytest.raises(ShapeError):
        operand_fast(x[0], lookup("nvfp4"), k_axis=1)
    with pytest.raises(ShapeError, match="contraction axes"):
        gemm_fast(operand_fast(x, lookup("nvfp4"), k_axis=1), HighPrecision(matrix(3, 32), 1))
