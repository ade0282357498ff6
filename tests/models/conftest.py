"""Fixtures of the model tests."""

from __future__ import annotations

import pytest

from lpref.accel import backend
from lpref.ref.backend import Backend
from lpref.ref.recipes import Context


@pytest.fixture(scope="session")
def ops() -> Backend:
    """The reference backend; matrix products through BLAS, everything else as defined."""
    return backend("reference", numerics="fast")


@pytest.fixture
def ctx() -> Context:
    return Context(seed=1, step=0, update=0)
