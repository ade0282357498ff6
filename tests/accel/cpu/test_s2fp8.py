"""Rule s2fp8 on the cpu backend: codes, observations and values are the definition's, bit for bit; casts whose words are an address."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel import backend
from lpref.ref.quantize import Quantizer, quantize
from lpref.ref.random import WordAddress
from lpref.ref.scaling import Blocks, Scale

CPU = backend("cpu", "exact")
S2FP8 = Quantizer("e5m2", Blocks(), Scale("s2fp8"))


def same(x: np.ndarray, q: Quantizer, words: WordAddress | None = None) -> None:
    want, got = quantize(x, q, words=words), CPU.quantize(x, q, words=words)
    np.testing.assert_array_equal(got.codes, want.codes)
    assert len(got.scales) == len(want.scales)
    for one, other in zip(got.scales, want.scales, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_equal(dict(got.observed), dict(want.observed))
    assert {k: v.tobytes() for k, v in (got.aux or {}).items()} == {k: v.tobytes() for k, v in (want.aux or {}).items()}
    np.testing.assert_array_equal(CPU.qdq(x, q, words=words), want.dequantize(np.float32))


@pytest.mark.parametrize("shape", [(7, 300), (64, 128), (1, 1), (3, 5)])
def test_s2fp8(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x = (np.exp(rng.standard_normal(shape) * 3) * np.sign(rng.standard_normal(shape))).astype(np.float32)
    same(x, S2FP8)
    x.flat[0] = 0
    same(x, S2FP8)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_takes_the_definition(bad: float) -> None:
    x = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)
    x[1, 3] = bad
    same(x, S2FP8)


def test_casts_take_addresses() -> None:
    x = np.random.default_rng(0).standard_normal((40, 33)).astype(np.float32) * 70000
    for overflow in ("saturate", "to_infinity"):
        same(
            x,
            Quantizer("e5m2", scale=Scale("none"), rounding="stochastic", overflow=overflow),
            WordAddress(1, 2, "s", 3),
        )
