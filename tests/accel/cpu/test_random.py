"""Words in Numba: the same as the reference, in every width, at every start."""

import numpy as np
import pytest
from numba import njit

from lpref.accel.cpu import random as cpu
from lpref.ref import random as ref
from lpref.ref.errors import WordsError


@pytest.mark.parametrize("r", [8, 16, 32])
@pytest.mark.parametrize("start", [0, 1, 15, 16, 17, 2**34 - 3, 2**65])
@pytest.mark.parametrize("count", [0, 1, 127, 4097])
def test_bits(r, start, count):
    address = (2**64 - 12345, 0xDEADBEEF, 77, start, count, r)
    found, expected = cpu.bits(*address), ref.bits(*address)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)
    assert cpu.packed(*address).dtype.itemsize * 8 == r


@njit
def _every(n, r, step, stream, seed):
    out = np.empty((2, n), np.uint32)
    for i in range(n):
        per = 128 // r
        w0, w1, w2, w3 = cpu.philox_block(np.uint64(i // per), step, stream, seed)
        out[0, i] = cpu.element_bits(w0, w1, w2, w3, i % per, r)
        out[1, i] = cpu.bits_at(i, r, step, stream, seed)
    return out


@pytest.mark.parametrize("r", [8, 16, 32])
def test_helpers_inside_a_kernel(r):
    expected = ref.bits(99, 5, 3, 0, 70, r)
    for row in _every(70, r, np.uint64(3), np.uint64(5), np.uint64(99)):
        assert np.array_equal(row, expected)


@pytest.mark.parametrize("bad", [(-1, 0, 0, 0, 1, 8), (0, 0, 0, -1, 1, 8), (0, 0, 0, 0, 1, 4), (0, 2**32, 0, 0, 1, 8)])
def test_bad_address_raises(bad):
    with pytest.raises(WordsError):
        cpu.bits(*bad)
