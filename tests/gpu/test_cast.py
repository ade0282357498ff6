"""The CUDA casts against the definition: every format, rounding, policy, word source; every float32; sizes, layouts, errors."""

from __future__ import annotations

import cupy as cp
import numpy as np
import pytest
from device_cases import inputs, special

from lpref.accel.cast_plan import plan
from lpref.accel.cuda import cast, device
from lpref.conformance.intervals import ANY_NAN, REFUSED, intervals
from lpref.ref.errors import BackendError, FormatError, NonFiniteError, WordsError
from lpref.ref.formats import FORMATS, format
from lpref.ref.random import WordAddress
from lpref.ref.rounding import OVERFLOW, ROUNDINGS, default_word_bits, overflow, rounding

NAMES = [n for n in FORMATS if n != "float64"]
DETERMINISTIC = [n for n, r in ROUNDINGS.items() if not r.stochastic]
STOCHASTIC = ["stochastic", "stochastic_b", "stochastic_c"]
BEYOND = ["takum8_linear", "takum16_linear", "takum8"]
ADDRESS = WordAddress(2**40 + 5, 7, "layer/fprop/a/round")


def same(got: np.ndarray, want: np.ndarray, x: np.ndarray) -> None:
    got = cp.asnumpy(got)
    wrong = np.flatnonzero(got != want)
    assert got.dtype == want.dtype
    assert wrong.size == 0, [(float(x.flat[i]).hex(), got.flat[i], want.flat[i]) for i in wrong[:5]]


@pytest.mark.parametrize("rule", DETERMINISTIC)
@pytest.mark.parametrize("name", NAMES)
def test_every_format_and_rounding(name: str, rule: str) -> None:
    f, x = format(name), inputs(name)
    x = np.concatenate([x, special()]) if f.has_nan else x
    same(f.encode(cp.asarray(x), rule), f.encode(x, rule), x)


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e4m3fnuz", "e2m1", "ue4m3", "e8m0", "int8", "uint8", "nf4", "bfloat16"])
@pytest.mark.parametrize("policy", OVERFLOW)
def test_every_policy_or_its_error(name: str, policy: str) -> None:
    f = format(name)
    for data in (np.concatenate([inputs(name), special()]), inputs(name), np.abs(inputs(name))):
        made = plan(f, rounding("nearest_even"), overflow(policy))
        try:
            want = f.encode(data, "nearest_even", policy)
        except (FormatError, NonFiniteError) as error:
            with pytest.raises(type(error) if made.kind != "definition" else BackendError):
                cast.encode(cp.asarray(data), name, "nearest_even", policy)
        else:
            if made.kind != "definition":
                same(cast.encode(cp.asarray(data), name, "nearest_even", policy), want, data)


@pytest.mark.parametrize("rule", STOCHASTIC)
@pytest.mark.parametrize("name", NAMES)
def test_stochastic(name: str, rule: str) -> None:
    f, x = format(name), inputs(name)
    words = np.random.default_rng(2).integers(0, 2**32, x.shape, dtype=np.uint32)
    words[::7], words[::11] = 2**32 - 1, 0
    made = plan(f, rounding(rule), overflow("saturate"))
    most = 0 if made.kind == "definition" else 32 if made.neighbours is None else made.neighbours.word_bits
    for r in (1, 8, 16, 31):
        if r > most:
            with pytest.raises(BackendError, match="no kernel casts"):
                cast.encode(cp.asarray(x), name, rule, words=cp.asarray(words), word_bits=r)
        else:
            same(cast.encode(cp.asarray(x), name, rule, words=cp.asarray(words), word_bits=r), f.encode(x, rule, words=words, word_bits=r), x)
    for start in (0, 3, 2**33 + 1) if default_word_bits(f) <= most else ():
        drawn = ADDRESS.bits(x.size, default_word_bits(f), start)
        same(cast.encode(cp.asarray(x), name, rule, words=ADDRESS, start=start), f.encode(x, rule, words=drawn), x)


@pytest.mark.parametrize("name", [n for n in NAMES if format(n).bits <= 16])
def test_every_float32(name: str) -> None:
    """All 2^32 patterns, to nearest even, against the intervals of the definition."""
    wanted = intervals(format(name), "nearest_even", "saturate")
    codes = np.where(wanted.codes == ANY_NAN, -1, np.where(wanted.codes == REFUSED, -2, wanted.codes)).astype(np.int32)
    f = format(name)
    nan = np.zeros(max(2**f.bits, 32), np.uint8)
    nan[: 2**f.bits] = np.isnan(f.decode(np.arange(2**f.bits)))
    made = cast.launch(f, rounding("nearest_even"), overflow("saturate"), None, None, ())
    failures = cp.asarray(np.array([0, 2**63], np.uint64))
    starts = cp.asarray(wanted.starts[: codes.size].astype(np.uint32))
    bits = cp.asarray(np.packbits(nan, bitorder="little").view(np.uint32))
    run = device.function("cast", "prove", (("LP_IN", 0),))
    args = (np.uint64(0), 2**32, made.array, starts, cp.asarray(codes), np.int32(starts.size), bits, failures)
    run((device.blocks_for(2**32),), (256,), args)
    count, first = (int(v) for v in failures.get())
    assert count == 0, f"{count} differ; the first is {first:#x}"


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 31, 255, 257, 1025, 2**17 + 3])
@pytest.mark.parametrize("name", ["e4m3", "e2m1", "bfloat16", "int8", "nf4", "dynamic8"])
def test_sizes(name: str, size: int) -> None:
    x = np.random.default_rng(3).normal(size=size).astype(np.float32)
    f = format(name)
    words = ADDRESS.bits(size, default_word_bits(f))
    same(f.encode(cp.asarray(x)), f.encode(x), x)
    same(cast.encode(cp.asarray(x), name, "stochastic", words=ADDRESS), f.encode(x, "stochastic", words=words), x)
    same(f.round(cp.asarray(x)), f.round(x), x)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in BEYOND])
def test_decode_and_round(name: str) -> None:
    f = format(name)
    codes = np.arange(2 ** min(f.bits, 16)).astype(f.code_dtype) << f.code_dtype.type(max(0, f.bits - 16))
    got, want = f.decode(cp.asarray(codes)).get(), f.decode(codes).astype(np.float32)
    assert np.array_equal(got, want, equal_nan=True)
    assert np.array_equal(np.signbit(got)[~np.isnan(want)], np.signbit(want)[~np.isnan(want)])
    x = inputs(name)
    assert np.array_equal(f.round(cp.asarray(x)).get().view(np.uint32), f.round(x).view(np.uint32))


def test_layouts_and_dtypes() -> None:
    import ml_dtypes

    x = np.random.default_rng(4).normal(size=(6, 10)).astype(np.float32)
    on = cp.asarray(x)
    for view, host in ((on.T, x.T), (on[::2, 1:], x[::2, 1:]), (on[None], x[None]), (on[0, 0], x[0, 0])):
        got = cast.encode(view, "e4m3")
        assert got.shape == host.shape
        assert np.array_equal(got.get(), format("e4m3").encode(host))
    for dtype in (np.float16, ml_dtypes.bfloat16):
        y = x.astype(dtype)
        assert np.array_equal(cast.encode(cp.asarray(y), "e2m1").get(), format("e2m1").encode(y))
        assert np.array_equal(cast.qdq(cp.asarray(y), "e4m3").get(), format("e4m3").round(y))


def test_errors() -> None:
    x = cp.ones(4, np.float32)
    with pytest.raises(WordsError):
        cast.encode(x, "e4m3", "stochastic")
    with pytest.raises(WordsError):
        cast.encode(x, "e4m3", "stochastic", words=cp.zeros(3, np.uint32))
    with pytest.raises(NonFiniteError):
        cast.encode(cp.asarray(np.float32([1, np.nan])), "e2m1")
    with pytest.raises(FormatError):
        cast.decode(cp.asarray(np.array([16], np.uint8)), "e2m1")
    with pytest.raises(BackendError, match="no kernel reads float64"):
        cast.encode(cp.ones(4), "e4m3")
    with pytest.raises(BackendError, match="no CuPy array"):
        cast.encode(np.ones(4, np.float32), "e4m3")
