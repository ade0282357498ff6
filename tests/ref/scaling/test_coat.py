"""COAT's scale: elements meet the unrounded scale, decoding the bfloat16 one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpref.accel import backend
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer, quantize
from lpref.ref.scaling import Blocks, Scale

GROUP = Quantizer("e4m3", Blocks(1, 16), Scale("coat", format="bfloat16", eps=1e-10), tail="partial")
F = np.float32


def by_hand(x: np.ndarray, name: str = "e4m3", size: int = 16) -> np.ndarray:
    """The card, block by block."""
    fmt, out = format_named(name), np.empty(x.shape, np.float64)
    for r in range(x.shape[0]):
        for c in range(0, x.shape[1], size):
            part = x[r, c : c + size]
            s = (np.abs(part).max() + F(1e-10)) / F(fmt.max)
            kept = format_named("bfloat16").round(np.float64(s))
            out[r, c : c + size] = fmt.round((part / s).astype(np.float64), overflow="saturate") * kept
    return out


@given(st.integers(0, 2**32 - 1), st.integers(-30, 30))
def test_values_are_the_cards(seed: int, exponent: int) -> None:
    x = np.ldexp(np.random.default_rng(seed).standard_normal((3, 40)), exponent).astype(np.float32)
    np.testing.assert_array_equal(quantize(x, GROUP).dequantize(), by_hand(x))


def test_the_cpu_has_the_same_bits() -> None:
    x = np.random.default_rng(1).standard_normal((64, 200)).astype(np.float32)
    cpu, want = backend("cpu", "exact"), quantize(x, GROUP)
    found = cpu.quantize(x, GROUP)
    np.testing.assert_array_equal(found.codes, want.codes)
    np.testing.assert_array_equal(found.scales[0], want.scales[0])
    np.testing.assert_array_equal(cpu.qdq(x, GROUP), want.dequantize(np.float32))


def test_special_blocks() -> None:
    made = quantize(np.float32([[0] * 16 + [np.nan] + [1] * 15 + [np.inf] * 16]), GROUP)
    values = made.dequantize()
    assert (values[0, :16] == 0).all()
    assert np.isnan(values[0, 16:]).all()
    assert made.scales[0].dtype == np.uint16
    assert made.nbytes == 48 + 3 * 2


def test_eps_zero_gives_scale_one_to_zeros() -> None:
    q = Quantizer("e4m3", Blocks(1, 16), Scale("coat"))
    assert quantize(np.zeros((1, 16), np.float32), q).scale_values().tolist() == [[1.0]]


def test_amax_may_be_given_and_other_formats_are_refused() -> None:
    x = np.full((1, 16), 2, np.float32)
    assert quantize(x, GROUP, amax=448.0).dequantize().tolist() == x.tolist()
    with pytest.raises(Exception, match="stores its scales as float32 or bfloat16"):
        Scale("coat", format="e8m0")
