"""The one sum in Numba: equal bits along any axis, at the edges of lanes, halves and column parts."""

import numpy as np
import pytest

from lpref.accel.cpu import reduce as cpu
from lpref.ref import reduce as ref
from lpref.ref.errors import ShapeError

SIZES = [0, 1, 2, 3, 31, 33, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1023, 1024, 1025, 2048, 3001]


def draw(shape, dtype=np.float32):
    rng = np.random.default_rng(len(shape))
    return np.ldexp(rng.normal(size=shape), rng.integers(-20, 20, shape)).astype(dtype)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_and_columns(n, dtype):
    x = draw((3, n), dtype)
    assert cpu.tree_sum(x).tobytes() == ref.tree_sum(x).tobytes()
    for columns in (1, 5, 64, 65):
        x = draw((n, columns), dtype)
        assert cpu.tree_sum(x, 0).tobytes() == ref.tree_sum(x, 0).tobytes()


@pytest.mark.parametrize("axis", [0, 1, 2, -1, (0, 1), (1, 2), (0, 2), None, ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_axes(axis, keepdims):
    x = draw((4, 33, 70))
    for f in ("tree_sum", "tree_mean"):
        found, expected = getattr(cpu, f)(x, axis, keepdims), getattr(ref, f)(x, axis, keepdims)
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()
    assert cpu.tree_sum(x.transpose(2, 0, 1), 1).tobytes() == ref.tree_sum(x.transpose(2, 0, 1), 1).tobytes()


def test_specials_and_minus_zero():
    x = np.float32([[-0.0, -0.0, -0.0], [np.inf, 1, -np.inf], [np.nan, 1, 1], [np.inf, 1, 1]])
    with np.errstate(invalid="ignore"):
        assert np.array_equal(cpu.tree_sum(x), ref.tree_sum(x), equal_nan=True)
    assert not np.signbit(cpu.tree_sum(x)[0])


def test_other_types_raise():
    with pytest.raises(ShapeError):
        cpu.tree_sum(np.arange(3))
