"""Rules of quantization-aware training: moments (QuEST, SAWB), two_eps (LLM-QAT), double_rounding, centered signs (BitNet), learned zeros.

Definitions over fractions, one block at a time; the inputs are multiples of 2^-8 so that sums and means of powers of two elements are exact.
"""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest
from oracle.scaling import fl32

from lpref.accel import backend
from lpref.ref.errors import SpecError
from lpref.ref.quantize import Blocks, Quantizer, Scale, quantize

MIDRISE = Quantizer("midrise4", Blocks(1, 16), Scale("moments", rms=2.513930578568423, eps=1e-8))
SAWB = Quantizer("int4", Blocks(1, 16), Scale("moments", rms=12.035, mean=-12.03))
LLM_QAT = Quantizer("int8", Blocks(1, 16), Scale("two_eps", eps=1e-6))
SIGNS = Quantizer("binary", Blocks(1, 16), Scale("absmean", center=True))
DOUBLE = Quantizer("int4", Blocks(), Scale("double_rounding", high=8), narrow=False)
ALL = {"midrise": MIDRISE, "sawb": SAWB, "llm_qat": LLM_QAT, "signs": SIGNS, "double": DOUBLE}


def grid(shape: tuple[int, int] = (6, 32), seed: int = 0, scale: float = 400) -> np.ndarray:
    return (np.random.default_rng(seed).integers(-scale, scale, shape) / 256).astype(np.float32)


@pytest.mark.parametrize("name", ALL)
def test_the_cpu_backend_has_the_same_bits(name: str) -> None:
    for x in (grid(), np.zeros((2, 32), np.float32), grid(scale=3), np.where(np.arange(64).reshape(2, 32) == 3, np.nan, grid((2, 32)))):
        if name == "double" and np.isnan(x).any():
            continue
        q, state = ALL[name], {"scale": np.float32(0.02)} if name == "double" else None
        one, other = quantize(x, q, state=state), backend("cpu", "exact").quantize(x, q, state=state)
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_array_equal(one.scales[0], other.scales[0])
        assert one.observed["overflowed"] == other.observed["overflowed"]


def root32(v: F) -> F:
    """sqrt rounded to float32."""
    found = fl32(F(float(np.sqrt(np.float64(float(v))))))
    assert found is not None
    return found


@pytest.mark.parametrize(("q", "top"), [(MIDRISE, 15), (SAWB, 7)], ids=["quest", "sawb"])
def test_moments(q: Quantizer, top: int) -> None:
    x = grid()
    got = quantize(x, q).scale_values()
    c2, c1, eps = (F(float(np.float32(v))) for v in (q.scale.rms, q.scale.mean, q.scale.eps))
    for i, j in np.ndindex(got.shape):
        block = [F(float(v)) for v in x[i, 16 * j : 16 * j + 16]]
        level = fl32(root32(sum(v * v for v in block) / 16) * c2)
        if c1:
            level = fl32(level + fl32(sum(map(abs, block)) / 16 * c1))
        if level <= 0:
            level = max(map(abs, block))
        assert F(float(got[i, j])) == fl32(fl32(level + eps) / top)


def test_moments_of_special_blocks() -> None:
    x = np.float32([[0] * 16, [np.inf] + [1] * 15, [1e30] * 16])
    assert quantize(x, SAWB).scale_values()[0, 0] == 1
    values = quantize(x, MIDRISE).dequantize()
    assert np.isnan(values[1:]).all()  # squares of 1e30 overflow
    assert (np.abs(values[0]) <= 1e-8).all()


def test_two_eps_is_its_formula_and_not_idempotent() -> None:
    x = grid()
    got = quantize(x, LLM_QAT)
    eps = F(float(np.float32(1e-6)))
    for i, j in np.ndindex(6, 2):
        block = [F(float(v)) for v in x[i, 16 * j : 16 * j + 16]]
        s = fl32(127 / fl32(max(map(abs, block)) + eps))
        assert got.element_values()[i, 16 * j : 16 * j + 16].tolist() == [round(fl32(v * s)) for v in block]
        assert F(float(got.scale_values()[i, j])) == fl32(1 / fl32(s + eps))
    once = got.dequantize(np.float32)
    assert not np.array_equal(quantize(once, LLM_QAT).dequantize(np.float32), once)
    assert got.observed["overflowed"] == 0


def test_centered_signs() -> None:
    x = grid() + np.float32(0.5)
    got = quantize(x, SIGNS)
    for i, j in np.ndindex(6, 2):
        block = x[i, 16 * j : 16 * j + 16].astype(np.float64)
        assert got.element_values()[i, 16 * j : 16 * j + 16].tolist() == np.where(block - block.mean() >= 0, 1, -1).tolist()
        assert got.scale_values()[i, j] == np.float32(np.abs(block).mean())
    assert not np.array_equal(got.element_values(), quantize(x, Quantizer("binary", Blocks(1, 16), Scale("absmean"))).element_values())


@pytest.mark.parametrize("low", [8, 6, 4, 2])
def test_double_rounding_reads_the_stored_codes(low: int) -> None:
    """W_l from the stored W_h is what is computed on the fly; an add and a shift away from ties; D = 0 is the rule learned."""
    x, state = grid((16, 64)), {"scale": np.float32(0.0123)}
    q = Quantizer(f"int{low}", Blocks(), Scale("double_rounding", high=8), narrow=False)
    high = quantize(x, Quantizer("int8", Blocks(), Scale("learned"), narrow=False), state=state)
    stored = high.element_values().astype(np.int64)
    fly = quantize(x, q, state=state)
    d, top = 8 - low, 2 ** (low - 1)
    half_even = np.clip(np.rint(stored / 2.0**d), -top, top - 1)
    np.testing.assert_array_equal(fly.element_values(), half_even)
    assert fly.scale_values()[0, 0] == np.float32(0.0123) * np.float32(2**d)
    shifted = np.clip((stored + (2**d >> 1)) >> d, -top, top - 1)
    tie = (stored % 2**d) == 2**d // 2 if d else np.zeros_like(stored, bool)
    np.testing.assert_array_equal(shifted[~tie], half_even[~tie])
    if d == 0:
        np.testing.assert_array_equal(fly.codes, high.codes)


def test_double_rounding_is_not_one_rounding() -> None:
    q = Quantizer("int4", Blocks(), Scale("double_rounding", high=8), narrow=False)
    twice = quantize(np.float32([[7.6, 24.4]]), q, state={"scale": np.float32(1)}).element_values()
    once = quantize(np.float32([[7.6, 24.4]]), Quantizer("int4", Blocks(), Scale("constant", value=16.0), narrow=False)).element_values()
    assert twice.tolist() == [[0, 2]]  # 8/16 and 24/16 are ties
    assert once.tolist() == [[0, 2]]
    at = np.float32([[23.6]])  # 24 -> a tie -> 2, alone 1.475 -> 1
    assert quantize(at, q, state={"scale": np.float32(1)}).element_values().tolist() == [[2]]
    assert quantize(at, Quantizer("int4", Blocks(), Scale("constant", value=16.0), narrow=False)).element_values().tolist() == [[1]]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Scale("moments"), "scale.rms: 0, but rule 'moments'"),
        (lambda: Scale("double_rounding", high=1), "scale.high: 1; stored codes have 2 to 16 bits"),
        (lambda: Quantizer("int4", Blocks(), Scale("absmean", center=True)), "scale.center: goes with signs"),
        (lambda: Quantizer("int16", Blocks(), Scale("double_rounding"), narrow=False), "needs signed integers of at most 8 bits"),
    ],
)
def test_refused(make, text: str) -> None:
    with pytest.raises(SpecError, match=text.replace("(", r"\(")):
        make()
