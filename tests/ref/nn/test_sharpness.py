"""Sharpness in the space of logits: the corner is the maximum, and coarser logits do not change what is measured."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.errors import SpecError
from lpref.ref.nn.sharpness import logit_sharpness, mean_sharpness

RNG = np.random.default_rng(0)
Z, T = RNG.standard_normal((20, 12)) * 3, RNG.integers(0, 12, 20)


def losses(z: np.ndarray) -> np.ndarray:
    return (
        np.log(np.exp(z).sum(axis=-1))
        - np.take_along_axis(z, np.broadcast_to(T[:, None], (*z.shape[:-1], 1)), -1)[..., 0]
    )


@pytest.mark.parametrize("half_width", [1e-4, 0.1, 1.0])
def test_nothing_in_the_box_is_worse_than_the_corner(half_width: float) -> None:
    found = logit_sharpness(Z, T, half_width)
    base = losses(Z)
    inside = RNG.uniform(-1, 1, (4000, *Z.shape))
    corners = np.sign(inside)
    for y in (inside, corners):
        tried = 100 * (losses(Z + y * half_width * (np.abs(Z) + 1)) - base) / (1 + base)
        assert (tried <= found * (1 + 1e-12) + 1e-9).all()
    assert (found > 0).all()


def test_first_order() -> None:
    """As the box shrinks, the rise is the box's half-width times the sum of |dL/dz| (|z| + 1)."""
    p = np.exp(Z - losses(Z)[:, None] - np.take_along_axis(Z, T[:, None], 1))
    p[np.arange(20), T] -= 1
    slope = (np.abs(p) * (np.abs(Z) + 1)).sum(axis=1) * 100 / (1 + losses(Z))
    np.testing.assert_allclose(logit_sharpness(Z, T, 1e-7) / 1e-7, slope, rtol=1e-5)


def test_mean_and_special_values() -> None:
    assert abs(mean_sharpness(Z, T) - logit_sharpness(Z, T).mean()) < 1e-12
    bad = Z.copy()
    bad[3, 1] = np.nan
    found = logit_sharpness(bad, T)
    assert np.isnan(found[3])
    assert np.isfinite(np.delete(found, 3)).all()
    with pytest.raises(SpecError, match="half_width"):
        logit_sharpness(Z, T, 0.0)
