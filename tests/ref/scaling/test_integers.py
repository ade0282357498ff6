"""Affine integers, signs and ternary weights, block and dynamic floating point: against the oracle, and what their pages promise."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import quantizers as oracle

import lpref
from lpref.conformance.proves import proves
from lpref.ref.errors import SpecError
from lpref.ref.formats.integers import integer
from lpref.ref.linalg import fast_bound, gemm
from lpref.ref.quantize import Blocks, QTensor, Quantizer, Scale, lookup, quantize, stats
from lpref.ref.scaling.dfp import aligned, chain_length, down_convert

RNG = np.random.default_rng(8)
X = (RNG.standard_normal((32, 96)) * np.exp2(RNG.integers(-6, 6, (32, 1)))).astype(np.float32)
FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
BLOCK = st.lists(st.one_of(FLOATS, st.floats(-4, 4, width=32), st.sampled_from([0.0, 1.0, -2.0, 0.5])), min_size=8, max_size=8)


def exact(x: np.ndarray) -> list[F]:
    return [F(float(v)) for v in x.reshape(-1)]


def signed(t: QTensor) -> list[int]:
    return [int(v) for v in t.element_values().reshape(-1)]


@proves("quantizer:uint8_affine", "oracle")
@pytest.mark.parametrize(("name", "narrow"), [("uint8", True), ("int8", False), ("int8", True), ("uint4", True), ("int4", False), ("uint16", True)])
@settings(max_examples=25)
@given(values=BLOCK)
def test_affine(name: str, narrow: bool, values: list[float]) -> None:
    x = np.float32([values])
    fmt = lpref.format(name)
    low, high = int(fmt.min) + (narrow and fmt.min < 0), int(fmt.max)
    t = quantize(x, Quantizer(name, scale=Scale("affine"), narrow=narrow))
    s, zero, codes = oracle.affine(exact(x), low, high)
    assert F(float(t.scale_values()[0, 0])) == s
    assert int(t.zero[0, 0]) == zero
    assert [int(v) for v in fmt.decode(t.unpacked()[0])] == codes
    assert [F(v) for v in t.dequantize()[0].tolist()] == [s * (c - zero) for c in codes]


@pytest.mark.parametrize("blocks", [Blocks(), Blocks(1, None), Blocks(None, 1), Blocks(1, 32)])
def test_affine_zero_is_exact_and_errors_stay_within_half_a_step(blocks: Blocks) -> None:
    x = X.copy()
    x[:, ::7] = 0
    t = quantize(x, Quantizer("uint8", blocks, Scale("affine")))
    assert (t.dequantize()[:, ::7] == 0).all()
    step = t._spread(t.scale_values().astype(float))
    assert (np.abs(t.dequantize() - x) <= step * (1 + 2.0**-15)).all()  # half a step, and half of rounding the zero point
    assert t.zero.shape == t.scales[0].shape == blocks.grid(x.shape, 1)


def test_affine_ties_are_rounded_before_the_zero_point_is_added() -> None:
    t = quantize(np.float32([[-1, 254, 0.5, 1.5, 2.5]]), "uint8_affine")
    assert (t.scale_values().tolist(), t.zero.tolist()) == ([[1.0]], [[1]])
    assert t.unpacked().tolist() == [[0, 255, 1, 3, 3]]  # rint(0.5) + 1, not rint(1.5)


def test_a_product_of_affine_operands_is_the_integer_product() -> None:
    a, b = quantize(X, "int8_affine_row"), quantize(X[::-1] + 3, "uint8_affine")
    integers = (a.element_values().astype(np.int64)) @ (b.element_values().astype(np.int64)).T
    rows = a.scale_values()[:, :1] * b.scale_values()
    assert (gemm(a, b) == integers.astype(np.float32) * rows).all()
    for grade in ("exact", "fast"):
        got = lpref.backend("cpu", grade).gemm(a, b)
        assert (np.abs(got.astype(float) - a.dequantize() @ b.dequantize().T) <= fast_bound(a, b)).all()


def test_affine_transposes_with_its_zero_points() -> None:
    t = quantize(X + 1, "uint8_affine")
    assert (t.transpose().dequantize() == t.dequantize().T).all()


@proves("quantizer:{name}", "oracle")
@proves("scale-rule:bfp", "oracle")
@pytest.mark.parametrize(("name", "m", "rule"), [("bfp8_b16", 7, "floor"), ("msfp12", 3, "floor"), ("dfp16", 15, "floor"), ("hbfp8", 7, "ceil")])
@settings(max_examples=25)
@given(values=BLOCK)
def test_block_floating_point(name: str, m: int, rule: str, values: list[float]) -> None:
    x = np.float32([values + values])
    t = quantize(x, lookup(name))
    eps = F(float(np.float32(1e-8))) if name == "hbfp8" else F(0)
    interval, mantissas = oracle.block_floating_point(exact(x), m, rule, eps)
    assert F(float(t.scale_values()[0, 0])) == interval
    assert signed(t) == mantissas


@pytest.mark.parametrize("k", [-20, -1, 0, 3, 90])
def test_an_exact_power_of_two_clips_under_ceil_and_not_under_floor(k: int) -> None:
    x = np.full((1, 16), 2.0**k, np.float32)
    ceil = quantize(x, "bfp8_b16:scale=ceil")
    assert (ceil.dequantize() == 2.0**k * (1 - 2.0**-7)).all()
    assert (quantize(x, "bfp8_b16").dequantize() == x).all()
    if k == 0:
        assert (quantize(x, "bfp8_b16:scale=ceil:eps=1e-3").dequantize() == x).all()  # an eps that survives the addition: exp = 1


@pytest.mark.parametrize("name", ["bfp8_b16", "msfp12", "dfp16"])
def test_block_errors_are_half_an_interval_but_for_the_top(name: str) -> None:
    t = quantize(X, name)
    interval = t._spread(t.scale_values().astype(float))
    top = 2.0 ** (integer(lpref.format(lookup(name).format).bits).bits - 1) - 1
    clipped = np.abs(X) > (top + 0.5) * interval
    assert (np.abs(t.dequantize() - X) <= interval / 2)[~clipped].all()
    assert np.count_nonzero(clipped) == t.observed["overflowed"]
    assert (quantize(X * np.float32(2.0**9), name).dequantize() == t.dequantize() * 2**9).all()


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=6), st.sampled_from([8, 16]))
def test_down_conversion_of_int32(mantissas: list[int], bits: int) -> None:
    got, exponent = down_convert(np.array(mantissas, np.int32), -7, bits)
    want, shift = oracle.down_convert(mantissas, bits)
    assert (got.tolist(), exponent) == (want, shift - 7)


def test_dynamic_fixed_point_has_its_exponent_from_bits() -> None:
    for k in (-100, 0, 5):
        below = np.nextafter(np.float32(2.0**k), np.float32(0))
        for value, e in ((below, k - 1), (np.float32(2.0**k), k)):
            assert quantize(np.float32([[value]]), "dfp16").scale_values()[0, 0] == 2.0 ** (e - 14)
    assert (chain_length(16), chain_length(8)) == (2, 133144)
    x, y, e = aligned((np.array([100]), -2), (np.array([7]), 0))
    assert (x[0] + y[0]) * 2**e == 32


BY_MEANS = {"ternary_twn": oracle.twn, "binary_absmean": oracle.binary}


@proves("quantizer:{name}", "oracle")
@proves("scale-rule:{rule}", "oracle")
@pytest.mark.parametrize(("name", "rule"), [(n, lookup(n).scale.rule) for n in BY_MEANS])
@settings(max_examples=25)
@given(values=st.lists(st.floats(-100, 100, width=32), min_size=8, max_size=8))
def test_scales_from_means(name: str, rule: str, values: list[float]) -> None:
    x = np.float32([values])
    t = quantize(x, name)
    alpha, signs = BY_MEANS[name](exact(x))
    assert (F(float(t.scale_values()[0, 0])), signed(t)) == (alpha, signs)


def test_twn_and_xnor_scales_are_least_squares() -> None:
    w = RNG.standard_normal((8, 256)).astype(np.float32)
    for name in ("ternary_twn:other=1", "binary_absmean:other=1"):
        t = quantize(w, name)
        best = t.scale_values().astype(float)[:, 0]
        sign = t.element_values()
        error = lambda a, s=sign: ((w - a[:, None] * s) ** 2).sum(1)  # noqa: E731
        assert (error(best) <= error(best * 1.01)).all()
        assert (error(best) <= error(best * 0.99)).all()
    assert quantize(np.float32([[-0.0, 0.0, -1]]), "binary_absmean").element_values().tolist() == [[1, 1, -1]]


def test_no_threshold_does_better_than_the_best_one() -> None:
    """Keeping the n largest costs |w|^2 - (sum of them)^2 / n, under any threshold and the best scale for it; float64 sums 4096 squares."""
    w = RNG.standard_normal(4096).astype(np.float32).astype(np.float64)
    a = np.sort(np.abs(w))[::-1]
    best = (w**2).sum() - (np.cumsum(a) ** 2 / np.arange(1, a.size + 1)).max()
    error = ((quantize(w.astype(np.float32).reshape(1, -1), "ternary_twn").dequantize()[0] - w) ** 2).sum()
    assert best - 4 * w.size * 2.0**-53 * (w**2).sum() <= error


def test_the_twn_threshold_of_uniform_weights() -> None:
    """Weights 1, 3, …, 2n - 1: mean n, the threshold 0.7 n keeps k = 0.65 n of them (to one), whose mean 2n - k is their scale: all exact.

    The objective is E(k) = sum w^2 - k (2n - k)^2, that is 4 n^3 (1/3 - t (1 - t/2)^2 - 1/(12 n^2)) at t = k/n. It is least at t = 2/3, where it is
    4 n^3/27; at t = 0.65 it is 27 (1/3 - 0.65 0.675^2) = 1.00378 times as large. A step of 1/n in t moves the bracket by at most 0.1/n (its
    derivative is (1 - t/2)(1 - 3t/2)), so each E is within 4 n^3 0.2/n of that, and their ratio within 27 (0.2 + 0.2 · 1.004)/n < 11/n.
    """
    n = 4096
    w = np.arange(1, 2 * n, 2)
    t = quantize(w.astype(np.float32).reshape(1, -1), "ternary_twn")
    kept = int(np.count_nonzero(t.element_values()))
    squares = int((w.astype(object) ** 2).sum())
    cost = [squares - k * (2 * n - k) ** 2 for k in range(1, n + 1)]
    assert kept == int(np.count_nonzero(10 * w > 7 * n))
    assert float(t.scale_values()[0, 0]) == 2 * n - kept
    assert int(((w - t.dequantize()[0]) ** 2).sum()) == cost[kept - 1]  # sums of integers below 2^53
    limit = 27 * (F(1, 3) - F(65, 100) * F(675, 1000) ** 2)
    assert abs(F(cost[kept - 1], min(cost)) - limit) <= F(11, n)


def test_the_threshold_of_absmean_is_half_the_mean_and_its_tie_is_zero() -> None:
    x = np.float32([[1, -1, 0.5, -0.5, 0.50001, 2.49999]])  # mean 1
    assert quantize(x, "ternary_absmean:eps=1.0").scale_values().tolist() == [[1.0]]
    assert quantize(x, "ternary_absmean").element_values().tolist() == [[1, -1, 0, 0, 1, 1]]


@pytest.mark.parametrize("name", ["int8_tensor", "int8_row", "int4_group", "fp8_tile1x128", "fp8_block128", "nf4"])
@pytest.mark.parametrize("k", [-30, -1, 9])
def test_codes_do_not_depend_on_a_power_of_two(name: str, k: int) -> None:
    x = np.resize(X, (128, 128))
    a, b = quantize(x, name), quantize(np.ldexp(x, k), name)
    assert (a.codes == b.codes).all()
    assert (b.scale_values() == np.ldexp(a.scale_values(), k)).all()
    assert (quantize(0 * x, name).scale_values() > 0).all()
    assert (quantize(0 * x, name).element_values() == 0).all()


def test_absmean_of_huge_elements_is_finite() -> None:
    t = quantize(np.full((64, 64), 3e38, np.float32), "ternary_absmean")
    assert (t.scale_values() == np.float32(3e38)).all()
    assert (t.dequantize() == np.float32(3e38)).all()


def test_what_decodes_to_nan_has_not_underflowed() -> None:
    x = np.ones((1, 64), np.float32)
    x[0, 3] = np.nan
    t = quantize(x, "mxfp4")
    assert (t.observed["underflowed"], stats(x, t)["underflowed"]) == (0, 0)


def test_switchback_multiplies_the_quotient_by_127() -> None:
    t = quantize(X, "int8_switchback")
    amax = np.abs(X).max(1, keepdims=True)
    assert (t.element_values() == np.rint(np.float32(127) * (X / amax))).all()
    assert (t.dequantize() == t.element_values() * amax.astype(float) * float(np.float32(1) / np.float32(127))).all()
    assert 0 < np.count_nonzero(t.codes != quantize(X * np.float32(1), "int8_row").codes) + 1


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Quantizer("e4m3", scale=Scale("affine")), "needs an integer format"),
        (lambda: Quantizer("uint8", scale=Scale("bfp", format="e8m0")), "signed integers"),
        (lambda: Quantizer("int8", narrow=False, scale=Scale("bfp", format="e8m0")), "narrow: true"),
        (lambda: Quantizer("int4", scale=Scale("twn")), "format ternary, or int2"),
        (lambda: Quantizer("e5m2", Blocks(1, 32), Scale("s2fp8")), "one shift and squeeze per tensor"),
        (lambda: Quantizer("int8", scale=Scale("quartic")), "complex_quartic"),
        (lambda: Scale("affine", format="e8m0"), "stores its scales as float32"),
        (lambda: Scale("bfp", format="e8m0", mode="rceil"), "knows floor and ceil"),
        (lambda: Scale("flexpoint"), "write delayed"), (lambda: Scale("amax", window=3), "does not read it; leave it out, or use rule te"),
        (lambda: Scale("nvfp4", format="e4m3", apply="te_nvfp4", scale_max=256), "goes with select"),
        (lambda: Scale("amax", nonfinite="saturate"), "defined for rule 'mx'"), (lambda: Scale("trit_planes", iterations=0), "positive integer"),
    ],
)  # fmt: skip
def test_bad_combinations_say_what_to_do(make, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        make()
