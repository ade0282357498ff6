"""Vectors of sixteen lanes inside kernels: what they write, and that they write nothing else."""

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from lpref.accel.cpu.lanes import WIDTH, copies, turn

RNG = np.random.default_rng(11)


@njit
def _turned(row, at, out, b):
    turn(row, at, out, b)


@njit
def _copied(out, at, value):
    copies(out, at, value)


@pytest.mark.parametrize(("at", "b", "width"), [(0, 0, 16), (3, 0, 17), (16, 5, 40), (1, 24, 40)])
def test_turn(at: int, b: int, width: int) -> None:
    row = RNG.standard_normal(at + WIDTH * WIDTH + 2).astype(np.float32)
    row[at : at + 4] = [-0.0, np.inf, -np.inf, -(2.0**-149)]
    out = np.full((WIDTH, width), 7, np.float32)
    expected = out.copy()
    expected[:, b : b + WIDTH] = np.abs(row[at : at + WIDTH * WIDTH]).reshape(WIDTH, WIDTH).T
    _turned(row, at, out, b)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("at", [0, 1, 15, 20])
def test_copies(at: int) -> None:
    out = RNG.standard_normal(40).astype(np.float32)
    expected = out.copy()
    expected[at : at + WIDTH] = np.float32(-0.0)
    _copied(out, at, np.float32(-0.0))
    assert out.tobytes() == expected.tobytes()


def test_only_contiguous_float32_is_taken() -> None:
    with pytest.raises(TypingError):
        _copied(np.zeros(40), 0, np.float32(1))
    with pytest.raises(TypingError):
        _copied(np.zeros(80, np.float32)[::2], 0, np.float32(1))
    with pytest.raises(TypingError):
        _turned(np.zeros(300, np.float32), 0, np.zeros((32, 16), np.float32).T, 0)
