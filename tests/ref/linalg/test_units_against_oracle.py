"""The units that take block scales themselves, those that keep binary16, and `auto`, against fractions."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest
from oracle.accumulate import cut, exponent, nearest

from lpref.conformance.proves import proves
from lpref.ref.formats import format as format_named
from lpref.ref.linalg import ACCUMULATORS, HighPrecision, gemm
from lpref.ref.quantize import QTensor, quantize

RNG = np.random.default_rng(21)


def step(c: F, terms: list[tuple[F, int]], fraction: int) -> F:
    """c and (value, exponent) of the terms, cut at the common place, the sum cut to float32."""
    terms = [*terms, (c, max(exponent(c), -126))] if c else terms
    top = max([e for _, e in terms] + [-126])
    total = sum((cut(v, F(2) ** (top - fraction)) for v, _ in terms), F(0))
    return cut(total, F(2) ** (max(exponent(total), -126) - 23)) if total else total


def operand(name: str, rows: int, seed: int) -> QTensor:
    """Blocks of very different scale; the largest magnitude makes NVFP4's tensor scale 1."""
    rng = np.random.default_rng(seed)
    size = np.repeat(2.0 ** rng.integers(-9, 9, (rows, 12)), 16, 1)
    x = (rng.standard_normal((rows, 192)) * size).astype(np.float32)
    x[0, 5], x[:, 20:24] = 2688, 0
    return quantize(np.clip(x, -2688, 2688), name)


@proves("blackwell_mxf4nvf4", "oracle")
def test_sums_of_16_times_both_scales() -> None:
    a, b = operand("nvfp4", 3, 1), operand("nvfp4", 4, 2)
    assert a.tensor_scale == b.tensor_scale == 1
    got = gemm(a, b, "blackwell_mxf4nvf4")
    ea, eb, sa, sb = a.element_values(), b.element_values(), a.scale_values(), b.scale_values()
    for i, j in np.ndindex(3, 4):
        c = F(0)
        for start in range(0, 192, 64):
            terms = []
            for k in range(start, start + 64, 16):
                dot = sum((F(p) * F(q) for p, q in zip(ea[i, k : k + 16].tolist(), eb[j, k : k + 16].tolist(), strict=True)), F(0))
                scales = [F(float(s)) for s in (sa[i, k // 16], sb[j, k // 16])]
                if all(scales):
                    terms.append((dot * scales[0] * scales[1], sum(max(exponent(s), -6) for s in scales)))
            c = step(c, terms, 35)
        assert F(float(got[i, j])) == c


@proves("blackwell_mxf8f6f4", "oracle")
@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp6_e3m2", "mxfp4"])
def test_scales_enter_as_exponents(name: str) -> None:
    a, b = operand(name, 3, 3), operand(name, 4, 4)
    got = gemm(a, b, "blackwell_mxf8f6f4")
    emin = format_named(a.quantizer.format).emin
    ea, eb, sa, sb = a.element_values(), b.element_values(), a.scale_values(), b.scale_values()
    for i, j in np.ndindex(3, 4):
        c = F(0)
        for start in range(0, 192, 32):
            scales = [F(float(s)) for s in (sa[i, start // 32], sb[j, start // 32])]
            terms = []
            for p, q in zip(ea[i, start : start + 32].tolist(), eb[j, start : start + 32].tolist(), strict=True):
                if p and q:
                    e = max(exponent(F(p)), emin) + max(exponent(F(q)), emin) + sum(exponent(s) for s in scales)
                    terms.append((F(p) * F(q) * scales[0] * scales[1], e))
            c = step(c, terms, 25)
        assert F(float(got[i, j])) == c


@proves("{name}", "oracle")
@pytest.mark.parametrize("name", ["volta_fp16_acc16", "ampere_fp16_acc16"])
def test_binary16_accumulators(name: str) -> None:
    core = ACCUMULATORS[name].model.core
    assert core is not None
    for depth, spread in ((3, 1), (20, 4), (61, 7), (16, 10)):
        a, b = (format_named("binary16").round(RNG.standard_normal((3, depth)) * 2.0 ** RNG.integers(-spread, 3, (3, depth))) for _ in range(2))
        got = gemm(HighPrecision(a.astype(np.float32)), HighPrecision(b.astype(np.float32)), name)
        for i, j in np.ndindex(3, 3):
            c = F(0)
            for start in range(0, depth, core.products):
                pairs = [(F(p), F(q)) for p, q in zip(a[i, start:].tolist(), b[j, start:].tolist(), strict=True)][: core.products]
                terms = [(p * q, max(exponent(p), -14) + max(exponent(q), -14)) for p, q in pairs if p * q]
                terms += [(c, max(exponent(c), -14))] if c else []
                top = max([e for _, e in terms] + [core.clamp])
                c = nearest(sum((cut(v, F(2) ** (top - core.fraction)) for v, _ in terms), F(0)), "binary16")
            assert F(float(got[i, j])) == c


@proves("auto", "oracle")
def test_auto_is_exact_for_codes_and_sequential_for_numbers() -> None:
    a, b = operand("mxfp8_e4m3", 2, 5), operand("mxfp8_e4m3", 3, 6)
    got = gemm(a, b, "auto")
    ea, eb, sa, sb = a.element_values(), b.element_values(), a.scale_values(), b.scale_values()
    for i, j in np.ndindex(2, 3):
        c = F(0)
        for k in range(0, 192, 32):
            dot = sum((F(p) * F(q) for p, q in zip(ea[i, k : k + 32].tolist(), eb[j, k : k + 32].tolist(), strict=True)), F(0))
            scale = nearest(F(float(sa[i, k // 32])) * F(float(sb[j, k // 32])), "float32")
            c = nearest(c + nearest(nearest(dot, "float32") * scale, "float32"), "float32")
        assert F(float(got[i, j])) == c
    x = RNG.standard_normal((2, 40)).astype(np.float32)
    plain = gemm(HighPrecision(x), HighPrecision(x), "auto")
    for i, j in np.ndindex(2, 2):
        c = F(0)
        for p, q in zip(x[i].tolist(), x[j].tolist(), strict=True):
            c = nearest(c + nearest(F(p) * F(q), "float32"), "float32")
        assert F(float(plain[i, j])) == c
