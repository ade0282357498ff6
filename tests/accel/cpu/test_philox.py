"""Eight blocks in explicit vectors: the words of the reference, at every place of the counter, and nothing written beside them."""

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from lpref.accel.cpu.philox import BLOCKS, eight_blocks
from lpref.ref import random as ref


@njit
def _blocks(lanes, at, first, step, stream, seed):
    eight_blocks(lanes, at, first, step, stream, seed)


@pytest.mark.parametrize("at", [0, 4, 7])
@pytest.mark.parametrize("first", [0, 5, 2**32 - 3, 2**64 - 9])
@pytest.mark.parametrize(("step", "stream", "seed"), [(0, 0, 0), (2**32 - 1, 2**32 - 2, 2**64 - 1), (7, 0xDEADBEEF, 2**40 + 5)])
def test_blocks(at: int, first: int, step: int, stream: int, seed: int) -> None:
    lanes = np.full(48, 9, np.uint32)
    expected = lanes.copy()
    expected[at : at + 4 * BLOCKS] = ref.words(seed, stream, step, 4 * first, 4 * BLOCKS)
    _blocks(lanes, at, *(np.uint64(v) for v in (first, step, stream, seed)))
    assert np.array_equal(lanes, expected)


def test_only_contiguous_words_are_taken() -> None:
    for lanes in (np.zeros(64, np.uint64), np.zeros(128, np.uint32)[::2]):
        with pytest.raises(TypingError):
            _blocks(lanes, 0, *[np.uint64(1)] * 4)
