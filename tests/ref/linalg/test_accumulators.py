"""The accumulation models that are no matrix units: against fractions, and what each is known for."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from oracle import accumulate as oracle

import lpref
from lpref.accel.cpu.gemm import gemm as cpu_gemm
from lpref.conformance.proves import proves
from lpref.ref import formats
from lpref.ref.errors import FormatError, SpecError
from lpref.ref.linalg import ACCUMULATORS, Accumulate, HighPrecision, accumulator, gemm
from lpref.ref.linalg.exact_dot import exact_dot

f32 = np.float32
SUMS = [n for n, a in ACCUMULATORS.items() if a.model.inner in ("sequential", "pairwise", "kahan")]
INTEGERS = [n for n, a in ACCUMULATORS.items() if a.model.inner == "integer"]


def high(x):
    return HighPrecision(np.asarray(x, f32))


def ones(n, name, value=1.0):
    """The sum of n equal numbers; by the cpu backend, whose bits are the definition's (tests/accel/cpu/test_sums.py)."""
    return float(cpu_gemm(high(np.full((1, n), value)), high(np.ones((1, n))), name)[0, 0])


@proves("{name}", "oracle")
@pytest.mark.parametrize("name", SUMS)
def test_sums_equal_fractions(name: str) -> None:
    model, rng = ACCUMULATORS[name].model, np.random.default_rng(1)
    for depth in (0, 1, 2, 3, 7, 65, 130):
        a, b = (formats.format("binary16").round(rng.standard_normal((3, depth)) * 2.0 ** rng.integers(-4, 5, (3, depth))) for _ in range(2))
        got = gemm(high(a), high(b), name)
        for i, j in itertools.product(range(3), repeat=2):
            x, y = ([Fraction(float(v)) for v in r] for r in (a[i], b[j]))
            summed, size = getattr(oracle, model.inner), model.chunk or max(depth, 1)
            total = Fraction(0)
            for k in range(0, depth, size):
                part = summed(x[k : k + size], y[k : k + size], model.format, model.product)
                total = oracle.nearest(total + part, model.outer)
            assert Fraction(float(got[i, j])) == total


@proves("exact", "oracle")
def test_exact_is_rounded_once() -> None:
    rng = np.random.default_rng(2)
    a, b = (formats.format("e5m2").round(rng.standard_normal((3, 70)) * 2.0 ** rng.integers(-12, 12, (3, 70))) for _ in range(2))
    got = gemm(high(a), high(b), "exact")
    for i, j in itertools.product(range(3), repeat=2):
        dot = sum(Fraction(float(p)) * Fraction(float(q)) for p, q in zip(a[i], b[j], strict=True))
        assert Fraction(float(got[i, j])) == oracle.nearest(dot, "float32")
        assert f32(math.fsum(a[i] * b[j])) == got[i, j]  # the products of this draw are exact in float64


@proves("{name}", "oracle")
@pytest.mark.parametrize("name", INTEGERS)
def test_integers_equal_python_integers(name: str) -> None:
    model, rng = ACCUMULATORS[name].model, np.random.default_rng(3)
    limit = {16: 200, 24: 3000, 32: 40000}[model.bits]  # so that many sums leave the range
    a, b = rng.integers(-limit, limit, (5, 60)), rng.integers(-limit, limit, (4, 60))
    a[0], b[0] = limit, limit - 1
    want = [[oracle.integer(x, y, model.bits, model.overflow) for y in b.tolist()] for x in a.tolist()]
    assert gemm(high(a), high(b), name).tolist() == f32(want).tolist()
    assert any(abs(v) >= 2 ** (model.bits - 1) for v in (a @ b.T).ravel())


def test_integer_codes_count_in_their_quantum() -> None:
    from lpref.ref.quantize import QUANTIZERS, quantize

    x = np.random.default_rng(4).standard_normal((4, 64)).astype(f32)
    for name in ("mxint8", "int8_row"):
        a = quantize(x, QUANTIZERS[name])
        assert gemm(a, a, "int32_wrap").tobytes() == gemm(a, a, "exact").tobytes()
    with pytest.raises(FormatError, match="no multiple"):
        gemm(high([[0.5]]), high([[1.0]]), "int32_wrap")


def test_where_sums_of_ones_stall() -> None:
    assert ones(1000, "bf16_sequential") == 256
    assert ones(5000, "fp16_sequential") == 2048
    assert ones(100, Accumulate("sequential", "e5m2", "exact", outer="e5m2")) == 8
    assert ones(2000, Accumulate("sequential", "e6m9_ieee", "exact", outer="e6m9_ieee")) == 1024


def test_chunks_reach_further() -> None:
    """64 chunks' sums of 64 each: 64 x 256 in bfloat16, where one chain stops at 256."""
    assert ones(64 * 256, "bf16_chunk64") == 64 * 256
    assert ones(64 * 300, "bf16_chunk64") == 64 * 256
    assert ones(64 * 1024, "ibm_chunk64") == 64 * 1024


def test_kahan_recovers() -> None:
    """Where the plain sum stalls, the corrected one stays within a unit of the target format."""
    assert ones(4096, "bf16_kahan") == 4096
    assert abs(ones(3000, "bf16_kahan") - 3000) <= 8  # half a unit at 2048 .. 4096 in bfloat16
    n, x = 1 << 16, f32(0.1)
    exact = n * float(x)
    assert abs(ones(n, "kahan", x) - exact) <= 2.0**-24 * exact
    assert abs(ones(n, "sequential", x) - exact) > 100 * 2.0**-24 * exact


def test_pairwise_error_grows_like_the_logarithm() -> None:
    rng = np.random.default_rng(5)
    for n in (256, 4096):
        a = high(rng.random((8, n)))
        b = high(np.ones((1, n)))
        exact = a.values.astype(float).sum(1)[:, None]
        for name, factors in (("pairwise", math.log2(n)), ("blocked_64", 64 + n / 64), ("sequential", n)):
            assert (np.abs(cpu_gemm(a, b, name) - exact) <= factors * 2.0**-24 * exact).all()
        worst = np.full((1, n), 2.0**-24)  # 1 + 2^-24 is a tie, which goes back to 1: sequential sums lose every one of them
        worst[0, 0] = 1
        total = 1 + (n - 1) * 2.0**-24
        lost = {name: abs(float(cpu_gemm(high(worst), b, name)[0, 0]) - total) for name in ("pairwise", "sequential")}
        assert lost["sequential"] == (n - 1) * 2.0**-24 > math.log2(n) * 2.0**-24 * total >= lost["pairwise"]


def test_a_stochastic_accumulator_is_unbiased() -> None:
    """Over all words of every addition, the mean of the accumulator is the sum: bfloat16, three numbers, eight bits a word."""
    f, terms = formats.format("bfloat16"), [1.0, 5 * 2.0**-10, 129 * 2.0**-15]
    words = np.arange(256, dtype=np.uint32)
    states, weight = {terms[0]: Fraction(1)}, Fraction(1, 256)
    for term in terms[1:]:
        after: dict[float, Fraction] = {}
        for value, share in states.items():
            for v in f.round(np.full(256, value + term), "stochastic", words=words, word_bits=8).tolist():
                after[v] = after.get(v, Fraction(0)) + share * weight
        states = after
    assert sum(Fraction(v) * p for v, p in states.items()) == sum(Fraction(t) for t in terms)
    assert len(states) > 1


def test_exact_accumulators_of_small_formats() -> None:
    """What a fixed-point register needs: E4M3 64 bits to K = 2^27, E5M2 96 bits to K = 2^32, E2M1 float32 to K = 116508."""
    for name, quantum, top in (("e4m3", -18, 2 * math.log2(448)), ("e5m2", -32, 2 * math.log2(57344)), ("e2m1", -2, 2 * math.log2(6))):
        f = formats.format(name)
        assert f.min_subnormal**2 == 2.0**quantum
        assert 2 * math.log2(f.max) == top
    assert 27 + 2 * math.log2(448) + 18 < 63
    assert 32 + 2 * math.log2(57344) + 32 < 96
    assert 116508 * 36 * 4 < 2**24 <= 116509 * 36 * 4
    rng, e4m3 = np.random.default_rng(6), formats.format("e4m3")
    a, b = (e4m3.round(rng.uniform(-448, 448, (2, 4096))) for _ in range(2))
    fixed = (a * 2**9).astype(np.int64) @ (b * 2**9).astype(np.int64).T
    assert (exact_dot(a, b) == (fixed.astype(np.float64) * 2.0**-18).astype(f32)).all()


def test_orders_that_matter_and_orders_that_do_not() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.integers(-128, 128, (6, 400)), rng.integers(-128, 128, (5, 400))
    p = rng.permutation(400)
    assert gemm(high(a[:, p]), high(b[:, p]), "int16_wrap").tobytes() == gemm(high(a), high(b), "int16_wrap").tobytes()
    assert gemm(high(a[:, p]), high(b[:, p]), "int16_saturate").tobytes() != gemm(high(a), high(b), "int16_saturate").tobytes()


def test_names_in_recipes() -> None:
    made = lpref.recipe({"base": "bf16", "set": {"linear.fprop.accumulate": "hopper_bf16"}})
    assert made.linear.fprop.accumulate == accumulator("hopper_bf16")
    again = lpref.recipe({"base": "bf16", "set": {"linear.fprop.accumulate": {"base": "hopper_fp8_fast", "chunk": 64}}})
    assert again.linear.fprop.accumulate.chunk == 64
    assert "products: 16" in made.to_yaml()
    with pytest.raises(SpecError, match="hopper_bf16"):
        lpref.recipe({"base": "bf16", "set": {"linear.fprop.accumulate": "hopper_bf61"}})


def test_every_name_says_what_and_where_from() -> None:
    for name, a in ACCUMULATORS.items():
        assert a.name == name
        assert a.title
        assert a.standard
        assert a.source_level in ("read", "secondary", "memory")
        assert accumulator(name) is a.model
