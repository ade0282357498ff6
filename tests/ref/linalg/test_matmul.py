"""`matmul`: k ascending, every operation rounded, any leading axes."""

import importlib

import numpy as np
import pytest

from lpref.ref.errors import ShapeError, UnknownNameError
from lpref.ref.linalg import gamma, matmul

module = importlib.import_module("lpref.ref.linalg.matmul")


def literal(a, b):
    out = np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), a.dtype)
    for k in range(a.shape[-1]):
        out = out + a[..., :, k, None] * b[..., None, k, :]
    return out


SHAPES = [
    ((3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 7), (6, 7, 2)),
    ((5, 1, 1), (5, 1, 1)),
    ((0, 3, 4), (0, 4, 2)),
    ((2, 3, 0), (2, 0, 2)),
]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("panel", [1, 8, 1 << 16])
def test_bits_of_the_definition(shapes, dtype, panel, monkeypatch):
    monkeypatch.setattr(module, "_PANEL", panel)
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=s).astype(dtype) for s in shapes)
    c = matmul(a, b)
    assert c.dtype == dtype
    assert c.tobytes() == literal(a, b).tobytes()
    if a.ndim == 2:
        assert matmul(np.asfortranarray(a), np.asfortranarray(b)).tobytes() == c.tobytes()


def test_fast_is_within_gamma_k():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(3, 20, 50)).astype(np.float32), rng.normal(size=(3, 50, 10)).astype(np.float32)
    magnitude = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    assert np.all(np.abs(matmul(a, b, "fast") - matmul(a, b).astype(np.float64)) <= 2 * gamma(50) * magnitude)


def test_zero_sums_are_plus_zero_and_nan_propagates():
    assert not np.signbit(matmul(np.float32([[-0.0]]), np.float32([[1.0]]))).any()
    assert np.isnan(matmul(np.float32([[np.inf, 1]]), np.float32([[0.0], [1]]))).all()


def test_errors():
    with pytest.raises(ShapeError):
        matmul(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(ShapeError):
        matmul(np.ones(3), np.ones((3, 3)))
    with pytest.raises(UnknownNameError):
        matmul(np.ones((2, 2)), np.ones((2, 2)), "quick")
