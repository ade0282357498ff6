"""`gemm` against its definition in Fractions and single float32 operations; grade fast within its bound."""

import importlib.util
import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lpref.ref import formats
from lpref.ref.errors import ShapeError, SpecError, UnknownNameError
from lpref.ref.linalg import Accumulate, HighPrecision, fast_bound, gemm, native_bound

_spec = importlib.util.spec_from_file_location("operands", Path(__file__).with_name("operands.py"))
operands = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(operands)

f32 = np.float32


def scale_at(x, other, k):
    """(block scale along k or None, row scale or None) of one element."""
    rule = x.quantizer.blocks
    grid = x.scales if x.k_axis % 2 else x.scales.T
    row = 0 if rule.other is None else other // rule.other
    return (None, grid[row, 0]) if rule.k is None else (grid[row, k // rule.k], None)


def literal(a, b):
    """The default accumulation: one output at a time, scalars, exact inner products in Fractions."""
    va, vb = (x.elements if x.k_axis % 2 else x.elements.T for x in (a, b))
    out = np.zeros((va.shape[0], vb.shape[0]), f32)
    cuts = {0, va.shape[1]}
    for x in (a, b):
        if x.quantizer.blocks.k:
            cuts |= set(range(0, va.shape[1], x.quantizer.blocks.k))
    cuts = sorted(cuts)
    for i in range(va.shape[0]):
        for j in range(vb.shape[0]):
            c = f32(0)
            for lo, hi in itertools.pairwise(cuts):
                d = sum(
                    (Fraction(float(p)) * Fraction(float(q)) for p, q in zip(va[i, lo:hi], vb[j, lo:hi], strict=True)),
                    Fraction(0),
                )
                d = f32(float(d))  # the sums of these tests have at most 53 bits, so float(d) is exact
                sa, sb = scale_at(a, i, lo)[0], scale_at(b, j, lo)[0]
                c = c + d * ((f32(1) if sa is None else sa) * (f32(1) if sb is None else sb))
            ra, rb = scale_at(a, i, 0)[1], scale_at(b, j, 0)[1]
            c = c * ((f32(1) if ra is None else ra) * (f32(1) if rb is None else rb))
            ta, tb = (f32(1) if x.tensor_scale is None else x.tensor_scale for x in (a, b))
            out[i, j] = c * (ta * tb)
    return out


BLOCKS = [((1, 16), (1, 16)), ((1, 16), (16, 16)), ((1, None), (1, None)), ((None, None), (None, None)), ((1, 16), (1, None)),
          ((1, 8), (4, 24)), ((1, 32), (None, None))]  # fmt: skip


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
@pytest.mark.parametrize("axes", [(1, 1), (0, 1), (1, 0), (-1, -2)])
@pytest.mark.parametrize("tensors", [(None, None), (0.3, None), (0.3, 1.7)])
def test_default_is_the_definition(blocks, axes, tensors):
    rng = np.random.default_rng(3)
    k = 56  # not a multiple of 16, 24 or 32
    a = operands.draw(rng, 6, k, "e4m3", blocks[0], axes[0] % 2, tensors[0])
    b = operands.draw(rng, 5, k, "e2m1", blocks[1], axes[1] % 2, tensors[1])
    assert gemm(a, b).tobytes() == literal(a, b).tobytes()


@pytest.mark.parametrize(
    "names", [("e5m2", "e5m2"), ("e5m2", "e4m3"), ("int8", "int8"), ("e2m1", "e2m1"), ("e3m2", "e2m3")]
)
def test_every_small_format_is_exact_inside_a_block(names):
    rng = np.random.default_rng(4)
    a, b = (operands.draw(rng, 7, 64, name, (1, 32)) for name in names)
    exact = gemm(a, b, Accumulate(inner="exact"))
    assert gemm(a, b).tobytes() == exact.tobytes()
    one = np.zeros((7, 7), f32)
    for start in (0, 32):
        for i in range(7):
            for j in range(7):
                d = sum(Fraction(float(p)) * Fraction(float(q)) for p, q in
                        zip(a.elements[i, start : start + 32], b.elements[j, start : start + 32], strict=True))  # fmt: skip
                near = f32(float(d))
                assert abs(Fraction(float(near)) - d) <= Fraction(float(np.spacing(abs(near)))) / 2
                one[i, j] = one[i, j] + near * (a.scales[i, start // 32] * b.scales[j, start // 32])
    assert one.tobytes() == exact.tobytes()


def test_high_precision_is_sequential_and_not_fused():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(5, 37)).astype(f32), rng.normal(size=(4, 37)).astype(f32)
    expected = np.zeros((5, 4), f32)
    for k in range(37):
        expected = expected + a[:, k, None] * b[None, :, k]
    assert gemm(HighPrecision(a), HighPrecision(b)).tobytes() == expected.tobytes()
    assert gemm(HighPrecision(np.ascontiguousarray(a.T), 0), HighPrecision(b)).tobytes() == expected.tobytes()
    e = f32(2.0**-12)
    x = HighPrecision(f32([[1 + e, -1]]))
    y = HighPrecision(f32([[1 + e, 1 + 2 * e]]))
    assert gemm(x, y).tolist() == [[0.0]]  # a fused product would leave 2^-24


def test_wide_formats_and_mixtures_are_sequential_on_dequantized_values():
    rng = np.random.default_rng(6)
    a, b = operands.draw(rng, 4, 32, "bfloat16", (None, None)), HighPrecision(rng.normal(size=(3, 32)).astype(f32))
    c = operands.draw(rng, 3, 32, "e4m3", (1, 16), tensor=0.7)
    with np.errstate(over="ignore"):
        dense = HighPrecision(a.dequantize(f32))
        assert gemm(a, b).tobytes() == gemm(dense, b).tobytes()
        assert gemm(b, c).tobytes() == gemm(b, HighPrecision(c.dequantize(f32))).tobytes()


@pytest.mark.parametrize("kind", ["high", "nvfp4", "e5m2_rows", "tile"])
def test_fast_is_within_its_bound(kind):
    rng = np.random.default_rng(7)
    draw = {
        "high": lambda m: HighPrecision(rng.normal(size=(m, 100)).astype(f32)),
        "nvfp4": lambda m: operands.draw(rng, m, 100, "e2m1", (1, 16), tensor=0.01),
        "e5m2_rows": lambda m: operands.draw(rng, m, 100, "e5m2", (1, None)),
        "tile": lambda m: operands.draw(rng, m, 100, "e4m3", (1, 32)),
    }[kind]
    a, b = draw(20), draw(30)
    exact, fast = gemm(a, b), gemm(a, b, numerics="fast")
    assert fast.dtype == f32
    assert np.all(np.abs(fast.astype(np.float64) - exact) <= fast_bound(a, b))
    true = a.dequantize(np.float64) @ b.dequantize(np.float64).T
    assert np.all(np.abs(exact - true) <= fast_bound(a, b))


@pytest.mark.parametrize("blocks", [(None, None), (1, None), (1, 128)])
@pytest.mark.parametrize("formats", [("e4m3", "e4m3"), ("e5m2", "e4m3")])
def test_fp8_units_are_within_the_native_bound(blocks, formats):
    """A unit's sums, promoted every 128 products, also where K is cut in three and the parts are added in float32."""
    rng = np.random.default_rng(9)
    a, b = (operands.draw(rng, m, 1000, name, blocks) for m, name in ((20, formats[0]), (30, formats[1])))
    exact, limit = gemm(a, b), native_bound(a, b)
    assert (limit > fast_bound(a, b)).all()
    assert (np.abs(gemm(a, b, "hopper_fp8_promote128").astype(np.float64) - exact) <= limit).all()
    if blocks == (None, None):
        cut = [[replace(x, elements=x.elements[:, i:j]) for x in (a, b)] for i, j in ((0, 256), (256, 640), (640, 1000))]
        sums = [gemm(*part, "hopper_fp8_promote128") for part in cut]
        assert (np.abs((sums[0] + sums[1] + sums[2]).astype(np.float64) - exact) <= limit).all()
    high = HighPrecision(rng.normal(size=(30, 1000)).astype(f32))
    assert np.array_equal(native_bound(a, high), fast_bound(a, high))


def test_float64_stays_float64():
    a = HighPrecision(np.random.default_rng(8).normal(size=(3, 9)))
    c = gemm(a, a)
    assert c.dtype == np.float64
    assert gemm(a, a, numerics="fast").dtype == np.float64
    assert np.all(np.abs(c - a.values @ a.values.T) <= 18 * 2.0**-53 * (np.abs(a.values) @ np.abs(a.values).T))


def ones(n):
    return HighPrecision(np.ones((1, n), f32))


@pytest.mark.parametrize(("name", "stall"), [("bfloat16", 256), ("binary16", 2048), ("e5m2", 8)])
def test_a_low_precision_accumulator_stalls(name, stall):
    n = 2 * stall
    model = Accumulate(inner="sequential", format=name, outer=name)
    assert gemm(ones(n), ones(n), model).tolist() == [[float(stall)]]


def test_chunks_recover_and_pairwise_is_exact_on_powers_of_two():
    chunked = Accumulate(inner="sequential", format="e5m2", chunk=8, outer="e5m2")
    assert gemm(ones(8 * 12), ones(8 * 12), chunked).tolist() == [[8.0 * 8]]
    promoted = Accumulate(inner="sequential", format="e5m2", chunk=8)
    assert gemm(ones(8 * 12), ones(8 * 12), promoted).tolist() == [[8.0 * 12]]
    assert gemm(ones(1024), ones(1024), Accumulate(inner="pairwise", format="bfloat16")).tolist() == [[1024.0]]


def test_chunked_sequential_is_the_definition():
    rng = np.random.default_rng(9)
    f = formats.format("binary16")
    a, b = (HighPrecision(f.round(rng.normal(size=(3, 50)).astype(f32))) for _ in range(2))
    expected = np.zeros((3, 3), f32)
    for i in range(3):
        for j in range(3):
            for start in range(0, 50, 16):
                c = Fraction(0)
                for k in range(start, min(start + 16, 50)):
                    p = f32(a.values[i, k] * b.values[j, k])
                    c = Fraction(float(f.round(np.float64(float(c + Fraction(float(p)))))))  # at most 53 bits
                expected[i, j] = expected[i, j] + f32(float(c))
    assert gemm(a, b, Accumulate(inner="sequential", format="binary16", chunk=16)).tobytes() == expected.tobytes()


def test_codes_under_other_inner_models_keep_their_scales():
    rng = np.random.default_rng(10)
    a, b = operands.draw(rng, 4, 48, "e2m1", (1, 16)), operands.draw(rng, 5, 48, "e2m1", (1, 16))
    for inner in ("sequential", "pairwise"):  # sums of E2M1 products are exact in float32
        assert gemm(a, b, Accumulate(inner=inner)).tobytes() == gemm(a, b).tobytes()


@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1)])
def test_empty_shapes(m, n, k):
    c = gemm(HighPrecision(np.ones((m, k), f32)), HighPrecision(np.ones((n, k), f32)))
    assert c.shape == (m, n)
    assert np.array_equal(c, np.full((m, n), k, f32))


def test_errors():
    a, b = ones(4), ones(5)
    with pytest.raises(ShapeError, match="4 and 5"):
        gemm(a, b)
    with pytest.raises(UnknownNameError, match="exact"):
        gemm(a, a, numerics="exakt")
    with pytest.raises(UnknownNameError, match="sequential"):
        Accumulate(inner="sequentiel")
    with pytest.raises(SpecError, match="chunk"):
        Accumulate(chunk=0)
    scaled = operands.draw(np.random.default_rng(0), 2, 32)
    with pytest.raises(ShapeError, match="epilogue"):
        gemm(scaled, scaled, Accumulate(scales="epilogue"))
