"""Butterflies against a literal loop in the defined order, and the laws of the transform."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpref.ref.errors import ShapeError
from lpref.ref.linalg import hadamard, hadamard_inverse


def literal(x, signs=None):
    """One run, one butterfly at a time, in x's type."""
    y = [v * s for v, s in zip(x, np.ones_like(x) if signs is None else signs, strict=True)]
    n, stride = len(y), 1
    while stride < n:
        for i in range(n):
            if not i & stride:
                y[i], y[i + stride] = y[i] + y[i + stride], y[i] - y[i + stride]
        stride *= 2
    return np.array(y, x.dtype) * x.dtype.type(n**-0.5)


def sylvester(n):
    h = np.ones((1, 1))
    while len(h) < n:
        h = np.block([[h, h], [h, -h]])
    return h


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 32, 64, 128])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("signs", ["none", "run", "axis"])
def test_bits_of_the_literal_butterflies(size, axis, signs):
    rng = np.random.default_rng(size)
    x = rng.normal(size=(3 * size, 5) if axis == 0 else (5, 3 * size)).astype(np.float32)
    s = None if signs == "none" else rng.choice(np.float32([-1, 1]), size if signs == "run" else 3 * size)
    full = np.ones(3 * size, np.float32) if s is None else np.tile(s, 3 * size // s.size)
    rows = x if axis == 1 else x.T
    expected = np.stack(
        [np.concatenate([literal(r[i : i + size], full[i : i + size]) for i in range(0, 3 * size, size)]) for r in rows]
    )
    found = hadamard(x, size, axis, s)
    assert found.dtype == np.float32
    assert (found if axis == 1 else found.T).tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [2, 16, 64])
def test_is_the_sylvester_matrix(size):
    """On integers every butterfly is exact, so only the last multiplication rounds."""
    x = np.random.default_rng(1).integers(-8, 9, (4, size)).astype(np.float32)
    expected = (x @ sylvester(size)).astype(np.float32) * np.float32(size**-0.5)
    assert hadamard(x, size).tobytes() == (expected + 0.0).tobytes() or np.array_equal(hadamard(x, size), expected)


@given(st.sampled_from([4, 16, 32]), st.integers(0, 2**32 - 1))
def test_inverse_undoes_within_its_bound(size, seed):
    """2 m additions and 2 multiplications by c = fl(n^-1/2): |x' - x| <= gamma_(2m+4) sqrt(n) |x|_2 row by row."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, 2 * size)).astype(np.float32)
    s = rng.choice(np.float32([-1, 1]), size)
    back = hadamard_inverse(hadamard(x, size, signs=s), size, signs=s)
    norm = np.sqrt((x.reshape(3, 2, size).astype(np.float64) ** 2).sum(-1, keepdims=True))
    bound = (2 * np.log2(size) + 4) * 2.0**-24 * 1.001 * np.sqrt(size) * norm
    assert np.all(np.abs(back - x).reshape(3, 2, size) <= bound)


def test_size_4_twice_is_exact_on_small_integers():
    x = np.random.default_rng(2).integers(-100, 100, (6, 16)).astype(np.float32)
    s = np.float32([1, -1, -1, 1])
    assert np.array_equal(hadamard_inverse(hadamard(x, 4, signs=s), 4, signs=s), x)


def test_float64_stays_float64_and_input_is_not_changed():
    x = np.ones((2, 8))
    assert hadamard(x, 8).dtype == np.float64
    assert np.array_equal(x, np.ones((2, 8)))


@pytest.mark.parametrize(("size", "signs"), [(3, None), (0, None), (32, None), (4, [1, 1]), (4, [1, 2, 1, 1])])
def test_bad_arguments_raise(size, signs):
    with pytest.raises(ShapeError):
        hadamard(np.ones((2, 16), np.float32), size, signs=signs)
