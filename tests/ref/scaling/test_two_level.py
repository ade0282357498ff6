"""Rules with more than one scale: four over six, double quantization, complex quartic; DeepGEMM, torchao and the MX modes."""

from __future__ import annotations

from fractions import Fraction as F
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import quantizers as oracle
from oracle import table

import lpref
from lpref.conformance.proves import proves
from lpref.ref.errors import FormatError, NonFiniteError, SpecError
from lpref.ref.formats import format as format_named
from lpref.ref.linalg import gemm
from lpref.ref.quantize import lookup, quantize
from lpref.ref.scaling import shared_exponent

RNG = np.random.default_rng(9)
X = (RNG.standard_normal((16, 256)) * np.exp2(RNG.integers(-4, 4, (16, 1)))).astype(np.float32)
POSITIVE = {name: sorted(v for v in table.make(name).codes.values() if not isinstance(v, str) and v >= 0 and v != 0) for name in ("e4m3", "e2m1")}
GRID = {name: [F(0), *sorted(set(values))] for name, values in POSITIVE.items()}


@proves("quantizer:nvfp4_4over6_{kind}", "oracle")
@pytest.mark.parametrize(("kind", "most"), [("mae", 448), ("mse", 256), ("mse", 448)])
def test_four_over_six(kind: str, most: int) -> None:
    x = X[:6, :64].copy()
    x[0, :16] *= np.float32(2.0**-12)
    x[1, 16:32] = 0
    t = quantize(x, f"nvfp4_4over6_mae:select={kind}:scale_max={most}")
    amax = F(float(np.abs(x).max()))
    for i, b in product(range(6), range(4)):
        block = [F(float(v)) for v in x[i, 16 * b : 16 * b + 16]]
        d, q = oracle.four_over_six(block, amax, most, kind, GRID["e4m3"], GRID["e2m1"])
        assert F(float(t.scale_values()[i, b])) == d
        assert [F(v) for v in t.element_values()[i, 16 * b : 16 * b + 16].tolist()] == q


@pytest.mark.parametrize("kind", ["mae", "mse"])
def test_four_over_six_never_does_worse_than_six(kind: str) -> None:
    six, both = quantize(X, "nvfp4"), quantize(X, f"nvfp4_4over6_mae:select={kind}")
    power = 1 if kind == "mae" else 2
    error = lambda t: (np.abs(t.dequantize() - X) ** power).reshape(16, 16, 16).sum(-1)  # noqa: E731
    assert (error(both) <= error(six) * (1 + 1e-5)).all()
    assert 0.1 < np.mean(both.scales[0] != six.scales[0]) < 0.9


def test_four_over_six_in_square_blocks_commutes_with_transposition() -> None:
    q = lookup("nvfp4_4over6_mae:k=16:other=16")
    a, b = quantize(X[:, :64], q), quantize(np.ascontiguousarray(X[:, :64].T), q, k_axis=0)
    assert (a.transpose().unpacked() == b.unpacked()).all()
    assert (a.transpose().dequantize() == b.dequantize()).all()


def test_torchao_two_levels_are_the_bytes_of_transformer_engine() -> None:
    """But for tiny blocks, whose scale stays at 2^-6 there."""
    te, ao = quantize(X, "nvfp4"), quantize(X, "nvfp4_torchao")
    assert (te.scales[0] == ao.scales[0]).all()
    assert (te.codes == ao.codes).all()
    x = X.copy()
    x[3, :16] = 0
    x[4, :16] *= np.float32(2.0**-20)
    assert quantize(x, "nvfp4_torchao").scales[0][3:5, 0].tolist() == [8, 8]
    assert quantize(x, "nvfp4").scales[0][3:5, 0].tolist() == [0, 0]
    assert (quantize(np.zeros((1, 16), np.float32), "nvfp4_torchao").dequantize() == 0).all()


# -- MX --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "trailing"), [("e4m3", 3), ("e5m2", 2), ("e2m3", 3), ("e3m2", 2), ("e2m1", 1)])
def test_midmax_and_the_truncation_free_mode(name: str, trailing: int) -> None:
    t = format_named(name).max
    edges = [1.5, 1.75, 1.875, 1.9375, 1.0, 2.0]
    points = np.float32([v for e in edges for v in (e, np.nextafter(np.float32(e), np.float32(9)), np.nextafter(np.float32(e), np.float32(0)))])
    amax = np.concatenate([points, points * np.float32(2.0**60), points * np.float32(2.0**-90), RNG.random(200, np.float32) + np.float32(0.01)])
    for a in amax:
        exact = F(float(a))
        assert int(shared_exponent(a, "midmax", t, trailing)) == oracle.midmax(exact, F(t))
        assert int(shared_exponent(a, "tetrajet", t, trailing)) == oracle.truncation_free(exact, F(t))
    free = shared_exponent(amax, "tetrajet", t, trailing)
    assert (amax / np.exp2(free.astype(np.float64)) <= t * (1 + 2.0**-23)).all()
    middle = shared_exponent(amax, "midmax", t, trailing)
    assert (shared_exponent(amax, "floor", t, trailing) <= middle).all()
    assert (middle <= shared_exponent(amax, "ceil", t, trailing)).all()


@pytest.mark.parametrize("k", range(-126, 125, 7))
def test_six_times_a_power_of_two_keeps_its_exponent(k: int) -> None:
    """Where ceil(log2(amax / 6)) by a floating-point logarithm is off by one."""
    assert int(shared_exponent(np.float32(6 * 2.0**k), "tetrajet", 6.0, 1)) == k
    assert int(shared_exponent(np.nextafter(np.float32(6 * 2.0**k), np.float32(np.inf)), "tetrajet", 6.0, 1)) == k + 1


def test_stochastic_rounding_is_unbiased_under_three_quarters_and_truncation_free_scales() -> None:
    """E[x^] over all 256 words: the floor rule always makes 6 of 7.9, the other two lose at most what words of 8 bits do not resolve: a
    256th of a step, which is at most twice the scale over the multiplier m, and 6 2^-24 of that in fl32(fl32(x/s) m)."""
    x = np.float32([[7.9, 5.3, -1.3, 0.3] * 8])
    words = np.arange(256)[:, None] * np.ones((1, 32), int)
    bias = {}
    for name in ("mxfp4", "mxfp4_three_quarters", "mxfp4_tetrajet"):
        t = quantize(np.repeat(x, 256, 0), f"{name}:rounding=stochastic:word_bits=8", words=words)
        bias[name] = np.abs(t.dequantize().mean(0) - x[0]).max(), float(t.scale_values()[0, 0]) / lookup(name).scale.multiplier
    assert bias["mxfp4"] == (float(x[0, 0]) - 6, 1)
    for name in ("mxfp4_three_quarters", "mxfp4_tetrajet"):
        lost, unit = bias[name]
        assert lost <= (2 / 256 + 6 * 2.0**-24) * unit


def test_deepgemm_scales_are_powers_of_two_above_a_floor() -> None:
    x = np.repeat(X, 8, 1)[:, :128] * np.float32(1e-7)
    t = quantize(x, "fp8_deepgemm")
    assert (t.scale_values() == np.exp2(np.ceil(np.log2(np.maximum(np.abs(x).max(1, keepdims=True), np.float32(1e-4)) / 448)))).all()
    assert 1 <= t.scales[0].min()
    assert t.scales[0].max() <= 254
    zero = quantize(np.zeros((1, 128), np.float32), "fp8_deepgemm")
    assert (zero.scale_values() > 0).all()
    assert (zero.codes == 0).all()


# -- double quantization ----------------------------------------------------------------------------------------------


def test_double_quantization_decodes_its_two_levels() -> None:
    """A scale is off by at most half the widest gap of dynamic8's levels, times the second level, and four float32 roundings of numbers below
    |second| + |offset|. Then every element is off by that share of itself, so that the errors' norms differ by at most share |x^|."""
    x = RNG.standard_normal((520, 64)).astype(np.float32)
    t, plain = quantize(x, "nf4_double"), quantize(x, "nf4")
    assert (t.codes == plain.codes).all()  # elements are cast under the true scale
    assert [s.shape for s in t.scales] == [(520, 1), (3,)]
    second = np.repeat(t.scales[1].view(np.float32), 256)[:520, None]
    levels = format_named("dynamic8").decode(t.scales[0]).astype(np.float32)
    assert (t.scale_values() == levels * second + t.aux["offset"]).all()
    gap = np.diff(format_named("dynamic8").table()[0]).max()
    off = np.abs(t.scale_values().astype(float) - plain.scale_values())
    assert (off <= gap / 2 * second + 4 * 2.0**-24 * (second + abs(float(t.aux["offset"])))).all()
    assert abs(8 * t.nbytes / x.size - (4 + 8 / 64 + 3 * 32 / x.size + 32 / x.size)) < 1e-12
    share = float((off / plain.scale_values()).max())
    norms = [np.sqrt(((v.dequantize() - x) ** 2).sum()) for v in (t, plain)]
    assert norms[0] <= (norms[1] + share * np.sqrt((plain.dequantize() ** 2).sum())) * (1 + x.size * 2.0**-53)


# -- complex weights --------------------------------------------------------------------------------------------------

QUARTIC = "quartic_absmean"


def test_complex_weights_have_a_scale_for_each_axis() -> None:
    w = (RNG.standard_normal((8, 16)) + 1j * RNG.standard_normal((8, 16))).astype(np.complex64)
    t = quantize(w, QUARTIC)
    real = np.abs(w.real) > np.abs(w.imag)
    s_r, s_i = (float(np.abs(part[chosen]).astype(float).mean()) for part, chosen in ((w.real, real), (w.imag, ~real)))
    values = t.dequantize()
    bound = w.size * 2.0**-24  # a float32 sum of at most w.size positive numbers, in any order, and a division
    assert (np.abs(values.real - np.where(real, np.sign(w.real) * s_r, 0)) <= bound * s_r).all()
    assert (np.abs(values.imag - np.where(real, 0, np.sign(w.imag) * s_i)) <= bound * s_i).all()
    assert ((values.real == 0) != (values.imag == 0)).all()
    assert t.codes.shape == (8, 4)  # 2 bits a weight
    turned = quantize(w * np.complex64(1j), QUARTIC)
    assert (turned.unpacked() == (t.unpacked() + 1) % 4).all()
    assert [s.tolist() for s in turned.scales] == [s.tolist() for s in t.scales[::-1]]


def test_complex_edges_empty_classes_and_bad_input() -> None:
    t = quantize(np.complex64([[1 - 1j, 1 + 1j, -1 + 1j, -1 - 1j, 0]]), QUARTIC)
    assert t.unpacked().tolist() == [[0, 1, 2, 3, 0]]
    alone = quantize(np.complex64([[2, -4]]), QUARTIC)
    assert alone.dequantize().tolist() == [[3, -3]]
    assert alone.scales[1].view(np.float32)[0, 0] == np.float32(1e-5)
    with pytest.raises(FormatError, match="not complex"):
        quantize(X, QUARTIC)
    for setting in ("rounding=stochastic", "overflow=raise", "word_bits=8", "nonfinite=ignore", "other=1"):
        with pytest.raises(SpecError, match="quartic"):
            lookup(f"{QUARTIC}:{setting}")
    for multiply in (gemm, lpref.backend("cpu").gemm, lpref.backend("cpu", "exact").gemm):
        with pytest.raises(FormatError, match="four of reals"):
            multiply(alone, alone)
    bad = np.complex64([[1, 2j, complex(np.inf, 0)]])
    assert np.isnan(quantize(bad, QUARTIC).dequantize().real).all()
    with pytest.raises(NonFiniteError):
        quantize(np.complex64([[complex(np.nan, 0)]]), QUARTIC)


@proves("quantizer:quartic_absmean", "oracle")
@proves("scale-rule:quartic", "oracle")
@settings(max_examples=25)
@given(values=st.lists(st.tuples(*[st.floats(-100, 100, width=32)] * 2), min_size=8, max_size=8), eps=st.sampled_from([0.0, 1e-5, 1.0]))
def test_complex_quartic(values: list[tuple[float, float]], eps: float) -> None:
    w = np.array([complex(*v) for v in values], np.complex64).reshape(1, 8)
    t = quantize(w, f"{QUARTIC}:eps={eps}")
    codes, scales = oracle.complex_quartic([(F(x), F(y)) for x, y in values], F(float(np.float32(eps))))
    assert t.unpacked()[0].tolist() == codes
    assert [F(float(s.view(np.float32)[0, 0])) for s in t.scales] == scales
    turn = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    for v, k in zip(t.dequantize()[0].tolist(), codes, strict=True):
        assert (F(v.real), F(v.imag)) == (scales[0] * turn[k][0], scales[1] * turn[k][1])
