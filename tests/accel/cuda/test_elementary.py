"""core/elementary.h and core/decided.h, compiled by g++ without contraction, have the bits of `lpref.ref.elementary`."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from lpref.ref import elementary
from lpref.ref.contracts import Bits

U32 = np.uint32
FUNCTIONS = {name: getattr(elementary, name) for name in ("exp", "exp2", "log", "log2", "sin", "cos", "tanh", "sigmoid", "erf", "rsqrt")}
FUNCTIONS |= {"sqrt": np.sqrt, "neg": np.negative, "magnitude": np.abs, "sign": np.sign, "rint": np.rint}


def at(a: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(a.ctypes.data)


def arguments() -> np.ndarray:
    """Every 65537th float32, numbers where the functions live, and the neighbours of their thresholds."""
    spread = np.arange(0, 2**32, 65537, dtype=np.uint64).astype(U32).view(np.float32)
    edges = np.float32([0, 0.5, 1, 2, 2.5, 3.5, 6, 22, 87.33654, 88.72284, 103.97208, 126, 128, 149, 4194303.5, 8388607.5, 8388608])
    edges = np.concatenate([edges, np.float32([1048576, 0.70710678, 1.1754944e-38, 3.4e38, np.inf])])
    near = (edges.view(U32)[:, None] + np.arange(-3, 4)).astype(U32).ravel().view(np.float32)
    near = np.concatenate([near, (near.view(U32) ^ U32(1 << 31)).view(np.float32)])
    return np.concatenate([spread, near, np.random.default_rng(0).normal(0, 8, 40000).astype(np.float32)])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_one_number(core: ctypes.CDLL, name: str) -> None:
    x = arguments()
    out = np.empty_like(x)
    core[f"{name}_of"](at(x), x.size, at(out))
    with np.errstate(all="ignore"):
        assert Bits().mismatch(FUNCTIONS[name](x), out, (), {}) is None


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_selections(core: ctypes.CDLL, name: str) -> None:
    values = np.float32([0.0, -0.0, 1, -1, 1e-45, -1e-45, np.inf, -np.inf, np.nan, 3e38])
    x, y = np.repeat(values, values.size), np.tile(values, values.size)
    out = np.empty_like(x)
    core[f"{name}_of"](at(x), at(y), x.size, at(out))
    assert Bits().mismatch(getattr(np, name)(x, y), out, (), {}) is None


def test_powers(core: ctypes.CDLL) -> None:
    x = arguments()[::3].copy()
    for y in (0.0, -0.0, 1.0, 0.1, 2.0, 3.0, -1.0, -0.5, 2**53 + 2.0, 1e300, np.inf, -np.inf, np.nan):
        out, powers = np.empty_like(x), np.full(x.size, y)
        core.pow_of(at(x), at(powers), x.size, at(out))
        assert Bits().mismatch(elementary.pow(x, y), out, (), {}) is None, y
    powers = np.random.default_rng(1).normal(0, 4, x.size)
    powers[::3] = np.rint(powers[::3])
    core.pow_of(at(x), at(powers), x.size, at(out))
    assert Bits().mismatch(elementary.pow(x, powers), out, (), {}) is None


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid"])
def test_what_the_short_sequences_decide_is_the_definition(core: ctypes.CDLL, name: str) -> None:
    """And they decide nearly everywhere, so that the definition is rarely computed."""
    lived_in = np.random.default_rng(2).normal(0, 3, 300000).astype(np.float32)
    for x, rare in ((arguments(), None), (lived_in, 2.0**-11)):
        y, whole, known = np.empty_like(x), np.empty_like(x), np.empty(x.size, np.uint8)
        core[f"decided_{name}"](at(x), x.size, at(y), at(known), at(whole))
        expected, there = FUNCTIONS[name](x), known.astype(bool)
        assert Bits().mismatch(expected[there], y[there], (), {}) is None
        assert Bits().mismatch(expected, whole, (), {}) is None
        assert rare is None or np.mean(~there) < rare
