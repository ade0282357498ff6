"""Row mixing: T is a matrix of reflections and row scales, its inverse undoes it, and the quantizer around it stays unbiased."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel.reference import ReferenceBackend
from lpref.ref.errors import NonFiniteError
from lpref.ref.quantize import lookup
from lpref.ref.recipes.mixing import Mixed, householder_groups

OPS = ReferenceBackend("exact")
U = 2.0**-24


def rows(count: int, seed: int = 0, spread: float = 2.0) -> np.ndarray:
    """Rows of very different ranges, as gradients have them."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, 12)) * np.exp(spread * rng.standard_normal((count, 1)))).astype(np.float32)


def matrix(x: np.ndarray, inverse: bool = False) -> np.ndarray:
    """T or T^-1, column by column."""
    mixed = Mixed(x, 1e-8, OPS)
    return (mixed.inverse if inverse else mixed.forward)(np.eye(x.shape[0], dtype=np.float32)).astype(np.float64)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 33])
def test_t_is_reflections_times_scales(count: int) -> None:
    """T diag(1 / s) is orthogonal within the rounding of its entries, and block diagonal over the groups."""
    x = rows(count)
    groups = householder_groups(np.ptp(x.astype(np.float64), axis=1) + 1e-8)
    t = matrix(x)
    h = t / groups.scale
    assert np.abs(h @ h.T - np.eye(count)).max() <= 8 * count * U
    np.testing.assert_array_equal(t != 0, (groups.group[:, None] == groups.group) & (t != 0))
    assert (np.bincount(groups.group) >= min(count, 2)).all()
    assert groups.leads.sum() == groups.group.max() + 1


@pytest.mark.parametrize("count", [2, 5, 24])
def test_the_inverse_undoes_it(count: int) -> None:
    """Each of T and T^-1 has at most three roundings an entry and sums of n terms: |T^-1 T - I| <= gamma |T^-1| |T|."""
    x = rows(count, 3)
    t, back = matrix(x), matrix(x, inverse=True)
    bound = (count + 12) * U * (np.abs(back) @ np.abs(t))
    assert (np.abs(back @ t - np.eye(count)) <= bound).all()


def test_a_large_row_is_spread_over_its_group() -> None:
    x = np.full((16, 4), 1e-3, np.float32)
    x[:, 0] *= -1
    x[5] = [64, -64, 32, 0]
    mixed = Mixed(x, 1e-8, OPS)
    assert mixed.made.leads.tolist() == [i == 5 for i in range(16)]
    y = mixed.forward(x)
    ranges = np.ptp(y, axis=1)
    assert ranges.max() / ranges.min() < 1.1  # before: 64000


def test_the_variance_falls() -> None:
    """Mean squared error of the unbiased quantizers over many words: BHQ <= PSQ <= PTQ where one row in 16 is large."""
    x = rows(32, 4, 0.1)
    x[::16] *= 500
    ptq = lookup("uint8_affine:format=uint5:rounding=stochastic:zero=widen")
    psq = lookup("uint8_affine:format=uint5:rounding=stochastic:zero=widen:other=1")
    mixed = Mixed(x, 1e-8, OPS)
    error = {"ptq": 0.0, "psq": 0.0, "bhq": 0.0}
    for word in range(0, 65536, 1771):
        words = np.random.default_rng(word).integers(0, 65536, x.shape).astype(np.uint16)
        for name, q in (("ptq", ptq), ("psq", psq)):
            error[name] += float(np.square(OPS.operand(x, q, k_axis=1, words=words).dequantize() - x).sum())
        back = mixed.inverse(OPS.operand(mixed.forward(x), psq, k_axis=1, words=words).dequantize(np.float32))
        error["bhq"] += float(np.square(back - x).sum())
    assert error["bhq"] < error["psq"] < error["ptq"]


def test_the_mean_over_all_words_is_the_tensor() -> None:
    """Q(T x) averages to T x up to the resolution of 8-bit words (one 256th of a step at most), and T^-1 is linear."""
    x = rows(6, 5)
    q = lookup("uint8_affine:rounding=stochastic:zero=widen:other=1:word_bits=8")
    mixed = Mixed(x, 1e-8, OPS)
    y = mixed.forward(x)
    made = [OPS.operand(y, q, k_axis=1, words=np.full(x.shape, w, np.uint8)) for w in range(256)]
    mean = np.mean([m.dequantize() for m in made], axis=0)
    step = made[0].scale_values().astype(np.float64)
    assert (np.abs(mean - y) <= step / 256).all()
    inverse = np.abs(matrix(x, inverse=True))
    room = inverse @ np.broadcast_to(step / 256, x.shape) + 20 * U * (inverse @ np.abs(y))
    assert (np.abs(mixed.inverse(mean.astype(np.float32)) - x) <= room).all()


def test_rows_without_a_finite_range_are_refused() -> None:
    with pytest.raises(NonFiniteError, match="a row without a finite range"):
        Mixed(np.float32([[1, np.inf], [0, 1]]), 1e-8, OPS)
