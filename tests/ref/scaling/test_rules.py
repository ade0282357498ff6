"""Every scale rule against the Fraction oracle, block by block. A new rule gets its oracle in tests/oracle/scaling.py and a case here."""

from __future__ import annotations

from fractions import Fraction as F
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import rounding, table
from oracle import scaling as oracle

from lpref.conformance.proves import proves
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import QTensor, lookup, quantize

ELEMENTS = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(-8, 8, width=32),
    st.integers(-126, 127).map(lambda e: float(2.0**e)),
    st.integers(-126, 127).map(lambda e: float(np.nextafter(np.float32(2.0**e), np.float32(0)))),
    st.integers(0, 40).map(lambda n: n * 2.0**-149),
    st.just(0.0),
)


made = cache(table.make)


@st.composite
def blocks(draw: st.DrawFn, size: int = 8) -> np.ndarray:
    """One row of one block, and a common shift of its exponents."""
    values = np.array(draw(st.lists(ELEMENTS, min_size=size, max_size=size)), np.float32)
    return values.reshape(1, size)


def nearest_code(tab: table.Table, u: F | None, x: float) -> int:
    """Code of a scaled element under nearest_even and saturation; None is infinite."""
    u = F(2) ** 130 * (-1 if x < 0 else 1) if u is None else u
    if u == 0 and np.signbit(x) and tab.minus_zero is not None:
        return tab.minus_zero
    return rounding.finite_code(tab, rounding.place(tab, u), "nearest_even")[0]


def check(t: QTensor, tab: table.Table, x: np.ndarray, scale: F, scaled: list[F | None], limit: int | None = None) -> None:
    assert F(float(t.scale_values()[0, 0])) == scale
    if limit is not None:
        scaled = [F(limit) * (-1 if v < 0 else 1) if u is None else max(-F(limit), min(F(limit), u)) for u, v in zip(scaled, x[0], strict=True)]
    want = [nearest_code(tab, u, float(v)) for u, v in zip(scaled, x[0], strict=True)]
    assert t.unpacked()[0].tolist() == want


@pytest.mark.parametrize("apply", ["divide", "mul_inverse"])
@pytest.mark.parametrize(("name", "target"), [("e4m3", 448), ("int8", 127), ("nf4", 1)])
@settings(max_examples=40)
@given(x=blocks(), pow2=st.sampled_from(["none", "up", "down", "nearest"]), eps=st.sampled_from([0.0, 1e-4]))
def test_amax(name: str, target: int, apply: str, x: np.ndarray, pow2: str, eps: float) -> None:
    q = lookup(f"fp8_tile1x128:k=8:format={name}:pow2={pow2}:eps={eps}:apply={apply}")
    scale, scaled = oracle.amax_block([F(float(v)) for v in x[0]], F(target), eps=F(float(np.float32(eps))), pow2=pow2, apply=apply)
    check(quantize(x, q), made(name), x, scale, scaled, limit=127 if name == "int8" else None)


@settings(max_examples=40)
@given(x=blocks(), pow2=st.booleans(), eps=st.sampled_from([0.0, 1e-12]), margin=st.integers(0, 2), name=st.sampled_from(["e4m3", "e5m2"]))
def test_te_current(x: np.ndarray, pow2: bool, eps: float, margin: int, name: str) -> None:
    q = lookup(f"fp8_tensor:format={name}:pow2={'down' if pow2 else 'none'}:eps={eps}:margin={margin}")
    target = F(format_named(name).max)
    scale, scaled = oracle.te_block([F(float(v)) for v in x[0]], target, eps=F(float(np.float32(eps))), pow2=pow2, margin=margin)
    check(quantize(x, q), made(name), x, scale, scaled)


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4"])
@settings(max_examples=40)
@given(x=blocks(), mode=st.sampled_from(["floor", "ceil", "rceil", "even"]))
def test_mx(name: str, x: np.ndarray, mode: str) -> None:
    q = lookup(f"{name}:k=8:scale={mode}")
    fmt = format_named(q.format)
    exact = [F(float(v)) for v in x[0]]
    e = oracle.mx_exponent(max(map(abs, exact)), mode, F(fmt.max), (fmt.precision or 1) - 1)
    t = quantize(x, q)
    assert t.scales[0].tolist() == [[e + 127]]
    check(t, made(q.format), x, F(2) ** e, [oracle.fl32(v / F(2) ** e) for v in exact])


@settings(max_examples=40)
@given(x=blocks(), mode=st.sampled_from(["floor", "ceil", "rceil", "even"]))
def test_mxint8(x: np.ndarray, mode: str) -> None:
    exact = [F(float(v)) for v in x[0]]
    e = oracle.mx_exponent(max(map(abs, exact)), mode, F(127, 64), 6)
    t = quantize(x, lookup(f"mxint8:k=8:scale={mode}"))
    scaled = [None if (u := oracle.fl32(v / F(2) ** e)) is None else oracle.fl32(u * 64) for v in exact]
    check(t, made("int8"), x, F(2) ** e, scaled, limit=127)
    assert t.tensor_scale == 1 / 64


@settings(max_examples=40)
@given(x=blocks(16))
def test_nvfp4(x: np.ndarray) -> None:
    x = np.concatenate([x, x[:, ::-1] / 16], axis=1).astype(np.float32)
    t = quantize(x, "nvfp4")
    exact = [F(float(v)) for v in x[0]]
    amax = max(map(abs, exact))
    s = oracle.nvfp4_global(amax)
    positive = [v for c in range(127) if isinstance(v := made("e4m3").codes[c], F)]
    for b in range(2):
        block = exact[16 * b : 16 * b + 16]
        d = oracle.nvfp4_block_scale(max(map(abs, block)), s, positive)
        factor = oracle.nvfp4_factor(d, s)
        assert F(float(t.scale_values()[0, b])) == d
        want = [nearest_code(made("e2m1"), oracle.fl32(v * factor), float(x[0, 16 * b + i])) for i, v in enumerate(block)]
        assert t.unpacked()[0, 16 * b : 16 * b + 16].tolist() == want
    assert F(float(t.tensor_scale)) == oracle.fl32(amax / 2688)


@settings(max_examples=40)
@given(x=blocks(6))
def test_absmean(x: np.ndarray) -> None:
    x = np.clip(x, -1e30, 1e30)
    a = [F(float(abs(v))) for v in x[0]] + [F(0)] * 2
    pair = lambda p, q: oracle.fl32(p + q)  # noqa: E731  lanes 4 apart, 2 apart, 1 apart
    four = [pair(a[i], a[i + 4]) for i in range(4)]
    total = pair(pair(four[0], four[2]), pair(four[1], four[3]))
    s = max(oracle.fl32(total / 6), F(float(np.float32(1e-5))))
    r = oracle.fl32(1 / s)
    scaled = [oracle.fl32(F(float(v)) * r) for v in x[0]]
    check(quantize(x, "ternary_absmean"), made("int2"), x, s, scaled, limit=1)


@proves("scale-rule:constant", "oracle")
@settings(max_examples=40)
@given(x=blocks(), step=st.floats(2.0**-20, 2.0**40, width=32))
def test_learned_and_constant(x: np.ndarray, step: float) -> None:
    scaled = [oracle.fl32(F(float(v)) / F(step)) for v in x[0]]
    scaled = [u if u is None else max(F(-8), min(F(7), u)) for u in scaled]
    t = quantize(x, "int4_learned", state={"scale": step})
    check(t, made("int4"), x, F(step), scaled)
    same = quantize(x, lookup(f"int4_learned:rule=constant:value={step!r}"))
    assert same.codes.tolist() == t.codes.tolist()
