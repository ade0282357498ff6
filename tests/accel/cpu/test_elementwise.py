"""Elementary functions in Numba: equal bits, NaN as a class, over all bfloat16 values and random ones of every exponent."""

import numpy as np
import pytest

from lpref.accel.cpu import elementwise as cpu
from lpref.ref import elementary as ref
from lpref.ref.errors import FormatError

NAMES = ["exp", "exp2", "log", "log2", "sin", "cos", "tanh", "sigmoid", "erf", "rsqrt"]
BF16 = (np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)).view(np.float32)
_rng = np.random.default_rng(0)
ANY32 = _rng.integers(0, 2**32, 50000, dtype=np.uint32).view(np.float32)
ANY64 = np.concatenate([_rng.integers(0, 2**64, 20000, dtype=np.uint64).view(np.float64), _rng.normal(size=20000) * 8])


def equal_bits(a, b):
    word = np.uint32 if a.dtype == np.float32 else np.uint64
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and bool(np.all((a.view(word) == b.view(word)) | (np.isnan(a) & np.isnan(b))))
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("x", [BF16, ANY32, ANY64], ids=["bf16", "float32", "float64"])
def test_bits(name, x):
    assert equal_bits(getattr(cpu, name)(x), getattr(ref, name)(x))


def test_pow_bits():
    y = np.concatenate([_rng.integers(-9, 9, 25000), _rng.normal(size=25000) * 4])
    assert equal_bits(cpu.pow(ANY32, y), ref.pow(ANY32, y))
    edges = np.array([0.0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, -3, np.inf, -np.inf, np.nan, 1e300, -1e300, 2.0**53 + 2])
    assert equal_bits(cpu.pow(edges[:, None], edges), ref.pow(edges[:, None], edges))
    assert equal_bits(cpu.pow(BF16[:500], 2.0), ref.pow(BF16[:500], 2.0))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (8191,), (8192,), (8193,), (3, 0, 2), (5, 7)])
def test_shapes(shape):
    x = _rng.normal(size=shape).astype(np.float32)
    assert equal_bits(np.asarray(cpu.exp(x)), np.asarray(ref.exp(x)))
    assert equal_bits(cpu.tanh(x.T), ref.tanh(x.T))


def test_other_types_raise():
    with pytest.raises(FormatError):
        cpu.exp(np.arange(3))
