"""`product.matmul` beyond one block of depth, on transposed and strided memory, split over threads; BLAS, which other machines use."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel.cpu import blas, product
from lpref.ref.backend import Bits, Bound
from lpref.ref.linalg import matmul
from lpref.ref.linalg.bounds import matmul_bound

BOUND = Bound("Higham 2002, section 3.5", lambda _, a, b: matmul_bound(a, b))
DEPTH = product.DEPTH
SHAPES = [(1, 1, 1), (9, DEPTH, 33), (8, DEPTH + 1, 32), (70, 2 * DEPTH + 3, 47), (257, 5, 31), (3, 40, 700)]


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def layouts(x: np.ndarray):  # type: ignore[no-untyped-def]
    """The same matrix in row order, in column order, and with gaps."""
    yield x
    yield np.ascontiguousarray(x.T).T
    yield np.repeat(x, 2, axis=1)[:, ::2]


@pytest.mark.parametrize("shape", SHAPES)
def test_bits_of_the_definition_and_bound_of_grade_fast_on_every_layout(shape) -> None:
    m, k, n = shape
    for a in layouts(drawn(m, k)):
        for b in layouts(drawn(k, n)):
            want = matmul(a, b)
            assert Bits().mismatch(want, product.matmul(a, b), (), {}) is None
            for fast in (product.matmul(a, b, fused=True), blas.matmul(a, b)):
                assert BOUND.mismatch(want, fast, (a, b), {}) is None


def test_grade_fast_is_not_grade_exact_and_does_not_depend_on_threads(monkeypatch) -> None:
    a, b = drawn(512, 128), drawn(128, 384)
    fast = product.matmul(a, b, fused=True)
    if product.WIDTH == 16:
        assert (fast != product.matmul(a, b)).any()
    monkeypatch.setattr(product, "split", lambda n, work, align, grain: work(0, n))
    np.testing.assert_array_equal(fast, product.matmul(a, b, fused=True))


def test_leading_axes_broadcast() -> None:
    a, b = drawn(2, 1, 5, 7), drawn(3, 7, 4)
    assert Bits().mismatch(matmul(a, b), product.matmul(a, b), (), {}) is None


def test_openblas_gets_its_threads_back() -> None:
    library = blas.openblas()
    if library is None:
        pytest.skip("NumPy's BLAS is another one here")
    before = library.get()
    blas.matmul(drawn(512, 512), drawn(512, 512))
    assert library.get() == before
