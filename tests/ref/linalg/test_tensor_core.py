"""Matrix units: the definition against fractions, the laws that it implies, and the recorded products of one H200."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from oracle import accumulate as oracle

from lpref.accel.cpu.gemm import gemm as cpu_gemm
from lpref.conformance.proves import proves
from lpref.ref import formats
from lpref.ref.errors import FormatError, SpecError, UnknownNameError
from lpref.ref.linalg import ACCUMULATORS, Accumulate, HighPrecision, TensorCore, accumulator, gemm
from lpref.ref.linalg.tensor_core import Side, chain

UNITS = [name for name, a in ACCUMULATORS.items() if a.model.core and a.model.scales != "aligned" and a.model.core.accumulator == "float32"]
DATA = Path(__file__).parent / "data" / "h200_products.npz"
f32 = np.float32


def draw(rng, shape, name, spread):
    """Numbers of a format over 2^-spread .. 2^spread, some zeros, some equal but for the sign."""
    f = formats.format(name)
    x = rng.uniform(1, 2, shape) * 2.0 ** rng.integers(-spread, spread + 1, shape) * rng.choice([-1, 1], shape)
    x[rng.random(shape) < 0.1] = 0
    x[:, 1::5] = -x[:, : x[:, 1::5].shape[1]]
    return f.round(x)


@proves("{name}", "oracle")
@pytest.mark.parametrize("name", UNITS)
def test_equals_fractions(name: str) -> None:
    model, rng = ACCUMULATORS[name].model, np.random.default_rng(len(name))
    core = model.core
    for spread in (1, 6, 20, 70):
        for ta in core.inputs[:2]:
            tb, depth = core.inputs[-1], int(rng.integers(1, 150))
            a, b = draw(rng, (3, depth), ta, spread), draw(rng, (3, depth), tb, spread)
            emins = formats.format(ta).emin, formats.format(tb).emin
            got = chain(Side.of(a, emins[0]), Side.of(b, emins[1]), core)
            for i in range(3):
                for j in range(3):
                    x, y = ([Fraction(float(v)) for v in r] for r in (a[i], b[j]))
                    assert float(got[i, j]) == oracle.unit_chain(x, y, core, emins)


def test_promotion_is_a_chunk_and_a_float32_sum() -> None:
    rng = np.random.default_rng(1)
    a, b = draw(rng, (4, 300), "e4m3", 6), draw(rng, (4, 300), "e4m3", 6)
    parts = [chain(Side.of(a[:, s : s + 128], -6), Side.of(b[:, s : s + 128], -6), accumulator("hopper_fp8_fast").core) for s in (0, 128, 256)]
    expected = (f32(0) + parts[0] + parts[1]) + parts[2]
    assert gemm(HighPrecision(a.astype(f32)), HighPrecision(b.astype(f32)), "hopper_fp8_promote128").tobytes() == expected.tobytes()


def fp8(a, b, name="hopper_fp8_fast"):
    return gemm(HighPrecision(f32(a)), HighPrecision(f32(b)), name)


def test_fourteen_bits() -> None:
    """2^14 + 1: the hidden bit and 13 fraction bits lose the 1; 2^13 + 1 keeps it."""
    assert fp8([[128, 1]], [[128, 1]]).tolist() == [[2.0**14]]
    assert fp8([[128, 1]], [[64, 1]]).tolist() == [[2.0**13 + 1]]
    ones, b = np.ones((1, 64)), np.ones((1, 64))
    for many in (2**14 + 1, 2**14 + 64):  # a chain of ones stops there: q is 2
        assert cpu_gemm(*[HighPrecision(np.ones((1, many), f32))] * 2, "hopper_fp8_fast").tolist() == [[2.0**14]]
    assert cpu_gemm(*[HighPrecision(np.ones((1, 2**14 + 1), f32))] * 2, "hopper_fp8_promote128").tolist() == [[2.0**14 + 1]]
    b[0, 0] = 448.0
    assert fp8(ones, b)[0, 0] == 448 + 63


def test_permuting_inside_a_step_changes_nothing_and_across_steps_does() -> None:
    rng = np.random.default_rng(2)
    a, b = (np.abs(draw(rng, (8, 256), "e4m3", 5)) for _ in range(2))
    inside = np.concatenate([start + rng.permutation(32) for start in range(0, 256, 32)])
    across = rng.permutation(256)
    plain = fp8(a, b)
    assert fp8(a[:, inside], b[:, inside]).tobytes() == plain.tobytes()
    assert fp8(a[:, across], b[:, across]).tobytes() != plain.tobytes()


@pytest.mark.parametrize(("depth", "shrink"), [(128, -0.0005), (1024, -0.0135), (4096, -0.066)])
def test_one_sided_shrink(depth: int, shrink: float) -> None:
    """Operands from U(0, 1) in E4M3: truncation loses, never gains; the mean is the page's figure, which has so many decimals.

    The mean over products of m independent rows and n independent columns has the variance var(row means)/m + var(column means)/n, and no more
    than that in excess of what those contain; it is beyond 5 such standard errors with a probability of 6e-7.
    """
    rng, f = np.random.default_rng(3), formats.format("e4m3")
    a, b = f.round(rng.random((24, depth))), f.round(rng.random((24, depth)))
    error = (fp8(a, b) - a @ b.T) / (a @ b.T)
    assert error.max() <= 0
    rows, columns = error.mean(1), error.mean(0)
    standard = np.sqrt(rows.var(ddof=1) / rows.size + columns.var(ddof=1) / columns.size)
    decimals = 0.5e-3 if depth == 4096 else 0.5e-4
    assert abs(error.mean() - shrink) <= decimals + 5 * standard


def test_zero_products_do_not_set_the_place() -> None:
    core = TensorCore(products=4, fraction=13, kept=13, inputs=("e5m2",), clamp=-132)
    a, b = Side.of([[0.0, 2.0**-16]], -14), Side.of([[57344.0, 2.0**-16]], -14)
    assert chain(a, b, core).tolist() == [[2.0**-32]]


def test_specials() -> None:
    x = np.array([[np.inf, 0, 1], [np.nan, 1, 1], [1, -0.0, -0.0], [3e38, 3e38, 3e38], [-np.inf, 1, np.inf]])
    x = formats.format("bfloat16").round(x, overflow="to_infinity").astype(f32)
    ones = HighPrecision(np.ones((1, 3), f32))
    got = gemm(HighPrecision(x), ones, "hopper_bf16")[:, 0]
    assert got.tolist()[0] == np.inf
    assert np.isnan(got[[1, 4]]).all()
    assert got.tolist()[2:4] == [1.0, np.inf]
    zero = gemm(HighPrecision(f32([[-0.0, 0.0]])), HighPrecision(f32([[1.0, -1.0]])), "hopper_bf16")
    assert not np.signbit(zero).any()


def test_what_the_unit_cannot_read_is_refused() -> None:
    x = HighPrecision(f32([[1.0, 1.001]]))
    with pytest.raises(FormatError, match="no value of bfloat16"):
        gemm(x, x, "hopper_bf16")
    with pytest.raises(SpecError, match="grade fast"):
        gemm(HighPrecision(f32([[1.0]])), HighPrecision(f32([[1.0]])), "hopper_bf16", numerics="fast")
    with pytest.raises(UnknownNameError, match="hopper_bf16"):
        gemm(x, x, "hoper_bf16")
    with pytest.raises(SpecError, match="core"):
        Accumulate("tensor_core")
    with pytest.raises(SpecError, match="fraction"):
        TensorCore(products=16, fraction=0)


def test_block_scales_of_small_formats_are_embedded_exactly() -> None:
    """NVFP4: element times E4M3 block scale has 6 bits, so bfloat16 holds it; MXFP8's scaled pieces go one by one."""
    from lpref.ref.quantize import QUANTIZERS, quantize

    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((6, 64)).astype(f32), rng.standard_normal((5, 64)).astype(f32)
    a, b = quantize(x, QUANTIZERS["nvfp4"]), quantize(w, QUANTIZERS["nvfp4"])
    values = [q.element_values() * np.repeat(q.scale_values(), 16, 1) for q in (a, b)]
    want = gemm(*(HighPrecision(v.astype(f32)) for v in values), "hopper_bf16") * (a.tensor_scale * b.tensor_scale)
    assert gemm(a, b, "hopper_bf16").tobytes() == want.tobytes()
    a, b = quantize(x, QUANTIZERS["mxfp8_e4m3"]), quantize(w, QUANTIZERS["mxfp8_e4m3"])
    total = np.zeros((6, 5), f32)
    for k in (0, 32):
        part = fp8(a.element_values()[:, k : k + 32], b.element_values()[:, k : k + 32])
        total = total + part * (a.scale_values()[:, k // 32, None] * b.scale_values()[None, :, k // 32])
    assert gemm(a, b, "hopper_fp8_fast").tobytes() == total.tobytes()


def test_block_scaled_units() -> None:
    """mxf4nvf4: sums of 16 products exact, times both scales, cut at the largest scale exponent; mxf8f6f4: scales shift the products."""
    from lpref.ref.quantize import QUANTIZERS, quantize

    rng = np.random.default_rng(6)
    x = (rng.standard_normal((3, 128)) * 2.0 ** rng.integers(-9, 9, (3, 8)).repeat(16, 1)).astype(f32)
    a = quantize(x, QUANTIZERS["nvfp4"])
    e, s = a.element_values(), a.scale_values().astype(float)
    got = gemm(a, a, "blackwell_mxf4nvf4") / (a.tensor_scale * a.tensor_scale)
    for i in range(3):
        for j in range(3):
            c = Fraction(0)
            for start in (0, 64):
                terms = [(c, oracle.exponent(c))] if c else []
                for k in range(start, start + 64, 16):
                    dot = sum(Fraction(float(p)) * Fraction(float(q)) for p, q in zip(e[i, k : k + 16], e[j, k : k + 16], strict=True))
                    scales = [Fraction(float(s[r, k // 16])) for r in (i, j)]
                    terms.append((dot * scales[0] * scales[1], sum(max(oracle.exponent(v), -6) for v in scales)))
                top = max(max(t for _, t in terms), -126)
                total = sum((oracle.cut(v, Fraction(2) ** (top - 35)) for v, _ in terms), Fraction(0))
                c = oracle.cut(total, Fraction(2) ** (oracle.exponent(total) - 23)) if total else total
            assert abs(float(got[i, j]) - float(c)) <= abs(float(c)) * 2.0**-22  # the tensor scales were divided out again
    m = quantize(x, QUANTIZERS["mxfp4"])
    exact = m.dequantize() @ m.dequantize().T
    assert np.abs(gemm(m, m, "blackwell_mxf8f6f4") / exact - 1).max() < 2.0**-18


with np.load(DATA) as _file:
    RECORD = {key: _file[key] for key in _file.files}
ABOUT = json.loads(str(RECORD["about"]))
RECORDED = sorted({c["model"] for c in ABOUT["cases"]})


def recorded(case, side):
    """The operand's values [rows, k], exact in float32."""
    name, start = case[side], case[f"at_{side}"]
    rows = case["rows" if side == "a" else "columns"]
    store = {"e4m3": "u8", "e5m2": "u8", "float32": "u32"}.get(name, "u16")
    codes = RECORD[store][start : start + rows * case["k"]].reshape(rows, case["k"])
    return codes.view(f32) if name == "float32" else formats.format(name).decode(codes).astype(f32)


@proves("{name}", "vectors")
@proves("{name}", "official")
@pytest.mark.parametrize("name", RECORDED)
def test_equals_the_recorded_products_of_an_h200(name: str) -> None:
    """float32 outputs bit for bit; 16-bit outputs are the float32 ones rounded once to nearest even. NaN is 7FFFFFFF."""
    model, count = ACCUMULATORS[name].model, 0
    for case in (c for c in ABOUT["cases"] if c["model"] == name):
        a, b = recorded(case, "a"), recorded(case, "b")
        emins = [formats.format("tf32" if t == "float32" else t).emin for t in (case["a"], case["b"])]
        got = np.zeros((len(a), len(b)), f32)
        with np.errstate(invalid="ignore"):
            for k in range(0, case["k"], model.chunk or case["k"]):
                piece = slice(k, k + (model.chunk or case["k"]))
                part = chain(Side.of(a[:, piece], emins[0]), Side.of(b[:, piece], emins[1]), model.core)
                got = part if model.chunk is None else got + part
        f = formats.format(case["out"])
        codes = f.encode(got, overflow="to_infinity").astype(np.uint32)
        want = RECORD["outputs"][case["at_d"] : case["at_d"] + got.size].reshape(got.shape)
        both = np.isnan(got) & np.isnan(f.decode(want.astype(f.code_dtype)))
        assert np.array_equal(np.where(both, 0, codes), np.where(both, 0, want)), case
        count += got.size
    assert count > 100


def test_the_record_says_where_it_is_from() -> None:
    assert ABOUT["about"]["gpu"] == "NVIDIA H200"
    assert {a.name for a in ACCUMULATORS.values() if a.verified} == set(RECORDED)
    nans = [v for v in RECORD["outputs"].tolist() if v & 0x7F800000 == 0x7F800000 and v & 0x7FFFFF]
    assert set(nans) == {0x7FFFFFFF}
