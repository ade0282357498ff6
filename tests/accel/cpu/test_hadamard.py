"""Compiled butterflies: the bits of the reference along any axis, at the edges of 64 runs or columns."""

import numpy as np
import pytest

from lpref.accel.cpu import hadamard as cpu
from lpref.ref import linalg as ref
from lpref.ref.errors import ShapeError


@pytest.mark.parametrize("size", [1, 2, 16, 32, 64, 128])
@pytest.mark.parametrize("other", [0, 1, 63, 64, 65])
@pytest.mark.parametrize("signs", ["none", "run", "axis"])
def test_bits(size, other, signs):
    rng = np.random.default_rng(size + other)
    s = None if signs == "none" else rng.choice([-1.0, 1.0], size if signs == "run" else 2 * size)
    for shape, axis in (((other, 2 * size), 1), ((2 * size, other), 0), ((2, 2 * size, other), -2)):
        for dtype in (np.float32, np.float64):
            x = np.ldexp(rng.normal(size=shape), rng.integers(-30, 30, shape)).astype(dtype)
            for f in ("hadamard", "hadamard_inverse"):
                found, expected = getattr(cpu, f)(x, size, axis, s), getattr(ref, f)(x, size, axis, s)
                assert found.dtype == dtype
                assert found.tobytes() == expected.tobytes(), (f, shape)


@pytest.mark.parametrize(("size", "signs"), [(3, None), (0, None), (32, None), (4, [1, 1]), (4, [1, 2, 1, 1])])
def test_bad_arguments_raise(size, signs):
    with pytest.raises(ShapeError):
        cpu.hadamard(np.ones((2, 16), np.float32), size, signs=signs)
