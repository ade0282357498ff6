"""Every registered quantizer whose scale is a formula of amax (or given, or absent) against fractions: real block sizes, several blocks.

The rules that need more (sums, histories, searches, zero points) have their oracle tests in tests/ref/scaling. The scale is checked in
every block; of its elements, those that a fixed choice picks.
"""

from __future__ import annotations

from fractions import Fraction as F
from functools import cache

import numpy as np
import pytest
from oracle import rounding, table
from oracle import scaling as oracle

from lpref.conformance.proves import proves
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import QUANTIZERS, Quantizer, quantize

MODES = ("floor", "ceil", "rceil", "even")
BY_AMAX = [
    n for n, q in QUANTIZERS.items()
    if (q.scale.rule == "amax" and q.scale.format in ("float32", "e8m0")) or (q.scale.rule == "te" and q.scale.history == "current")
    or (q.scale.rule == "mx" and q.scale.mode in MODES)
]  # fmt: skip
TWO_LEVELS = [n for n, q in QUANTIZERS.items() if q.scale.rule == "nvfp4" and q.scale.apply == "te_nvfp4" and q.scale.select == "none"]
CASTS = [n for n, q in QUANTIZERS.items() if q.scale.rule == "none"]
RULES = {"amax": "fp8_block128", "te": "fp8_row", "mx": "mxfp4", "nvfp4": "nvfp4", "learned": "int4_learned", "none": "bf16"}


@cache
def made(name: str) -> table.Table:
    if name.startswith("dynamic8"):
        return table.book(name, format_named(name).tie, [F(v) for v in format_named(name).decode(np.arange(256)).tolist()])
    return table.make(name)


def matrix(q: Quantizer, seed: int = 0) -> np.ndarray:
    """Two by two blocks of sizes of their own; one block of zeros, one near the bottom of float32."""
    rows, columns = q.blocks.other or 8, q.blocks.k or 24
    rng = np.random.default_rng(seed)
    size = np.kron(2.0 ** rng.integers(-9, 9, (2, 2)), np.ones((rows, columns)))
    x = (rng.standard_normal((2 * rows, 2 * columns)) * size).astype(np.float32)
    x[rng.random(x.shape) < 0.05] = 0
    x[rng.random(x.shape) < 0.05] *= -0.0
    if None not in (q.blocks.other, q.blocks.k):
        x[:rows, columns:] = 0
        x[rows:, columns:] *= np.float32(2.0**-130)
    return x


def code_of(q: Quantizer, scaled: F | None, x: float) -> int:
    """nearest_even and saturate; None is infinite; narrow integers are clamped first."""
    tab, fmt = made(q.format), format_named(q.format)
    u = F(2) ** 130 * (-1 if x < 0 else 1) if scaled is None else scaled
    if q.narrow and q.scale.rule != "none" and fmt.signed and fmt.min < -fmt.max:
        u = max(-F(fmt.max), min(F(fmt.max), u))
    if u == 0 and np.signbit(x) and tab.minus_zero is not None:
        return tab.minus_zero
    code, beyond = rounding.finite_code(tab, rounding.place(tab, u), q.rounding)
    assert not beyond or q.overflow == "saturate", "choose smaller inputs"
    return code


def picked(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """At most 80 places of a block, the corners among them."""
    count = shape[0] * shape[1]
    return [divmod(i, shape[1]) for i in sorted({0, count - 1, *range(0, count, max(1, count // 77))})]


def element_target(q: Quantizer) -> F:
    """What amax is mapped to."""
    fmt = format_named(q.format)
    return F(fmt.max) if q.scale.target is None else F(q.scale.target)


def scaled_block(q: Quantizer, block: np.ndarray, places: list[tuple[int, int]]) -> tuple[F, list[F | None]]:
    """(decode scale, the picked elements after scaling) of one block by the oracle."""
    s, largest = q.scale, max(F(float(v)) for v in np.abs(block).ravel())
    values = [largest, *(F(float(block[p])) for p in places)]  # the scale depends on the largest only
    eps = F(float(np.float32(s.eps)))
    if s.rule == "te":
        scale, scaled = oracle.te_block(values, element_target(q), eps=eps, pow2=s.pow2 == "down", margin=s.margin)
    elif s.rule == "mx":
        fmt = format_named(q.format)
        trailing = 6 if q.name == "mxint8" else (fmt.precision or 1) - 1
        e = oracle.mx_exponent(largest, s.mode, element_target(q), trailing)
        scale, scaled = F(2) ** e, [oracle.fl32(v / F(2) ** e) for v in values]
    else:
        scale, scaled = oracle.amax_block(values, element_target(q), eps=eps, pow2=s.pow2, apply=s.apply)
    if s.multiplier != 1:
        scaled = [None if u is None else oracle.fl32(u * F(s.multiplier)) for u in scaled]
    return scale, scaled[1:]


def check_blocks(q: Quantizer, x: np.ndarray) -> None:
    t = quantize(x, q)
    (rows, columns), codes, scales = t.block, t.unpacked(), t.scale_values()
    for i, j in np.ndindex(scales.shape):
        block = x[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        places = picked(block.shape)
        scale, scaled = scaled_block(q, block, places)
        assert F(float(scales[i, j])) == scale
        want = [code_of(q, u, float(block[p])) for u, p in zip(scaled, places, strict=True)]
        got = [int(codes[i * rows + r, j * columns + c]) for r, c in places]
        assert got == want, (i, j)
    assert F(float(t.tensor_scale)) == oracle.fl32(1 / F(q.scale.multiplier))


@proves("quantizer:{name}", "oracle")
@pytest.mark.parametrize("name", BY_AMAX)
def test_by_amax(name: str) -> None:
    check_blocks(QUANTIZERS[name], matrix(QUANTIZERS[name]))


@proves("quantizer:{name}", "oracle")
@pytest.mark.parametrize("name", TWO_LEVELS)
def test_two_levels(name: str) -> None:
    q = QUANTIZERS[name]
    x = matrix(q)
    t = quantize(x, q)
    (rows, columns), codes = t.block, t.unpacked()
    s = oracle.nvfp4_global(max(F(float(v)) for v in np.abs(x).ravel()))
    positive = [v for c in range(127) if isinstance(v := made("e4m3").codes[c], F)]
    for i, j in np.ndindex(t.scale_values().shape):
        block = x[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        d = oracle.nvfp4_block_scale(max(F(float(v)) for v in np.abs(block).ravel()), s, positive)
        factor = oracle.nvfp4_factor(d, s)
        assert F(float(t.scale_values()[i, j])) == d
        for r, c in picked(block.shape):
            scaled = oracle.fl32(F(float(block[r, c])) * factor)
            assert int(codes[i * rows + r, j * columns + c]) == code_of(q, scaled, float(block[r, c]))


@proves("quantizer:{name}", "oracle")
@pytest.mark.parametrize("name", CASTS)
def test_casts(name: str) -> None:
    q = QUANTIZERS[name]
    x = matrix(q)
    codes = quantize(x, q).unpacked()
    assert codes.ravel().tolist() == [code_of(q, F(float(v)), float(v)) for v in x.ravel()]


@proves("quantizer:int4_learned", "oracle")
@pytest.mark.parametrize("step", [0.3, 2.0**-7])
def test_learned(step: float) -> None:
    q = QUANTIZERS["int4_learned"]
    x = np.random.default_rng(1).standard_normal((8, 16)).astype(np.float32)
    t = quantize(x, q, state={"scale": np.float32(step)})
    scaled = [oracle.fl32(F(float(v)) / F(float(np.float32(step)))) for v in x.ravel()]
    want = [code_of(q, max(F(-8), min(F(7), u or F(0))), float(v)) for u, v in zip(scaled, x.ravel(), strict=True)]
    assert t.unpacked().ravel().tolist() == want


@proves("scale-rule:{rule}", "oracle")
@pytest.mark.parametrize("rule", RULES)
def test_each_rule_has_such_a_quantizer(rule: str) -> None:
    """The rule by the quantizer that stands for it; where the numbers are free, on others than above."""
    q = QUANTIZERS[RULES[rule]]
    if rule in ("amax", "te", "mx"):
        check_blocks(q, matrix(q, seed=3))
    else:
        {"nvfp4": test_two_levels, "none": test_casts}.get(rule, lambda name: test_learned(0.7))(RULES[rule])
