"""ml_dtypes, gfloat and torch on float32 samples: equal bits, and the known differences asserted one by one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from lpref.ref.errors import FormatError
from lpref.ref.formats import format

pytestmark = pytest.mark.peer
ML = {"float8_e4m3fn": "e4m3", "float8_e5m2": "e5m2", "float8_e4m3": "e4m3_ieee", "float8_e3m4": "e3m4",
      "float8_e4m3fnuz": "e4m3fnuz", "float8_e5m2fnuz": "e5m2fnuz", "float8_e4m3b11fnuz": "e4m3b11fnuz",
      "float8_e8m0fnu": "e8m0", "float6_e2m3fn": "e2m3", "float6_e3m2fn": "e3m2", "float4_e2m1fn": "e2m1",
      "bfloat16": "bfloat16"}  # fmt: skip


@cache
def samples() -> np.ndarray:
    """Every 2^15-th float32 bit pattern and its two neighbours, every special; 393 k values."""
    u = np.arange(0, 2**32, 2**15, dtype=np.uint64)
    u = np.concatenate([u - 1, u, u + 1]) & 0xFFFFFFFF
    return u.astype(np.uint32).view(np.float32)


def same_values(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Equal, NaN as a class, -0 and +0 apart."""
    return ((got == want) & (np.signbit(got) == np.signbit(want))) | (np.isnan(got) & np.isnan(want))


@pytest.mark.parametrize("theirs", ML)
def test_ml_dtypes_casts(theirs: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype, f, x = np.dtype(getattr(ml_dtypes, theirs)), format(ML[theirs]), samples()
    assert format(dtype) is f
    x = x[~e8m0_known(x)] if theirs == "float8_e8m0fnu" else x
    want, got, nan = x.astype(dtype).view(f"u{dtype.itemsize}"), f.encode(x, overflow="ml_dtypes"), np.isnan(x)
    assert np.array_equal(got[~nan], want[~nan]) if f.specials != "fn" or not f.signed else same_values(
        f.decode(got[~nan]), f.decode(want[~nan])
    ).all()  # fmt: skip
    assert same_values(f.decode(got[nan]), f.decode(want[nan])).all() or f.specials == "none"
    if f.specials == "none":
        assert set(got[nan].tolist()) == {1 << (f.bits - 1)}  # known: theirs is -0 for +NaN and +0 for -NaN
        assert set(want[nan & ~np.signbit(x)].tolist()) == {1 << (f.bits - 1)}
    codes = np.arange(2**f.bits, dtype=f.code_dtype)
    assert same_values(f.decode(codes), codes.view(dtype).astype(np.float64)).all()


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "uint16", "int2", "uint2", "int4", "uint4"])
def test_integers_of_numpy_and_ml_dtypes(name: str) -> None:
    f = format(name)
    dtype = np.dtype(name if f.bits >= 8 else getattr(pytest.importorskip("ml_dtypes"), name))
    codes = np.arange(2**f.bits, dtype=f.code_dtype)
    assert np.array_equal(f.decode(codes), codes.view(dtype).astype(np.float64))


def test_ml_dtypes_rounds_float64_twice() -> None:
    """Known: float64 sources pass through float32. Here they do not."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.float64(1 + 2.0**-4 + 2.0**-40)  # just above the tie between 1 and 1.125
    assert float(x.astype(ml_dtypes.float8_e4m3fn)) == 1.0
    assert format("e4m3").round(x) == 1.125


def e8m0_known(x: np.ndarray) -> np.ndarray:
    """Known: ml_dtypes and torch send 2^-127 < x < 1.5 2^-127 to 2^-126, though 2^-127 is nearer."""
    return (np.abs(x) > 2.0**-127) & (np.abs(x) < 1.5 * 2.0**-127)


def test_e8m0_known_difference_below_the_smallest_normal() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.float32([1.1 * 2.0**-127, 1.49 * 2.0**-127])
    assert x.astype(ml_dtypes.float8_e8m0fnu).view(np.uint8).tolist() == [1, 1]
    assert format("e8m0").encode(x).tolist() == [0, 0]


GF = {"e4m3": "format_info_ocp_e4m3", "e5m2": "format_info_ocp_e5m2", "e2m1": "format_info_ocp_e2m1",
      "e2m3": "format_info_ocp_e2m3", "e3m2": "format_info_ocp_e3m2", "bfloat16": "format_info_bfloat16",
      "binary16": "format_info_binary16"}  # fmt: skip
MODES = {"nearest_even": "TiesToEven", "nearest_away": "TiesToAway", "toward_zero": "TowardZero",
         "toward_positive": "TowardPositive", "toward_negative": "TowardNegative"}  # fmt: skip
SR = {"stochastic": "StochasticFastest", "stochastic_b": "StochasticFast", "stochastic_c": "Stochastic"}


def finite_samples(f: object, near: bool) -> np.ndarray:
    x = samples()[::5]
    x = x[np.isfinite(x)].astype(np.float64)
    return x[np.abs(x) <= f.max] if near else x


@pytest.mark.parametrize("rule", MODES)
@pytest.mark.parametrize(("name", "sat"), [(n, s) for n in GF for s in (True, False) if s or format(n).has_nan])
def test_gfloat_deterministic(name: str, rule: str, sat: bool) -> None:
    gfloat = pytest.importorskip("gfloat")
    from gfloat import formats

    f, fi = format(name), getattr(formats, GF[name])
    x = finite_samples(f, near=False)
    want = gfloat.round_ndarray(fi, x, gfloat.RoundMode[MODES[rule]], sat)
    got = f.round(x, rule, "saturate" if sat else "ocp_nonsat")
    wrong = ~same_values(got, want)
    assert not wrong.any(), [(x[i].hex(), got[i], want[i]) for i in np.flatnonzero(wrong)[:5]]


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "e3m2", "bfloat16"])
@pytest.mark.parametrize("rule", SR)
def test_gfloat_stochastic_given_the_same_bits(name: str, rule: str) -> None:
    gfloat = pytest.importorskip("gfloat")
    from gfloat import formats

    f, fi, r = format(name), getattr(formats, GF[name]), 8
    x = finite_samples(f, near=True)
    words = np.random.default_rng(0).integers(0, 2**r, x.shape)
    want = gfloat.round_ndarray(fi, x, gfloat.RoundMode[SR[rule]], True, words, r)
    got = f.round(x, rule, words=words, word_bits=r)
    wrong = ~same_values(got, want)
    assert not wrong.any(), [(x[i].hex(), got[i], want[i]) for i in np.flatnonzero(wrong)[:5]]


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
                                  "bfloat16", "float16"])  # fmt: skip
def test_torch_casts(name: str) -> None:
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, name)
    f, x = format(dtype), samples()
    x = x[~e8m0_known(x)] if name == "float8_e8m0fnu" else x
    want = torch.from_numpy(x).to(dtype).to(torch.float64).numpy()
    got = f.decode(f.encode(x, overflow="torch"))
    if name == "float8_e4m3fn" and tuple(map(int, torch.__version__.split("+")[0].split(".")[:2])) < (2, 13):
        got = f.decode(f.encode(x, overflow="ocp_nonsat"))  # known: NaN on overflow before 2.13
    wrong = ~same_values(got, want)
    assert not wrong.any(), [(float(x[i]).hex(), got[i], want[i]) for i in np.flatnonzero(wrong)[:5]]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_tensors_of_torch_come_back_as_tensors(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    x = torch.linspace(-9, 9, 101, dtype=getattr(torch, dtype), requires_grad=True)
    plain = x.detach().double().numpy()
    f = format("e2m1")
    codes, rounded = f.encode(x), f.round(x)
    assert isinstance(codes, torch.Tensor)
    assert codes.tolist() == f.encode(plain).tolist()
    assert rounded.dtype == x.dtype
    assert rounded.tolist() == f.round(plain).tolist()
    values = f.decode(codes)
    assert isinstance(values, torch.Tensor)
    assert values.tolist() == rounded.tolist()


def test_what_bfloat16_cannot_hold_is_an_error_for_tensors_too() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(FormatError, match=r"is not a value of torch.bfloat16"):
        format("int16").round(torch.tensor([4e4], dtype=torch.bfloat16))
