"""Compiled `gemm`: the bits of the reference for every way that scales can lie, at the edges of tiles and passes."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from lpref.accel.cpu.gemm import gemm
from lpref.ref.errors import ShapeError
from lpref.ref.linalg import Accumulate, HighPrecision
from lpref.ref.linalg import gemm as ref_gemm

_spec = importlib.util.spec_from_file_location("operands", Path(__file__).parents[2] / "ref" / "linalg" / "operands.py")
operands = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(operands)

SHAPES = [(0, 3, 32), (3, 0, 32), (2, 3, 0), (1, 1, 1), (7, 31, 9), (31, 32, 33), (33, 65, 56), (64, 16, 96)]
FORMATS = ["e2m1", "e4m3", "e5m2", "int8"]
BLOCKS = [((1, 16), (1, 16)), ((1, 32), (32, 32)), ((1, 16), (1, None)), ((1, None), (None, None)), ((1, 8), (4, 24))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
@pytest.mark.parametrize("model", ["auto", "sequential", "blocked_64"])
def test_codes(shape, blocks, model):
    m, n, k = shape
    rng = np.random.default_rng(k)
    for name, axes, tensor in zip(FORMATS, [(1, 1), (0, 1), (1, 0), (0, 0)], [None, 0.3, None, 1e-3], strict=True):
        a = operands.draw(rng, m, k, name, blocks[0], axes[0], tensor)
        b = operands.draw(rng, n, k, "e4m3", blocks[1], axes[1], tensor)
        for pair in ((a, b), (b, a), (a, a)):
            found, expected = gemm(*pair, model), ref_gemm(*pair, model)
            assert found.dtype == expected.dtype
            assert found.shape == expected.shape
            assert found.tobytes() == expected.tobytes(), (name, axes)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_high_precision(shape, dtype):
    m, n, k = shape
    rng = np.random.default_rng(m)
    a, b = HighPrecision(rng.normal(size=(k, m)).astype(dtype), 0), HighPrecision(rng.normal(size=(n, k)).astype(dtype))
    found, expected = gemm(a, b), ref_gemm(a, b)
    assert found.dtype == dtype
    assert found.tobytes() == expected.tobytes()


def test_products_are_not_fused():
    """(1 + e)^2 - (1 + 2 e) is 0 where the product is rounded and e^2 = 2^-24 where it is not; for every row and tail."""
    e = np.float32(2.0**-12)
    for m, n in ((1, 1), (8, 32), (9, 33), (40, 100)):
        a = HighPrecision(np.tile(np.float32([-1, 1 + e]), (m, 1)))
        b = HighPrecision(np.tile(np.float32([1 + 2 * e, 1 + e]), (n, 1)))
        assert not gemm(a, b).any()


def test_mixtures_specials_and_other_models():
    rng = np.random.default_rng(1)
    a, high = operands.draw(rng, 9, 48), HighPrecision(rng.normal(size=(5, 48)).astype(np.float32))
    assert gemm(a, high).tobytes() == ref_gemm(a, high).tobytes()
    with pytest.raises(ShapeError, match="cannot wait"):
        gemm(operands.draw(rng, 4, 48, "e2m1", (1, 16)), a, Accumulate("sequential", scales="epilogue"))
    pairwise = Accumulate(inner="pairwise")
    assert gemm(a, a, pairwise).tobytes() == ref_gemm(a, a, pairwise).tobytes()
    assert gemm(a, a, numerics="fast").shape == (9, 9)
    a.elements[2, 5] = np.nan
    assert np.array_equal(gemm(a, a), ref_gemm(a, a), equal_nan=True)
    with pytest.raises(ShapeError, match="contraction"):
        gemm(a, HighPrecision(np.ones((5, 47), np.float32)))
