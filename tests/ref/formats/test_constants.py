"""The constants of the formats, enumerated by decoding every code; and the laws every format obeys."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.errors import FormatError, NonFiniteError, UnknownNameError, WordsError
from lpref.ref.formats import FORMATS, exmy, format
from lpref.ref.rounding import OVERFLOW, ROUNDINGS, Overflow

T = 2.0
TINY = [n for n, f in FORMATS.items() if f.bits <= 16]
SMALL = [n for n, f in FORMATS.items() if f.bits <= 8]

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


@pytest.mark.parametrize(("name", "edge", "below"), [
    ("e4m3", np.nextafter(464, 999), 464.0), ("e5m2", 61440.0, np.nextafter(61440, 0)), ("e4m3fnuz", 248.0, 247.999),
    ("e4m3_ieee", 248.0, 247.999), ("e2m1", 7.0, 6.9999), ("e2m3", 7.75, 7.7499), ("e3m2", 30.0, 29.999),
    ("bfloat16", (2 - T**-8) * T**127, (2 - T**-7.99) * T**127), ("binary16", 65520.0, 65519.999),
])  # fmt: skip
def test_where_overflow_begins(name: str, edge: float, below: float) -> None:
    f = format(name)
    assert f.round(below, overflow="raise") == f.max
    assert f.round(-edge) == -f.max
    with pytest.raises(FormatError):
        f.round(edge, overflow="raise")


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("rule", list(ROUNDINGS))
def test_values_are_fixed_points(name: str, rule: str) -> None:
    f = format(name)
    values, codes = f.table()
    words = np.full(values.shape, 2**16 - 1)
    assert np.array_equal(f.encode(values, rule, "raise", words=words), codes)
    assert np.array_equal(f.decode(codes), values)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("rule", list(ROUNDINGS))
def test_idempotent_and_monotone(name: str, rule: str) -> None:
    f = format(name)
    rng = np.random.default_rng(3)
    x = np.sort(np.concatenate([rng.normal(size=600) * f.max / 2, rng.normal(size=600) * f.min_normal, [0.0]]))
    words = np.full(x.shape, 77)
    y = f.round(x, rule, words=words)
    assert (np.diff(y) >= 0).all()
    assert np.array_equal(f.round(y, rule, words=words), y)


@pytest.mark.parametrize("name", [n for n, *_ in ROWS if format(n).signed])
def test_symmetry_and_code_order(name: str) -> None:
    f = format(name)
    x = np.random.default_rng(4).normal(size=2000) * f.max / 2
    for rule in ("nearest_even", "nearest_away", "toward_zero"):
        assert np.array_equal(f.round(-x, rule), -f.round(x, rule))
    assert np.array_equal(f.round(x, "toward_positive"), -f.round(-x, "toward_negative"))
    positive = f.decode(np.arange(f.max_code + 1))
    assert (np.diff(positive) > 0).all()
    inside = x[np.abs(x) <= f.max]
    ulp = np.ldexp(1.0, np.maximum(np.frexp(np.abs(inside))[1] - 1, f.emin) - f.trailing_bits)
    assert (np.abs(f.round(inside) - inside) <= ulp / 2).all()


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "bfloat16", "e2m3"])
def test_to_odd_with_two_more_bits_is_safe(name: str) -> None:
    """Round to odd at P + 2 bits, then nearest even at P: equal to nearest even at once. Nearest even twice is not."""
    f = format(name)
    wide = exmy("w", f.exponent_bits + 1, f.trailing_bits + 2, specials="none", bias=f.bias + 2 ** (f.exponent_bits - 1),
                title="", standard="", source_level="memory")  # fmt: skip
    # aim at midpoints, where double rounding goes wrong
    mids = (f.table()[0][1:] + f.table()[0][:-1]) / 2
    mids = np.random.default_rng(0).choice(mids, 2000)
    x = mids * (1 + np.random.default_rng(1).choice([-1, 1], 2000) * T**-24)
    same_range = exmy("s", f.exponent_bits, f.trailing_bits + 2, specials="none", bias=f.bias,
                      title="", standard="", source_level="memory")  # fmt: skip
    for middle in (wide, same_range):
        assert np.array_equal(f.encode(middle.round(x, "to_odd")), f.encode(x))
        assert not np.array_equal(f.encode(middle.round(x)), f.encode(x))


POLICIES = [  # format, policy, x, code
    ("e4m3", "ocp_sat", np.inf, 0x7E), ("e4m3", "ocp_sat", -1e9, 0xFE), ("e4m3", "ocp_sat", np.nan, 0x7F),
    ("e5m2", "ocp_sat", np.inf, 0x7B), ("e5m2", "ocp_sat", 1e9, 0x7B), ("e5m2", "ocp_sat", np.nan, 0x7E),
    ("e4m3", "ocp_nonsat", np.inf, 0x7F), ("e4m3", "ocp_nonsat", 465.0, 0x7F), ("e5m2", "ocp_nonsat", -1e9, 0xFC),
    ("e5m2", "ocp_nonsat", -np.inf, 0xFC), ("e4m3fnuz", "ocp_nonsat", 1e9, 0x80), ("e4m3fnuz", "saturate", -1e9, 0xFF),
    ("e4m3fnuz", "saturate", -0.0, 0x00), ("e4m3fnuz", "saturate", -1e-9, 0x00), ("e4m3fnuz", "saturate", np.nan, 0x80),
    ("e4m3fnuz", "onnx_sat", np.inf, 0x80), ("e4m3fnuz", "onnx_sat", 1e9, 0x7F), ("e4m3", "onnx_sat", np.inf, 0x7E),
    ("e4m3", "cuda_nosat", np.inf, 0x7F), ("e5m2", "cuda_nosat", -1e9, 0xFC), ("e8m0", "cuda_nosat", -1.0, 127),
    ("e4m3", "torch", np.inf, 0x7E), ("e5m2", "torch", 1e9, 0x7C), ("e5m2fnuz", "torch", 1e9, 0x80),
    ("e2m1", "ml_dtypes", np.nan, 0x8), ("e2m1", "ml_dtypes", -np.inf, 0xF), ("e2m3", "ml_dtypes", 1e9, 0x1F),
    ("e2m1", "cuda_satfinite", np.nan, 0x7), ("e3m2", "cuda_satfinite", np.nan, 0x1F), ("e4m3", "to_nan", 1e9, 0x7F),
    ("e2m1", Overflow(nan="nan_or_zero"), np.nan, 0x0), ("int8", Overflow(nan="nan_or_zero"), np.nan, 0x0),
    ("int8", "saturate", -np.inf, 0x80), ("int8", "saturate", 1e300, 0x7F), ("uint8", "saturate", -5.0, 0),
    ("uint8", "raise", -0.5, 0), ("nf4", "saturate", 9.0, 15), ("bnb_fp4", "saturate", -9.0, 11),
    ("e8m0", "saturate", np.inf, 0xFE), ("e8m0", "ocp_nonsat", np.inf, 0xFF), ("e8m0", "saturate", np.nan, 0xFF),
    ("e8m0", "saturate", 0.0, 0x00), ("e8m0", "ml_dtypes", 0.0, 0xFF), ("e8m0", "torch", 0.0, 0x00),
    ("e8m0", "torch", -1.0, 127), ("e8m0", "cuda_satfinite", -1.0, 127), ("e8m0", "saturate", -1.0, 0),
    ("e8m0", "ml_dtypes", -np.inf, 0xFF), ("ue4m3", "saturate", -1.0, 0), ("ue4m3", "ml_dtypes", -1.0, 0x7F),
    ("ue4m3", "ml_dtypes", -1e-9, 0), ("binary16", "to_infinity", -7e4, 0xFC00), ("tf32", "to_infinity", 1e300, 0xFF << 10),
]  # fmt: skip


@pytest.mark.parametrize(("name", "policy", "x", "code"), POLICIES)
def test_overflow_policies(name: str, policy: str | Overflow, x: float, code: int) -> None:
    assert format(name).encode(x, overflow=policy) == code


def test_directed_overflow_stops_at_max() -> None:
    f = format("e5m2")
    assert f.decode(f.encode([1e9, -1e9], "toward_zero", "ocp_nonsat")).tolist() == [57344.0, -57344.0]
    assert f.decode(f.encode([1e9, -1e9], "toward_negative", "ocp_nonsat")).tolist() == [57344.0, -np.inf]
    assert f.decode(f.encode([1e9, -1e9], "toward_positive", "ocp_nonsat")).tolist() == [np.inf, -57344.0]
    assert f.decode(f.encode([np.inf], "toward_zero", "ocp_nonsat")).tolist() == [np.inf]


E8M0_MODES = [(T**-127, 0, 0), (1.1 * T**-127, 1, 0), (T**-149, 0, 0), (1.5, 128, 127), (2.0, 128, 128),
              (1.5 * T**127, 254, 254), (T**127, 254, 254)]  # fmt: skip


@pytest.mark.parametrize(("x", "rp", "rz"), E8M0_MODES)
def test_e8m0_hardware_modes(x: float, rp: int, rz: int) -> None:
    f = format("e8m0")
    assert f.encode(x, "toward_positive", "cuda_satfinite") == rp
    assert f.encode(x, "toward_zero", "cuda_satfinite") == rz


def test_e8m0_powers_are_fixed_points_and_code_0_is_subnormal() -> None:
    f = format("e8m0")
    codes = np.arange(255)
    for rule in ("nearest_even", "toward_positive", "toward_zero"):
        assert np.array_equal(f.encode(f.decode(codes), rule), codes)
    assert np.float32(f.decode(0)).view(np.uint32) == 0x00400000
    assert np.float32(1) / np.float32(f.decode(254)) == np.float32(T**-127) != 0
    assert np.float32(1) / np.float32(f.decode(0)) == np.float32(T**127)
    assert np.isnan(f.decode(255))


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


# -- facts that the pages state ----------------------------------------------------------------------------------------
def patterns() -> np.ndarray:
    """float32 bit patterns: 2^12 apart with their neighbours, the ties of bfloat16 and TF32 among them."""
    u = np.arange(0, 2**32, 2**12, dtype=np.int64)
    return (np.concatenate([u - 1, u, u + 1]) & 0xFFFFFFFF).astype(np.uint32)


def test_bfloat16_is_the_integer_addition() -> None:
    u = patterns()
    x = u.view(np.float32)
    wide = u.astype(np.uint64)
    added = ((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16).astype(np.uint16)
    got, nan = format("bfloat16").encode(x, overflow="to_infinity"), np.isnan(x)
    assert np.array_equal(got[~nan], added[~nan])
    assert np.isnan(format("bfloat16").decode(got)).tolist() == nan.tolist()
    assert np.isnan(format("bfloat16").decode(((wide >> 16) | 0x40).astype(np.uint16)[nan])).all()
    assert not np.isnan(format("bfloat16").decode(added[nan])).all()  # the addition alone loses NaN


def test_tf32_conversions_are_integer_operations_and_differ_on_ties_only() -> None:
    f, u = format("tf32"), patterns()
    u = u[np.isfinite(u.view(np.float32))]
    x = u.view(np.float32)
    away = ((u.astype(np.uint64) + 0x1000) >> 13).astype(np.uint32)
    assert np.array_equal(f.encode(x, "nearest_away", "to_infinity"), away)
    assert np.array_equal(f.encode(x, "toward_zero"), u >> 13)
    differ = f.encode(x, "nearest_even", "to_infinity") != away
    assert np.array_equal(
        differ, (u & 0x3FFF) == 0x1000
    )  # the bits behind are 1000...: a tie; the one before is 0: even


def test_sums_of_ones_stall() -> None:
    for name, where in [("bfloat16", 256.0), ("binary16", 2048.0), ("e5m2", 8.0)]:
        f = format(name)
        assert f.round(where + 1) == where
        assert f.round(where - 1 + 1) == where


def test_fnuz_is_the_ocp_pattern_with_one_more_bias() -> None:
    ocp, fnuz = (format(n).decode(np.arange(256)) for n in ("e4m3", "e4m3fnuz"))
    both = np.isfinite(ocp) & np.isfinite(fnuz)
    assert both.sum() == 253
    assert np.array_equal(fnuz[both], ocp[both] / 2)
    assert format("e4m3fnuz").encode([-0.0, -1e-9, 0.0]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "bfloat16", "binary16", "e4m3fnuz"])
def test_just_below_powers_of_two_the_exponent_is_the_lower_one(name: str) -> None:
    """Where floor(log2 x) in floating point gives k for the float next below 2^k."""
    f = format(name)
    for k in range(f.emin + 1, f.emax + 1):
        for below in (np.nextafter(np.float32(T**k), np.float32(0)), np.nextafter(T**k, 0)):
            assert f.round(np.float64(below), "toward_zero") == T**k - T ** (k - 1 - f.trailing_bits)
            assert f.round(np.float64(below)) == T**k


def test_int8_products_that_fit_int32() -> None:
    longest = (2**31 - 1) // 127**2
    assert longest == 133144
    assert (2**31 - 1) // 128**2 == 131071


@pytest.mark.parametrize("policy", ["ocp_sat", "ocp_nonsat"])
def test_fp8_conversion_at_its_edges(policy: str) -> None:
    """Rounding first, then the policy: 464 is a tie of 448 and what would follow, 61440 of 57344 and infinity."""
    e4m3, e5m2 = format("e4m3"), format("e5m2")
    above = np.nextafter(np.float32(464), np.float32(999))
    assert e4m3.encode([464.0, 2.0**-10, 1.5 * 2.0**-10, 449.0], overflow=policy).tolist() == [0x7E, 0, 1, 0x7E]
    assert e4m3.encode([above, -above], overflow=policy).tolist() == ([0x7E, 0xFE] if policy == "ocp_sat" else [0x7F, 0x7F])
    assert e5m2.round([61439.0, 61440.0], overflow=policy).tolist() == [57344.0, 57344.0 if policy == "ocp_sat" else np.inf]
