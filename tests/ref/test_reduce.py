"""The one sum against its literal definition, lane by lane."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpref.ref import reduce
from lpref.ref.errors import ShapeError


def literal_sum(x):
    """1024 lanes that start at +0, then halving: the definition, one addition at a time."""
    lanes = [x.dtype.type(0)] * 1024
    with np.errstate(all="ignore"):
        for i, v in enumerate(x):
            lanes[i % 1024] = lanes[i % 1024] + v
        half = 512
        while half:
            for lane in range(half):
                lanes[lane] = lanes[lane] + lanes[lane + half]
            half //= 2
    return lanes[0]


def same(a, b):
    """Equal types, shapes and bits; NaN as a class."""
    a, b = np.asarray(a), np.asarray(b)
    equal = (a == b) & (np.signbit(a) == np.signbit(b)) | (np.isnan(a) & np.isnan(b))
    return a.dtype == b.dtype and a.shape == b.shape and bool(np.all(equal))


@pytest.mark.parametrize(
    "n", [0, 1, 2, 3, 31, 32, 33, 127, 128, 129, 511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049, 5000]
)
def test_equals_the_definition(n):
    x = np.ldexp(np.random.default_rng(n).normal(size=n), np.arange(n) % 20).astype(np.float32)
    for values in (x, x.astype(np.float64) / 3):
        assert same(reduce.tree_sum(values), literal_sum(values))


@given(st.lists(st.floats(width=32), max_size=40))
def test_equals_the_definition_on_specials(values):
    x = np.array(values, np.float32)
    with np.errstate(all="ignore"):
        assert same(reduce.tree_sum(x), literal_sum(x))


@pytest.mark.parametrize("n", [0, 1, 3, 1024, 1025])
def test_s1_s2_never_minus_zero(n):
    assert not np.signbit(reduce.tree_sum(np.full(n, -0.0, np.float32)))


@pytest.mark.parametrize(
    ("axis", "moved"), [(0, (1, 2, 0)), (1, (0, 2, 1)), (-1, (0, 1, 2)), ((0, 2), (1, 0, 2)), (None, (0, 1, 2))]
)
@pytest.mark.parametrize("keepdims", [False, True])
def test_axes(axis, moved, keepdims):
    x = np.random.default_rng(1).normal(size=(5, 33, 70)).astype(np.float32)
    count = 3 if axis is None else (1 if isinstance(axis, int) else len(axis))
    rows = x.transpose(moved)
    rows = rows.reshape(*rows.shape[: 3 - count], -1)
    expected = np.array([literal_sum(r) for r in rows.reshape(-1, rows.shape[-1])], np.float32)
    shape = np.sum(x, axis=axis, keepdims=keepdims).shape
    assert same(reduce.tree_sum(x, axis, keepdims), expected.reshape(shape))
    divided = expected.reshape(shape) / np.float32(rows.shape[-1])
    assert same(reduce.tree_mean(x, axis, keepdims), np.asarray(divided))


def test_input_is_not_changed():
    x = np.ones((4, 2049), np.float32)
    before = x.copy()
    reduce.tree_sum(x, 1)
    reduce.tree_sum(x, 0)
    assert np.array_equal(x, before)


def test_amax():
    x = np.float32([[1, -3, 2], [0, np.nan, -np.inf]])
    assert float(reduce.amax(x[0])) == 3.0
    assert np.isnan(reduce.amax(x))
    assert float(reduce.amax(np.float32([-np.inf, 1]))) == np.inf
    assert reduce.amax(np.zeros((0,), np.float32)).tobytes() == np.float32(0).tobytes()
    assert reduce.amax(np.float32([-0.0])).tobytes() == np.float32(0).tobytes()
    assert reduce.amax(x[:1], axis=1, keepdims=True).shape == (1, 1)
    assert float(reduce.amax(np.float32([1e-45]))) == float(np.float32(1e-45))
    assert reduce.amax(x[:, ::2], axis=0).tolist() == [1.0, np.inf]


def test_other_types_raise():
    with pytest.raises(ShapeError, match="float32 and float64"):
        reduce.tree_sum(np.arange(3))


@given(st.lists(st.floats(width=32), min_size=1, max_size=40), st.data())
def test_order_statistics_are_those_of_a_sort(values, data):
    x = np.array(values, np.float32)
    ranks = data.draw(st.lists(st.integers(0, x.size - 1), min_size=1, max_size=4))
    found = reduce.order_statistics(x.reshape(1, -1), ranks)
    assert same(found, np.sort(x)[ranks] + np.float32(0))


def test_order_statistics_refuse():
    for x, ranks in ((np.zeros(3, np.float32), (3,)), (np.zeros(3, np.float32), (-1, 0)), (np.zeros(0, np.float32), (0,)), (np.zeros(3), ())):
        with pytest.raises(ShapeError, match="ranks"):
            reduce.order_statistics(x, ranks)
    with pytest.raises(ShapeError, match="int64"):
        reduce.order_statistics(np.arange(3), (0,))
