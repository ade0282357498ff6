"""The casts against their definition: every format x rounding x policy, on the inputs that matter; sizes; threads."""

from __future__ import annotations

import re

import numpy as np
import pytest
from device_cases import inputs, special

from lpref.accel.cast_plan import plan
from lpref.accel.cpu import cast, threads
from lpref.conformance.proves import proves
from lpref.ref.errors import FormatError, NonFiniteError, ShapeError, WordsError
from lpref.ref.formats import FORMATS, format
from lpref.ref.random import WordAddress
from lpref.ref.rounding import OVERFLOW, ROUNDINGS, default_word_bits

NAMES = [n for n in FORMATS if n != "float64"]
DETERMINISTIC = [n for n, r in ROUNDINGS.items() if not r.stochastic]
STOCHASTIC = [n for n, r in ROUNDINGS.items() if r.stochastic]
ADDRESS = WordAddress(2**40 + 5, 7, "layer/fprop/a/round")


def same(got: np.ndarray, want: np.ndarray, x: np.ndarray) -> None:
    wrong = np.flatnonzero(got != want)
    assert got.dtype == want.dtype
    assert wrong.size == 0, [
        (x[i].hex() if hasattr(x[i], "hex") else float(x[i]).hex(), got[i], want[i]) for i in wrong[:5]
    ]


@proves("{name}", "cpu")
@proves("{rule}", "cpu")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", DETERMINISTIC)
def test_every_format_and_rounding(name: str, rule: str) -> None:
    f, x = format(name), inputs(name)
    if f.has_nan:
        x = np.concatenate([x, special()])
    same(cast.encode(x, name, rule), f.encode(x, rule), x)


@proves("{policy}", "cpu")
@pytest.mark.parametrize(
    "name", ["e4m3", "e5m2", "e4m3fnuz", "e2m1", "ue4m3", "e8m0", "int8", "uint8", "nf4", "bfloat16"]
)
@pytest.mark.parametrize("policy", OVERFLOW)
@pytest.mark.parametrize("rule", ["nearest_even", "toward_zero", "toward_positive", "to_odd"])
def test_every_policy_or_its_error(name: str, policy: str, rule: str) -> None:
    f = format(name)
    finite, x = inputs(name), np.concatenate([inputs(name), special()])
    inside = np.abs(finite)[np.abs(finite) <= f.max]
    for data in (x, x[~np.isnan(x)], finite, inside, inside[inside > 0]):
        try:
            want = f.encode(data, rule, policy)
        except (FormatError, NonFiniteError) as error:
            with pytest.raises(type(error), match=re.escape(str(error))):
                cast.encode(data, name, rule, policy)
        else:
            same(cast.encode(data, name, rule, policy), want, data)


@proves("{rule}", "cpu")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", STOCHASTIC)
def test_stochastic_with_given_words(name: str, rule: str) -> None:
    f, x = format(name), inputs(name)
    rng = np.random.default_rng(2)
    for r in (1, 5, 8, 16, 31, 32):
        words = rng.integers(0, 2**32, x.shape, dtype=np.uint32)
        words[::7] = 2**32 - 1
        words[::11] = 0
        words[3::7] = 2**r - 1 if r == 32 else (2**32 - 1) >> (32 - r)
        same(cast.encode(x, name, rule, words=words, word_bits=r), f.encode(x, rule, words=words, word_bits=r), x)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", STOCHASTIC)
def test_stochastic_with_words_from_their_address(name: str, rule: str) -> None:
    f = format(name)
    x = np.resize(inputs(name), 1237)
    for start in (0, 3, 2**33 + 1):
        words = ADDRESS.bits(x.size, default_word_bits(f), start)
        same(cast.encode(x, name, rule, words=ADDRESS, start=start), f.encode(x, rule, words=words), x)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 63, 1023, 1025, threads.GRAIN * 2 + 1, cast.CHUNK * 2 + 5])
@pytest.mark.parametrize("rule", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("name", ["e4m3", "e2m1", "bfloat16", "int8", "nf4", "dynamic8"])
def test_sizes(name: str, rule: str, size: int) -> None:
    x = np.random.default_rng(3).normal(size=size).astype(np.float32)
    f = format(name)
    words = ADDRESS.bits(size, default_word_bits(f))
    if rule == "stochastic" and size > 3000 and name in ("nf4", "dynamic8"):
        size = 3000
    x, words = x[:size], words[:size]
    given = ADDRESS if rule == "stochastic" else None
    same(cast.encode(x, name, rule, words=given), f.encode(x, rule, words=words), x)
    same(cast.qdq(x, name, rule, words=given), f.round(x, rule, words=words), x)


BEYOND_FLOAT32 = ["takum8_linear", "takum16_linear", "takum8"]


@pytest.mark.parametrize("name", BEYOND_FLOAT32)
def test_formats_beyond_float32(name: str) -> None:
    """Codes are exact; decode to float32 is refused, and values that float32 does not hold are an error as in the definition."""
    f, x = format(name), inputs(name)
    with pytest.raises(FormatError):
        cast.decode(f.encode(x), name)
    inside = x[(np.abs(x) < 1e30) & ((np.abs(x) > 1e-30) | (x == 0))]
    for rule in ("nearest_even", "toward_negative"):
        assert np.array_equal(cast.qdq(inside, name, rule), f.round(inside, rule))
    if name == "takum16_linear":  # 2^128 is the nearest value
        for function in (f.round, lambda x: cast.qdq(x, name)):
            with pytest.raises(FormatError):
                function(np.float32([3.4028234e38]))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in BEYOND_FLOAT32])
def test_decode_and_qdq(name: str) -> None:
    f = format(name)
    codes = np.arange(2 ** min(f.bits, 16)).astype(f.code_dtype) << f.code_dtype.type(max(0, f.bits - 16))
    got, want = cast.decode(codes, name), f.decode(codes).astype(np.float32)
    assert np.array_equal(got, want, equal_nan=True)
    assert np.array_equal(np.signbit(got), np.signbit(want) & ~np.isnan(want) | np.signbit(got) & np.isnan(want))
    x = inputs(name)
    for rule in ("nearest_even", "toward_negative"):
        got, want = cast.qdq(x, name, rule), f.round(x, rule)
        assert np.array_equal(got.view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("name", ["e4m3", "bfloat16"])
def test_arrays_beyond_the_caches(name: str) -> None:
    """Both threads get more than `FAR` elements, and a ragged end."""
    from lpref.accel.cpu import cast_kernels

    x = np.resize(np.random.default_rng(8).normal(size=4099).astype(np.float32), 2 * cast_kernels.FAR + 3077)
    want = np.resize(format(name).encode(x[:4099]), x.size)
    assert np.array_equal(cast.encode(x, name), want)


@pytest.mark.parametrize("name", ["bfloat16", "binary16", "tf32", "float32", "e4m3", "e5m2"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_op_cast_is_the_reference_backends(name: str, dtype: type) -> None:
    from lpref.accel import backend

    x = np.concatenate([inputs(name), special()]).astype(dtype)
    got, want = backend("cpu").cast(x, name), backend("reference").cast(x, name)
    assert got.dtype == want.dtype == dtype
    assert np.array_equal(got, want, equal_nan=True)
    assert np.array_equal(np.signbit(got), np.signbit(want))


def test_shapes_and_layouts() -> None:
    x = np.random.default_rng(4).normal(size=(6, 10)).astype(np.float32)
    for view in (x, x.T, x[::2, 1:], x[None], x[0, 0], np.asfortranarray(x)):
        assert np.array_equal(cast.encode(view, "e4m3"), format("e4m3").encode(view))
        assert cast.encode(view, "e4m3").shape == view.shape
    out = np.empty((6, 10), np.uint8)
    assert cast.encode(x, "e4m3", out=out) is out
    with pytest.raises(ShapeError):
        cast.encode(x, "e4m3", out=np.empty((6, 10), np.uint16))


def test_other_sources_are_read_exactly() -> None:
    import ml_dtypes

    x = np.random.default_rng(5).normal(size=300)
    ties = 1 + 2.0**-4 + 2.0**-40
    assert cast.encode(np.array([ties]), "e4m3") == format("e4m3").encode(ties)
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64):
        y = x.astype(dtype)
        assert np.array_equal(cast.encode(y, "e2m1"), format("e2m1").encode(y))
    assert np.array_equal(cast.encode(np.arange(5), "int8"), np.arange(5))


@proves("float64", "cpu")
@pytest.mark.parametrize("rule", ["nearest_even", "to_odd", "stochastic"])
def test_float64_holds_every_float32(rule: str) -> None:
    f, x = format("float64"), np.concatenate([inputs("e4m3"), inputs("binary16")])
    words = ADDRESS.bits(x.size, 32) if rule == "stochastic" else None
    same(cast.encode(x, f, rule, words=None if words is None else ADDRESS), f.encode(x, rule, words=words), x)
    x = np.concatenate([x, special()])
    same(cast.encode(x, f), f.encode(x), x)
    x = x[~np.isinf(x)]
    assert np.array_equal(cast.qdq(x, f), f.round(x), equal_nan=True)


def test_errors() -> None:
    x = np.ones(4, np.float32)
    with pytest.raises(WordsError):
        cast.encode(x, "e4m3", "stochastic")
    with pytest.raises(WordsError):
        cast.encode(x, "e4m3", "stochastic", words=np.zeros(3, np.uint32))
    with pytest.raises(WordsError):
        cast.encode(x, "e4m3", "stochastic", words=ADDRESS, word_bits=12)
    with pytest.raises(NonFiniteError):
        cast.encode(np.float32([1, np.nan]), "e2m1")
    with pytest.raises(FormatError):
        cast.decode(np.array([16], np.uint8), "e2m1")
    with pytest.raises(FormatError):
        cast.decode(np.array([1], np.uint16), "e2m1")


def test_the_fast_kernels_serve_the_common_casts() -> None:
    from lpref.ref.rounding import overflow, rounding

    kinds = {n: plan(format(n), rounding("nearest_even"), overflow("saturate")).kind for n in NAMES}
    assert {n for n, k in kinds.items() if k == "definition"} == set()
    assert [kinds[n] for n in ("e4m3", "e5m2", "e2m1", "e2m3", "binary16")] == ["clamp"] * 5
    assert kinds["bfloat16"] == kinds["tf32"] == "shift"
    assert {kinds[n] for n in ("nf4", "bnb_fp4", "dynamic8", "e8m0", "int1")} == {"cells"}


@pytest.mark.deep
@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "bfloat16", "binary16", "int8", "e8m0", "nf4"])
def test_all_of_float32_by_strides(name: str) -> None:
    """Every 1021st float32, of all 2^32."""
    f = format(name)
    for low in range(0, 2**32, 2**28):
        bits = np.arange(low, low + 2**28, 1021, dtype=np.uint64).astype(np.uint32)
        x = bits.view(np.float32)
        x = x if f.has_nan else x[~np.isnan(x)]
        same(cast.encode(x, name), f.encode(x), x)
