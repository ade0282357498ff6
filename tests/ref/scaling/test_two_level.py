"""Rules with more than one scale, or with a state: four over six, double quantization, trit planes, S2FP8, Flexpoint, complex quartic; MX modes."""

from __future__ import annotations

from fractions import Fraction as F
from itertools import pairwise, product

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
from lpref.ref.quantize import QTensor, Quantizer, Scale, init_state, lookup, merge, quantize, stats, update_state
from lpref.ref.quantize.state import settled
from lpref.ref.scaling import shared_exponent
from lpref.ref.scaling.flexpoint import predicted
from lpref.ref.scaling.trit_planes import PAIRS, fit, solve

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
    """E[x^] over all 256 words: the floor rule loses up to a quarter of amax, the other two at most the word's resolution."""
    x = np.float32([[7.9, 5.3, -1.3, 0.3] * 8])
    words = np.arange(256)[:, None] * np.ones((1, 32), int)
    bias = {}
    for name in ("mxfp4", "mxfp4_three_quarters", "mxfp4_tetrajet"):
        t = quantize(np.repeat(x, 256, 0), f"{name}:rounding=stochastic:word_bits=8", words=words)
        bias[name] = np.abs(t.dequantize().mean(0) - x[0]).max() / 7.9
    assert bias["mxfp4"] > 0.2
    assert max(bias["mxfp4_three_quarters"], bias["mxfp4_tetrajet"]) < 2 * 2.0**-8


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
    x = RNG.standard_normal((520, 64)).astype(np.float32)
    t, plain = quantize(x, "nf4_double"), quantize(x, "nf4")
    assert (t.codes == plain.codes).all()  # elements are cast under the true scale
    assert [s.shape for s in t.scales] == [(520, 1), (3,)]
    second = np.repeat(t.scales[1].view(np.float32), 256)[:520, None]
    levels = format_named("dynamic8").decode(t.scales[0]).astype(np.float32)
    assert (t.scale_values() == levels * second + t.aux["offset"]).all()
    assert np.abs(t.scale_values() / plain.scale_values() - 1).max() < 0.01
    assert abs(8 * t.nbytes / x.size - (4 + 8 / 64 + 3 * 32 / x.size + 32 / x.size)) < 1e-12
    assert stats(x, t)["sqnr_db"] > stats(x, plain)["sqnr_db"] - 0.1


# -- trit planes ------------------------------------------------------------------------------------------------------


def objective(w: np.ndarray, a: tuple[float, float], planes: tuple[np.ndarray, np.ndarray]) -> float:
    return float(((w - a[0] * planes[0] - a[1] * planes[1]) ** 2).sum())


@settings(max_examples=30)
@given(st.lists(st.floats(-4, 4, width=32), min_size=4, max_size=12), st.integers(0, 8), st.integers(1, 8))
def test_the_least_squares_scales_are_cramers_over_fractions(values: list[float], i: int, j: int) -> None:
    w = np.array(values)
    picks = [PAIRS[(k * i + j) % 9] for k in range(len(values))]
    planes = tuple(np.array(column, float) for column in zip(*picks, strict=True))
    n11, n22, n12 = (F(float((p * q).sum())) for p, q in ((planes[0], planes[0]), (planes[1], planes[1]), (planes[0], planes[1])))
    b1, b2 = (sum((F(v) * F(t) for v, t in zip(values, p.tolist(), strict=True)), F(0)) for p in planes)
    determinant = n11 * n22 - n12 * n12
    if determinant == 0:
        return
    want = (n22 * b1 - n12 * b2) / determinant, (n11 * b2 - n12 * b1) / determinant
    assert np.allclose(solve(w, planes, 0.0), [float(v) for v in want], rtol=1e-9, atol=1e-9)


def test_the_objective_never_grows_and_two_planes_beat_one() -> None:
    w = RNG.standard_normal(128)
    errors = []
    for rounds in range(1, 12):
        a1, a2, t1, t2 = fit(w, 0.0, rounds)
        errors.append(objective(w, (float(a1), float(a2)), (t1, t2)))
    assert all(after <= before * (1 + 1e-6) for before, after in pairwise(errors))
    one = quantize(w.astype(np.float32).reshape(1, 128), "ternary_twn")
    assert errors[-1] < ((w - one.dequantize()[0]) ** 2).sum() / 2


def test_nine_levels_and_a_singular_start() -> None:
    w = RNG.standard_normal(256)
    a1, a2, t1, t2 = fit(w, 1e-8, 50)
    levels = np.array([s * float(a1) + t * float(a2) for s, t in PAIRS])
    assert np.unique(levels).size == 9
    assert (np.abs(w - (float(a1) * t1 + float(a2) * t2)) == np.abs(w[:, None] - levels).min(1)).all()
    same = solve(w, (np.sign(w), np.sign(w)), 0.0)  # T1 = T2: no solution without a ridge
    assert np.isclose(*same)


def test_trit_planes_as_a_tensor() -> None:
    t = quantize(X, "trit_planes")
    assert isinstance(t.residual, QTensor)
    assert (t.dequantize() == t.element_values() * t._spread(t.scale_values().astype(float)) + t.residual.dequantize()).all()
    assert set(np.unique(t.residual.element_values())) <= {-1.0, 0.0, 1.0}
    assert (quantize(np.zeros((1, 128), np.float32), "trit_planes").scale_values() == 0).all()


# -- S2FP8 ------------------------------------------------------------------------------------------------------------


def test_s2fp8_centres_the_logarithms() -> None:
    x = np.exp(3 * RNG.standard_normal((64, 64)) - 40).astype(np.float32)  # far below E5M2
    x[0, :5] = 0
    t = quantize(x, "s2fp8")
    logs = np.log2(np.abs(t.element_values()[x != 0]))
    assert abs(logs.mean()) < 0.02
    assert np.abs(t.element_values()).max() == 2.0**15
    assert (t.dequantize()[0, :5] == 0).all()
    error = np.abs(np.log2(t.dequantize()[x != 0] / x[x != 0]))
    assert error.max() <= np.log2(1.125) / float(t.aux["alpha"]) + 1e-4
    assert quantize(x, Quantizer("e5m2")).dequantize().any()
    assert not quantize(x, Quantizer("e5m2", scale=Scale("none"))).dequantize().any()


def test_s2fp8_alpha_is_one_where_the_spread_fits_and_for_one_magnitude() -> None:
    x = np.float32([[1, 2.0**-15, 2.0**-30, 2.0**-15]])  # mean -15, largest 0
    t = quantize(x, "s2fp8")
    assert (float(t.aux["alpha"]), float(t.aux["beta"])) == (1.0, 15.0)
    assert (t.dequantize() == x).all()
    assert (quantize(np.full((2, 2), -0.3, np.float32), "s2fp8").dequantize(np.float32) == np.float32(-0.3)).all()
    assert np.isnan(quantize(np.float32([[1, np.inf]]), "s2fp8").dequantize()).all()


# -- Flexpoint --------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.lists(st.floats(2.0**-20, 100, width=32), min_size=1, max_size=16), st.integers(-31, 0))
def test_the_predicted_scale(past: list[float], e: int) -> None:
    scale = lookup("flexpoint16").scale
    assert F(float(predicted(np.float32(past), 2.0**e, 16, scale))) == oracle.autoflex([F(v) for v in past], F(2) ** e, 16)


def test_a_growing_sequence_never_overflows_and_a_jump_clips_once() -> None:
    q, x = lookup("flexpoint16"), np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8) * np.float32(2.0**-8)
    state, overflowed = settled(q, x), []
    for step in range(60):
        t = quantize(x * np.float32(1.05**step), q, state=state)
        overflowed.append(t.observed["overflowed"])
        state = update_state(q, state, [t.observed])
    assert not any(overflowed)
    seen = []
    for _ in range(4):
        t = quantize(x * np.float32(500 * 1.05**60), q, state=state)
        seen.append(t.observed["overflowed"] > 0)
        state = update_state(q, state, [t.observed])
        if t.observed["overflowed"]:
            assert int(state["length"]) == 1  # the history is cleared, and Gamma doubled
    assert seen[0]
    assert not seen[-1]


def test_micro_batches_merge_to_the_largest_mantissa() -> None:
    q = lookup("flexpoint16:window=2")
    state = init_state(q)
    parts = [quantize(np.float32([[v]]), q, state=state).observed for v in (3.0, -9.0, 4.0)]
    assert merge(parts)["top"] == 9
    state = update_state(q, state, parts)
    assert (int(state["length"]), state["history"].tolist()) == (1, [9.0, 0.0])
    assert update_state(q, state, []) == state


# -- complex weights --------------------------------------------------------------------------------------------------

QUARTIC = "quartic_absmean"


def test_complex_weights_have_a_scale_for_each_axis() -> None:
    w = (RNG.standard_normal((8, 16)) + 1j * RNG.standard_normal((8, 16))).astype(np.complex64)
    t = quantize(w, QUARTIC)
    real = np.abs(w.real) > np.abs(w.imag)
    s_r, s_i = (float(np.abs(part[chosen]).astype(float).mean()) for part, chosen in ((w.real, real), (w.imag, ~real)))
    values = t.dequantize()
    assert np.allclose(values.real, np.where(real, np.sign(w.real) * s_r, 0), rtol=1e-6)
    assert np.allclose(values.imag, np.where(real, 0, np.sign(w.imag) * s_i), rtol=1e-6)
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
