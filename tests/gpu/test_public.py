"""`lpref.gemm` and `lpref.linear` on the GPU: CuPy arrays stay there, NumPy's come back; the bits are the CPU's."""

from __future__ import annotations

import cupy as cp
import numpy as np
import pytest

import lpref
from lpref.ref.errors import BackendError
from lpref.trainer.doctor import backends, cuda_canaries

X, W = (np.random.default_rng(seed).standard_normal(shape).astype(np.float32) for seed, shape in ((0, (32, 64)), (1, (48, 64))))


@pytest.mark.parametrize("recipe", ["fp32", "nvfp4", "mxfp8"])
def test_linear(recipe: str) -> None:
    want = lpref.linear(X, W, recipe, backend="reference")
    there = lpref.linear(cp.asarray(X), cp.asarray(W), recipe)
    assert isinstance(there, cp.ndarray)
    assert np.array_equal(there.get(), want)
    assert np.array_equal(lpref.linear(X, W, recipe, backend="cuda"), want)
    with pytest.raises(BackendError, match="on a device"):
        lpref.linear(cp.asarray(X), cp.asarray(W), recipe, backend="cpu")


def test_gemm() -> None:
    codes = [lpref.quantize(t, "nvfp4") for t in (X, W)]
    there = [lpref.quantize(cp.asarray(t), "nvfp4") for t in (X, W)]
    assert np.array_equal(lpref.gemm(*there).get(), lpref.gemm(*codes))
    assert np.array_equal(lpref.gemm(cp.asarray(X), cp.asarray(W)).get(), lpref.gemm(X, W))


def test_doctor() -> None:
    assert {b["name"]: b["present"] for b in backends()}["cuda"]
    assert len(cuda_canaries()) == 3
    assert all(c["ok"] for c in cuda_canaries())
