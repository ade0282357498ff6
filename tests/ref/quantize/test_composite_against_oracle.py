"""Registered quantizers with sums, searches, second levels, zero points or histories against fractions, on whole tensors.

Logarithms and powers (S2FP8) are taken to 60 digits and rounded; everything else is exact arithmetic with the roundings of the pages.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction as F
from functools import cache

import numpy as np
import pytest
from oracle import quantizers as oracle
from oracle import rounding, table
from oracle.scaling import FLT_MAX, cap, fl32

from lpref.conformance.proves import proves
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import QUANTIZERS, init_state, quantize

RNG = np.random.default_rng(12)


@cache
def made(name: str) -> table.Table:
    if name.startswith("dynamic8"):
        return table.book(name, format_named(name).tie, [F(v) for v in format_named(name).decode(np.arange(256)).tolist()])
    return table.make(name)


def nearest(name: str, u: F, negative: bool = False) -> int:
    """Code of u, nearest, saturating."""
    tab = made(name)
    if u == 0 and negative and tab.minus_zero is not None:
        return tab.minus_zero
    return rounding.finite_code(tab, rounding.place(tab, u), "nearest_even")[0]


def value(name: str, code: int) -> F:
    v = made(name).codes[code]
    assert isinstance(v, F)
    return v


def rounded(v: F) -> F:
    r = fl32(v)
    assert r is not None
    return r


def exact(x: np.ndarray) -> list[F]:
    return [F(float(v)) for v in x.ravel()]


def tensor(rows: int, columns: int) -> np.ndarray:
    x = RNG.standard_normal((rows, columns)) * 2.0 ** RNG.integers(-3, 4, (rows, 1))
    x[0, 1], x[-1, 0] = 0, -0.0
    return x.astype(np.float32)


@proves("quantizer:nvfp4_torchao", "oracle")
def test_torchao_two_levels() -> None:
    x = tensor(6, 64)
    x[1, :16] *= np.float32(2.0**-20)
    x[2, 16:32] = 0
    t = quantize(x, "nvfp4_torchao")
    s = rounded(max(map(abs, exact(x))) / 2688)
    for i, b in np.ndindex(6, 4):
        block = exact(x[i, 16 * b : 16 * b + 16])
        wanted = rounded(rounded(max(map(abs, block)) / 6) / s)
        d = value("e4m3", nearest("e4m3", min(max(wanted, F(2) ** -6), F(448))))
        factor = min(cap(fl32(cap(fl32(1 / s)) / d)), FLT_MAX)
        assert F(float(t.scale_values()[i, b])) == d
        want = [nearest("e2m1", rounded(v * factor), bool(np.signbit(x[i, 16 * b + k]))) for k, v in enumerate(block)]
        assert t.unpacked()[i, 16 * b : 16 * b + 16].tolist() == want
    assert F(float(t.tensor_scale)) == s


@proves("quantizer:nvfp4_one_level", "oracle")
def test_one_level() -> None:
    x = tensor(6, 64)
    x[1, :16] *= np.float32(2.0**-20)
    t = quantize(x, "nvfp4_one_level")
    for i, b in np.ndindex(6, 4):
        block = exact(x[i, 16 * b : 16 * b + 16])
        d = value("e4m3", nearest("e4m3", rounded(max([F(6) / 64, *map(abs, block)]) / 6)))
        assert F(float(t.scale_values()[i, b])) == d
        want = [nearest("e2m1", rounded(v * rounded(1 / d)), bool(np.signbit(x[i, 16 * b + k]))) for k, v in enumerate(block)]
        assert t.unpacked()[i, 16 * b : 16 * b + 16].tolist() == want


@proves("quantizer:mxfp4_tetrajet", "oracle")
def test_truncation_free_scales() -> None:
    x = tensor(4, 96)
    x[0, 32:64] = np.linspace(-6, 6, 32, dtype=np.float32)
    x[1, :32] = 0
    t = quantize(x, "mxfp4_tetrajet")
    for i, b in np.ndindex(4, 3):
        block = exact(x[i, 32 * b : 32 * b + 32])
        e = oracle.truncation_free(max(map(abs, block)), F(6))
        assert t.scales[0][i, b] == e + 127
        want = [nearest("e2m1", rounded(v / F(2) ** e), bool(np.signbit(x[i, 32 * b + k]))) for k, v in enumerate(block)]
        assert t.unpacked()[i, 32 * b : 32 * b + 32].tolist() == want


@proves("quantizer:{name}", "oracle")
@proves("scale-rule:affine", "oracle")
@pytest.mark.parametrize(("name", "shape", "low", "high"), [("uint8_affine", (9, 13), 0, 255), ("int8_affine_row", (5, 40), -128, 127),
                                                           ("uint4_affine_group", (3, 256), 0, 15)])  # fmt: skip
def test_affine(name: str, shape: tuple[int, int], low: int, high: int) -> None:
    x = tensor(*shape) + np.float32(0.8)
    t = quantize(x, name)
    rows, columns = t.block
    assert t.zero is not None
    for i, j in np.ndindex(t.scale_values().shape):
        block = x[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        s, zero, codes = oracle.affine(exact(block), low, high)
        assert (F(float(t.scale_values()[i, j])), int(t.zero[i, j])) == (s, zero)
        got = t.unpacked()[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns].astype(np.uint8)
        assert got.ravel().tolist() == [c % 256 if low < 0 else c for c in codes]


@proves("quantizer:flexpoint16", "oracle")
@proves("scale-rule:flexpoint", "oracle")
@pytest.mark.parametrize("exponent", [-31, -9, 0])
def test_flexpoint_writes_with_the_scale_of_its_state(exponent: int) -> None:
    x = tensor(7, 9)
    x[3] = np.float32(2.0**exponent) * np.array([0.5, 1.5, 2.5, -0.5, 32767, 32767.5, -32768, 1e6, -3])
    state = {**init_state(QUANTIZERS["flexpoint16"]), "scale": np.float32(2.0**exponent)}
    got = quantize(x, "flexpoint16", state=state).unpacked().astype(np.uint16).view(np.int16)
    assert got.ravel().tolist() == [min(max(oracle.half_even(v / F(2) ** exponent), -32767), 32767) for v in exact(x)]


@proves("quantizer:ternary_absmean", "oracle")
@proves("scale-rule:absmean", "oracle")
def test_ternary() -> None:
    x = tensor(37, 41)
    t = quantize(x, "ternary_absmean")
    values = exact(x)
    s = max(rounded(oracle.tree32([abs(v) for v in values]) / len(values)), F(float(np.float32(1e-5))))
    assert F(float(t.scale_values()[0, 0])) == s
    r = rounded(1 / s)
    want = [min(max(oracle.half_even(rounded(v * r)), -1), 1) % 4 for v in values]
    assert t.unpacked().ravel().tolist() == want


@proves("quantizer:nf4_double", "oracle")
@proves("scale-rule:double", "oracle")
def test_double_quantization() -> None:
    x = tensor(300, 64)
    t = quantize(x, "nf4_double")
    s = [max(map(abs, exact(row))) for row in x]
    offset = rounded(oracle.tree32(s) / len(s))
    d = [rounded(v - offset) for v in s]
    second = [max(map(abs, d[start : start + 256])) for start in (0, 256)]
    codes = [nearest("dynamic8", rounded(v * rounded(1 / second[k // 256]))) for k, v in enumerate(d)]
    assert t.scales[0].ravel().tolist() == codes
    assert [F(float(v)) for v in t.scales[1].view(np.float32)] == second
    assert F(float(t.aux["offset"])) == offset
    decoded = [rounded(rounded(value("dynamic8", c) * second[k // 256]) + offset) for k, c in enumerate(codes)]
    assert [F(float(v)) for v in t.scale_values().ravel()] == decoded
    for i in (0, 7, 299):
        want = [nearest("nf4", rounded(v * rounded(1 / s[i]))) for v in exact(x[i])]
        assert t.unpacked()[i].tolist() == want


def log2(v: F) -> F:
    """fl32(log2 v) of a positive v, from 60 digits."""
    with localcontext() as context:
        context.prec = 60
        return rounded(F((Decimal(v.numerator) / Decimal(v.denominator)).ln() / Decimal(2).ln()))


def exp2(v: F) -> F:
    with localcontext() as context:
        context.prec = 60
        return rounded(F((Decimal(v.numerator) / Decimal(v.denominator) * Decimal(2).ln()).exp()))


@proves("quantizer:s2fp8", "oracle")
@proves("scale-rule:s2fp8", "oracle")
@pytest.mark.parametrize("shift", [0, -40])
def test_s2fp8(shift: int) -> None:
    x = (tensor(11, 23) * 2.0**shift).astype(np.float32)
    t = quantize(x, "s2fp8")
    values = exact(x)
    logs = [log2(abs(v)) if v else F(0) for v in values]
    count, top = sum(v != 0 for v in values), max(log for log, v in zip(logs, values, strict=True) if v)
    mean = rounded(oracle.tree32(logs) / count)
    alpha = rounded(15 / rounded(top - mean))
    beta = -rounded(alpha * mean)
    assert (F(float(t.aux["alpha"])), F(float(t.aux["beta"]))) == (alpha, beta)
    squeezed = [exp2(rounded(rounded(alpha * log) + beta)) * (-1 if v < 0 else 1) if v else F(0) for v, log in zip(values, logs, strict=True)]
    assert exact(t.element_values()) == [value("e5m2", nearest("e5m2", y)) for y in squeezed]


PAIRS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))


def least_squares(w: list[F], planes: list[tuple[int, int]]) -> tuple[F, F]:
    """The regression for given planes, its ridge raised until the system is regular."""
    n11, n22 = (sum(abs(p[i]) for p in planes) for i in (0, 1))
    n12 = sum(p[0] * p[1] for p in planes)
    b1, b2 = (sum((v * p[i] for v, p in zip(w, planes, strict=True)), F(0)) for i in (0, 1))
    ridge = F(1e-8)
    while True:
        a11, a22 = n11 + ridge, n22 + ridge
        d = a11 * a22 - n12 * n12
        if d > F(1e-12) * a11 * a22:
            return (a22 * b1 - n12 * b2) / d, (a11 * b2 - n12 * b1) / d
        ridge = max(10 * ridge, F(1e-8))


def best_pairs(w: list[F], a1: F, a2: F) -> list[tuple[int, int]]:
    return [min(PAIRS, key=lambda p: abs(v - (p[0] * a1 + p[1] * a2))) for v in w]


@proves("quantizer:trit_planes", "oracle")
@proves("scale-rule:trit_planes", "oracle")
def test_trit_planes() -> None:
    x = tensor(3, 256)
    t = quantize(x, "trit_planes")
    assert t.residual is not None
    for i, b in np.ndindex(3, 2):
        w = exact(x[i, 128 * b : 128 * b + 128])
        planes = [(-1, -1) if v < 0 else (1, 1) for v in w]
        for _ in range(50):
            a1, a2 = least_squares(w, planes)
            a1, a2 = sorted((abs(a1), abs(a2)), reverse=True)
            chosen = best_pairs(w, a1, a2)
            if chosen == planes:
                break
            planes = chosen
        a1, a2 = rounded(a1), rounded(a2)
        assert (F(float(t.scale_values()[i, b])), F(float(t.residual.scale_values()[i, b]))) == (a1, a2)
        got = [u.element_values()[i, 128 * b : 128 * b + 128].astype(int).tolist() for u in (t, t.residual)]
        assert list(zip(*got, strict=True)) == best_pairs(w, a1, a2)
