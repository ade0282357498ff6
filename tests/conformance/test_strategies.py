"""The strategies give what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lpref
from lpref.conformance import inputs, strategies

E4M3 = lpref.format("e4m3")


@given(strategies.near_ties("e4m3", size=5))
def test_near_ties_are_within_two_floats_of_a_midpoint(x) -> None:
    values = E4M3.table()[0]
    mid = (values[1:] + values[:-1]) / 2
    gap = np.abs(x.astype(np.float64)[:, None] - mid).min(1)
    assert x.shape == (5,)
    assert (gap <= 2 * np.spacing(np.abs(x))).all()


@given(
    strategies.values("e4m3"),
    strategies.subnormal_edges("e4m3"),
    strategies.overflow_edges("e4m3"),
    strategies.specials(),
)
def test_classes(values, small, large, special) -> None:
    assert (E4M3.round(values) == values).all()
    assert (np.abs(small) <= 2 * E4M3.min_normal).all()
    assert (np.abs(large) >= E4M3.max - 1).all()
    assert (~np.isfinite(special) | (special == 0)).all()
    assert values.dtype == small.dtype == large.dtype == special.dtype == np.float32


@given(strategies.blocks(block=(1, 4), exponents=(-9, 9)))
def test_blocks_have_scales_of_their_own(x) -> None:
    assert x.dtype == np.float32
    assert x.shape[1] % 4 == 0
    assert (np.abs(x) < 2.0**9).all()


@given(st.data(), st.integers(1, 32))
def test_words_fit(data, bits) -> None:
    w = data.draw(strategies.words(bits=bits, shape=(2, 3)))
    assert w.dtype == np.uint32
    assert w.shape == (2, 3)
    assert int(w.max()) < 2**bits


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "nf4", "int8", "e8m0", "binary16"])
def test_midpoints_hold_every_tie_with_both_neighbours(name) -> None:
    f = lpref.format(name)
    values = f.table()[0]
    mid = values[:-1] + (values[1:] - values[:-1]) / 2
    exact = mid[mid.astype(np.float32) == mid].astype(np.float32)
    pool = set(inputs.midpoints(f).tolist())
    assert set(exact.tolist()) <= pool
    for direction in (np.inf, -np.inf):
        assert set(np.nextafter(exact, np.float32(direction)).tolist()) <= pool


@given(strategies.shapes(block=(2, 16)), strategies.shapes(block=(2, 16), whole=True), strategies.shapes(block=(1, 4), empty=True))
def test_shapes_stand_at_block_edges(edge, whole, empty) -> None:
    assert edge[0] in (1, 2, 3, 4, 5, 6, 7)
    assert edge[1] in (1, 15, 16, 17, 31, 32, 33, 47, 48, 49)
    assert whole[0] % 2 == whole[1] % 16 == 0
    assert min(empty) >= 0


@given(strategies.outlier_channels(shape=(6, 8), axis=1))
def test_outliers_fill_channels(x) -> None:
    assert x.dtype == np.float32
    large = np.abs(x).max(0) > 1
    assert large.sum() <= 3


@given(strategies.non_finite(shape=(4, 32)))
def test_non_finite_values_are_few(x) -> None:
    assert 1 <= (~np.isfinite(x)).sum() <= 4


@given(strategies.near_scaled_ties("e2m1", shape=(2, 64)))
def test_scaled_ties_have_the_largest_value_in_each_block(x) -> None:
    top = np.abs(x.reshape(2, 2, 32)).max(-1)
    assert (np.frexp(top)[0] == 0.75).all()
    assert (np.abs(x.reshape(2, 2, 32)[..., 0]) == top).all()


@given(strategies.matrices(lpref.quantizer("mxfp4:tail=partial")), strategies.matrices(lpref.quantizer("nvfp4_2d")))
def test_matrices_fit_the_quantizer(ragged, whole) -> None:
    assert ragged.ndim == 2
    assert whole.shape[0] % 16 == whole.shape[1] % 16 == 0
