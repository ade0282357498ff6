"""The constants of the formats, enumerated by decoding every code; their generic names, inputs and errors."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.errors import FormatError, NonFiniteError, UnknownNameError, WordsError
from lpref.ref.formats import FORMATS, exmy, format
from lpref.ref.rounding import OVERFLOW, Overflow

T = 2.0

# name, bits, bias, distinct finite values, max, min normal, min subnormal, NaN codes, infinity codes, -0
ROWS = [
    ("binary16", 16, 15, 63487, 65504.0, T**-14, T**-24, 2046, [0x7C00, 0xFC00], True),
    ("bfloat16", 16, 127, 65279, (2 - T**-7) * T**127, T**-126, T**-133, 254, [0x7F80, 0xFF80], True),
    ("e5m2", 8, 15, 247, 57344.0, T**-14, T**-16, 6, [0x7C, 0xFC], True),
    ("e4m3", 8, 7, 253, 448.0, T**-6, T**-9, [0x7F, 0xFF], [], True),
    ("e4m3_ieee", 8, 7, 239, 240.0, T**-6, T**-9, 14, [0x78, 0xF8], True),
    ("e3m4", 8, 3, 223, 15.5, T**-2, T**-6, 30, [0x70, 0xF0], True),
    ("e4m3fnuz", 8, 8, 255, 240.0, T**-7, T**-10, [0x80], [], False),
    ("e5m2fnuz", 8, 16, 255, 57344.0, T**-15, T**-17, [0x80], [], False),
    ("e4m3b11fnuz", 8, 11, 255, 30.0, T**-10, T**-13, [0x80], [], False),
    ("e8m0", 8, 127, 255, T**127, T**-127, T**-127, [0xFF], [], False),
    ("ue4m3", 7, 7, 127, 448.0, T**-6, T**-9, [0x7F], [], False),
    ("ue5m3", 8, 15, 255, 114688.0, T**-14, T**-17, [0xFF], [], False),
    ("e2m3", 6, 1, 63, 7.5, 1.0, 0.125, [], [], True),
    ("e3m2", 6, 3, 63, 28.0, 0.25, 0.0625, [], [], True),
    ("e2m1", 4, 1, 15, 6.0, 1.0, 0.5, [], [], True),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r[0])
def test_constants_by_enumeration(row: tuple) -> None:
    name, bits, bias, count, high, normal, subnormal, nans, infs, minus_zero = row
    f = format(name)
    v = f.decode(np.arange(2**bits))
    finite = np.isfinite(v)
    assert (f.bits, f.bias) == (bits, bias)
    assert np.unique(v[finite]).size == count == len(f.table()[0])
    assert v[finite].max() == f.max == high
    assert (f.min_normal, f.min_subnormal) == (normal, subnormal)
    assert v[finite & (v > 0)].min() == subnormal
    found = np.flatnonzero(np.isnan(v)).tolist()
    assert found == nans if isinstance(nans, list) else len(found) == nans
    assert np.flatnonzero(np.isinf(v)).tolist() == infs
    assert (np.signbit(v) & (v == 0)).any() == minus_zero
    assert f.has_nan == bool(found)
    assert f.nan_code is None or f.nan_code in found
    assert f.has_inf == bool(infs)
    assert f.min == v[finite].min()
    assert np.frexp(f.max)[1] - 1 == f.emax


def test_wide_constants() -> None:
    f64, f32, tf32 = format("float64"), format("float32"), format("tf32")
    assert (f64.max, f64.min_normal, f64.min_subnormal) == (np.finfo(float).max, T**-1022, T**-1074)
    assert (f32.max, f32.min_normal, f32.min_subnormal) == (float(np.finfo(np.float32).max), T**-126, T**-149)
    assert (tf32.max, tf32.min_subnormal, tf32.bits) == ((2 - T**-10) * T**127, T**-136, 19)
    assert (f32.nan_code, f32.inf_code) == (0x7FC00000, 0x7F800000)
    assert [f.code_dtype for f in (format("e2m1"), format("uint9"), tf32, f64)] == [
        "uint8",
        "uint16",
        "uint32",
        "uint64",
    ]


@pytest.mark.parametrize(("call", "error"), [
    (lambda: format("e4m4"), UnknownNameError), (lambda: format(None), UnknownNameError),
    (lambda: format("e8m0_ieee"), FormatError), (lambda: format("e5m2").encode(1.0, "nearest"), UnknownNameError),
    (lambda: format("e5m2").encode(1.0, overflow="sat"), UnknownNameError),
    (lambda: format("e5m2").encode(1.0, "stochastic"), WordsError),
    (lambda: format("e5m2").encode([1.0], "stochastic", words=np.uint32([1, 2])), WordsError),
    (lambda: format("e5m2").encode([1.0], "stochastic", words=np.float32([1])), WordsError),
    (lambda: format("e5m2").encode([1.0], "stochastic", words=np.uint32([1]), word_bits=33), WordsError),
    (lambda: format("e2m1").encode(np.nan), NonFiniteError), (lambda: format("int8").encode(np.nan), NonFiniteError),
    (lambda: format("e4m3").encode(1e9, overflow="to_infinity"), FormatError),
    (lambda: format("e4m3").encode(np.inf, overflow="raise"), NonFiniteError),
    (lambda: format("e2m1").decode([16]), FormatError), (lambda: format("int8").decode([-1]), FormatError),
    (lambda: format("int8").decode([1.0]), FormatError), (lambda: format("e5m2").encode(["a"]), FormatError),
    (lambda: format("e5m2").encode(np.longdouble(1)), FormatError), (lambda: format("float32").table(), FormatError),
    (lambda: format("float64").encode(np.int64(2**53 + 1)), FormatError), (lambda: Overflow("clip"), UnknownNameError),
    (lambda: format("bfloat16").round(np.float16(65504)), FormatError),
])  # fmt: skip
def test_typed_errors(call: object, error: type) -> None:
    with pytest.raises(error):
        call()


def test_near_names_are_suggested() -> None:
    with pytest.raises(UnknownNameError, match="nearest_even"):
        format("e4m3").encode(1.0, "nearest_evn")
    with pytest.raises(UnknownNameError, match="saturate"):
        format("e4m3").encode(1.0, overflow="satrate")


@pytest.mark.parametrize(
    "name", ["e5m10_ieee", "e4m3_fn", "e3m2_none", "e4m3_fnuz", "e8m7_ieee", "ue4m3_fn", "e2m1_none"]
)
def test_generic_names_equal_the_registered_formats(name: str) -> None:
    registered = {"e5m10_ieee": "binary16", "e4m3_fn": "e4m3", "e3m2_none": "e3m2", "e4m3_fnuz": "e4m3fnuz",
                  "e8m7_ieee": "bfloat16", "ue4m3_fn": "ue4m3", "e2m1_none": "e2m1"}  # fmt: skip
    f, g = format(name), format(registered[name])
    codes = np.arange(2**f.bits)
    assert np.array_equal(f.decode(codes), g.decode(codes), equal_nan=True)
    x = np.random.default_rng(0).normal(size=500).astype(np.float32)
    assert np.array_equal(f.encode(x), g.encode(x))


@pytest.mark.parametrize("subnormals", ["flush", "none"])
def test_formats_without_subnormals(subnormals: str) -> None:
    f = exmy("x", 3, 2, specials="none", subnormals=subnormals, title="", standard="", source_level="memory")
    first = f.min_normal
    assert first == (0.25 if subnormals == "flush" else 0.125 * 1.25)
    assert f.round([first / 2, first * 0.51, -first / 2]).tolist() == [0.0, first, -0.0]
    assert f.round([1e-9, -1e-9], "toward_positive").tolist() == [first, -0.0]
    values, codes = f.table()
    assert np.array_equal(f.encode(values), codes)


def test_inputs_of_every_dtype() -> None:
    import ml_dtypes

    f = format("e4m3")
    want = f.encode(np.array([1.5, -3.0, 0.0]))
    for dtype in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, ">f4"):
        x = np.array([1.5, -3.0, 0.0]).astype(dtype)
        assert np.array_equal(f.encode(x), want)
        assert f.round(x).dtype == x.dtype
    assert f.round(np.int8([3, 17])).tolist() == [3.0, 16.0]
    assert f.encode(np.zeros((0, 3))).shape == (0, 3)
    assert f.encode(1.0).shape == ()


def test_presets_and_pages_are_complete() -> None:
    assert {"saturate", "ocp_sat", "ocp_nonsat", "ml_dtypes", "torch", "cuda_satfinite", "onnx_sat"} <= set(OVERFLOW)
    for name, f in FORMATS.items():
        page = f.page()
        assert f.name == name
        assert "Source:" in page, name
        assert "Pitfalls:" in page, name
        assert name.rstrip("0123456789") in page or "int" in name, name
        assert f.source_level in ("read", "secondary", "memory")
        assert f.name in f._repr_html_()


# name, bits, bias, distinct finite values, max, min normal, min subnormal, infinities
WIDE_ROWS = [
    ("float64", 64, 1023, 2**64 - 2**53 - 1, (2 - T**-52) * T**1023, T**-1022, T**-1074, [0x7FF << 52, 0xFFF << 52]),
    ("float32", 32, 127, 2**32 - 2**24 - 1, (2 - T**-23) * T**127, T**-126, T**-149, [0x7F800000, 0xFF800000]),
    ("tf32", 19, 127, 2**19 - 2**11 - 1, (2 - T**-10) * T**127, T**-126, T**-136, [0xFF << 10, 0x1FF << 10]),
]


@pytest.mark.parametrize("row", WIDE_ROWS, ids=lambda r: r[0])
def test_constants_of_wide_formats(row: tuple) -> None:
    """Too many codes to decode all: the finite ones are those below infinity, in order, so their number is a code."""
    name, bits, bias, count, high, normal, subnormal, infs = row
    f = format(name)
    assert (f.bits, f.bias, f.max, f.min, f.min_normal, f.min_subnormal) == (bits, bias, high, -high, normal, subnormal)
    assert 2 * (f.max_code + 1) - 1 == count
    assert [f.inf_code, f.inf_code + 2 ** (bits - 1)] == infs
    edge = np.array(
        [1, f.max_code, infs[0], infs[0] + 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), infs[1], 2**bits - 1], np.uint64
    )
    v = f.decode(edge)
    assert v[:3].tolist() == [subnormal, high, np.inf]
    assert np.isnan(v[[3, 4, 7]]).all()
    assert v[6] == -np.inf
    assert v[5] == 0
    assert np.signbit(v[5])
    if bits < 20:
        every = f.decode(np.arange(2**bits))
        assert np.unique(every[np.isfinite(every)]).size == count
        assert np.isnan(every).sum() == 2 * (2**f.trailing_bits - 1)
    assert {"float32": 3.4028235e38, "tf32": 3.4011621e38, "float64": high}[name] == pytest.approx(high, rel=1e-7)
    assert format("bfloat16").max == pytest.approx(3.3895314e38, rel=1e-7)


@pytest.mark.parametrize("name", [n for n in FORMATS if n == "hif8"])
def test_constants_of_hif8(name: str) -> None:
    f = format(name)
    v = f.decode(np.arange(256))
    assert (f.bits, len(f.table()[0]), f.max, f.min) == (8, 253, 32768.0, -32768.0)
    assert (f.min_normal, f.min_subnormal) == (T**-15, T**-22)
    assert np.flatnonzero(np.isnan(v)).tolist() == [0x80]
    assert np.flatnonzero(np.isinf(v)).tolist() == [0x6F, 0xEF]
    assert not (np.signbit(v) & (v == 0)).any()
    assert v[0x08] == 1.0


@pytest.mark.parametrize("bits", range(3, 9))
def test_constants_of_p3109(bits: int) -> None:
    """count, bias, NaN, infinities, no -0, code of 1.0: by K, P, signedness and domain."""
    for precision in range(1, bits + 1):
        for signed, extended in [(s, e) for s in (True, False) for e in (True, False)]:
            if precision == bits and signed:
                continue
            f = format(f"p3109_{bits}p{precision}{'s' if signed else 'u'}{'e' if extended else 'f'}")
            v = f.decode(np.arange(2**bits))
            bias = T ** (bits - precision - 1 + (not signed))
            nan = 2 ** (bits - 1) if signed else 2**bits - 1
            infs = ([2 ** (bits - 1) - 1, 2**bits - 1] if signed else [2**bits - 2]) if extended else []
            count = 2**bits - 1 - len(infs)
            assert len(f.table()[0]) == np.unique(v[np.isfinite(v)]).size == count, f.name
            assert f.bias == bias
            assert np.flatnonzero(np.isnan(v)).tolist() == [nan]
            assert np.flatnonzero(np.isinf(v)).tolist() == infs
            assert not (np.signbit(v) & (v == 0)).any()
            assert f.min_subnormal == (T ** (2 - precision - bias) if precision > 1 else T ** (1 - bias)), f.name
            if precision > 1 and f.max >= f.min_normal:
                assert f.min_normal == T ** (1 - bias)
            assert not signed or v[2 ** (bits - 2)] == 1.0


P3109_SAMPLES = [("8p3se", 49152.0, T**-17), ("8p4se", 224.0, T**-10), ("8p5se", 15.0, T**-7), ("8p1se", T**62, T**-63),
                 ("8p3sf", 57344.0, T**-17), ("8p4sf", 240.0, T**-10), ("8p4ue", 53248.0, None), ("8p1uf", T**126, T**-127),
                 ("6p3sf", 14.0, None), ("4p2sf", 3.0, 0.25)]  # fmt: skip


@pytest.mark.parametrize(("name", "high", "low"), P3109_SAMPLES)
def test_samples_of_p3109(name: str, high: float, low: float | None) -> None:
    f = format(f"p3109_{name}")
    assert f.max == high
    assert low is None or f.min_subnormal == low


@pytest.mark.parametrize("name", [n for n in FORMATS if n.startswith("posit")])
def test_constants_of_posits(name: str) -> None:
    n, es = (int(v) for v in name.removeprefix("posit").split("_"))
    f = format(name)
    v = f.decode(np.arange(2**n))
    high = T ** ((n - 2) * 2**es)
    assert len(f.table()[0]) == 2**n - 1
    assert (f.max, f.min, f.min_subnormal) == (high, -high, 1 / high)
    assert np.flatnonzero(~np.isfinite(v)).tolist() == [2 ** (n - 1)]
    assert np.isnan(v[2 ** (n - 1)])
    assert not (np.signbit(v) & (v == 0)).any()


def test_e2m1_in_full() -> None:
    f = format("e2m1")
    assert f.decode(np.arange(8)).tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert f.round([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 7]).tolist() == [0, 1, 1, 2, 2, 4, 4, 6]
    assert f.round([0.75, 1.75, 3.5], "nearest_toward_zero").tolist() == [0.5, 1.5, 3.0]
