"""The backend under test and deterministic arguments. New primitive -> a case in test_vjps.py or test_fused.py."""

from __future__ import annotations

import numpy as np
import pytest

import lpref
from lpref.autodiff import Tensor


@pytest.fixture(scope="session")
def B():
    return lpref.backend("reference", "exact")


@pytest.fixture(scope="session")
def tensor(B):
    """tensor((2, 3), 0.5, 2.0) -> float64 leaf, uniform in [0.5, 2): fixed by shape and seed, no ties."""

    def build(shape, low=-1.5, high=1.5, seed=0, dtype=np.float64, requires_grad=True):
        data = np.random.default_rng([seed, *shape]).uniform(low, high, shape).astype(dtype)
        return Tensor(data, B, requires_grad)

    return build
