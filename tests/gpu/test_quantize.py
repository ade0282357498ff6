"""The CUDA quantizers against their definitions: codes, scales, tensor scale, observations; bits. The cases are the CPU kernels'."""

from __future__ import annotations

from dataclasses import replace

import cupy as cp
import ml_dtypes
import numpy as np
import pytest
from device_cases import wide

from lpref.accel.cuda import arrays, cast, plans
from lpref.accel.cuda.quantize import quantize
from lpref.ref import quantize as ref
from lpref.ref.errors import BackendError, NonFiniteError, ShapeError, SpecError, WordsError
from lpref.ref.quantize import QUANTIZERS, Blocks, QTensor, Quantizer, lookup
from lpref.ref.random import WordAddress
from lpref.ref.scaling import Scale

WORDS = WordAddress(2**40 + 5, 9, "h.0.mlp.up/dgrad/a/round")
KERNELS = [n for n, q in QUANTIZERS.items() if q.scale.rule in plans.RULES and q.scale.select == "none"]
SETTINGS = {
    "mx": ["", ":scale=ceil", ":scale=rceil", ":scale=even", ":scale=midmax", ":scale=tetrajet"],
    "amax": ["", ":pow2=up", ":pow2=down", ":apply=mul_inverse", ":eps=0.5"],
    "te": ["", ":pow2=down", ":margin=1", ":eps=0.5"],
}


def variants() -> list[str]:
    names = [n + s for n in KERNELS for s in SETTINGS.get(QUANTIZERS[n].scale.rule, [""])]
    names += [n + s for n in KERNELS for s in (":rounding=stochastic", ":rounding=toward_zero", ":rounding=stochastic_b")]
    names += [f"mxfp8_e4m3:{s}" for s in ("overflow=to_nan", "format=e4m3fnuz", "rounding=to_odd:overflow=torch", "nonfinite=saturate")]
    names += ["mxfp4:multiplier=0.75:rounding=stochastic", "mxfp8_e4m3:rounding=stochastic:word_bits=8", "mxfp4:rounding=stochastic:word_bits=16"]
    return names


def check(got: QTensor, want: QTensor) -> None:
    got = got.host()
    assert got.codes.dtype == want.codes.dtype
    assert np.array_equal(got.codes, want.codes), np.argwhere(got.codes != want.codes)[:5]
    assert len(got.scales) == len(want.scales)
    for mine, theirs in zip(got.scales, want.scales, strict=True):
        both_nan = np.zeros(mine.shape, bool)
        if mine.dtype == np.uint32:
            both_nan = np.isnan(mine.view(np.float32)) & np.isnan(theirs.view(np.float32))
        assert mine.dtype == theirs.dtype
        assert ((mine == theirs) | both_nan).all()
    assert np.array_equal(got.tensor_scale, want.tensor_scale, equal_nan=True)
    assert (got.logical_shape, got.k_axis, got.quantizer) == (want.logical_shape, want.k_axis, want.quantizer)
    assert repr(dict(got.observed)) == repr(dict(want.observed))


@pytest.mark.parametrize("shape", [(48, 256), (131, 300)])
@pytest.mark.parametrize("k_axis", [0, 1])
@pytest.mark.parametrize("name", variants())
def test_bits(name: str, k_axis: int, shape: tuple[int, int]) -> None:
    q = replace(lookup(name), tail="pad_zero")
    if q.rounding == "stochastic_b" and q.format in ("nf4", "af4") and shape[0] == 131:
        return
    x = wide(*shape)
    want = ref.quantize(x, q, k_axis=k_axis, words=WORDS)
    got = quantize(cp.asarray(x), q, k_axis=k_axis, words=WORDS)
    check(got, want)
    again = quantize(cp.asarray(x), q, k_axis=k_axis, words=WORDS)
    assert bool((again.codes == got.codes).all())
    assert np.array_equal(got.dequantize(np.float32).get(), want.dequantize(np.float32), equal_nan=True)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("name", ["nvfp4", "mxfp8_e4m3", "mxfp6_e2m3", "int8_row", "fp8_tensor", "fp8_tile1x128", "nvfp4_2d", "nf4", "mxint8"])
def test_other_sources(name: str, dtype: type) -> None:
    q = replace(lookup(name), tail="pad_zero")
    x = np.random.default_rng(8).standard_normal((64, 384)).astype(dtype)
    x[3, 5], x[4] = 0, 0
    for one in (q, replace(q, rounding="stochastic")):
        check(quantize(cp.asarray(x), one, words=WORDS), ref.quantize(x, one, words=WORDS))


SHAPED = ["nvfp4", "mxfp8_e4m3", "mxfp4:rounding=stochastic", "nf4", "int8_tensor", "int8_row", "fp8_row:rounding=stochastic"]
BLOCKED = ["nvfp4", "nvfp4_2d", "mxfp4", "mxfp8_e4m3:nonfinite=saturate", "mxfp8_e5m2", "int8_row", "fp8_tensor", "fp8_tile1x128", "nf4"]


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize(
    "shape", [(0, 64), (1, 1), (1, 31), (1, 32), (1, 33), (9000,), (1, 40960), (3, 8192 + 256), (2, 3, 512), (200, 5120), (2, 32768)]
)
def test_shapes(name: str, shape: tuple[int, ...]) -> None:
    x = wide(1, int(np.prod(shape))).reshape(shape)
    q = replace(lookup(name), tail="pad_zero")
    check(quantize(cp.asarray(x), q, words=WORDS), ref.quantize(x, q, words=WORDS))


@pytest.mark.parametrize("start", [0, 16, 5, 2**33 + 8])
@pytest.mark.parametrize("name", ["mxfp4", "mxfp8_e4m3", "int8_row", "fp8_tensor"])
def test_words_from_anywhere(name: str, start: int) -> None:
    q = replace(lookup(name), rounding="stochastic")
    x, words = wide(64, 256), replace(WORDS, start=start)
    check(quantize(cp.asarray(x), q, words=words), ref.quantize(x, q, words=words))
    given = np.random.default_rng(1).integers(0, 2**16, x.shape, dtype=np.uint32)
    check(quantize(cp.asarray(x), q, words=cp.asarray(given)), ref.quantize(x, q, words=given))


@pytest.mark.parametrize("name", BLOCKED)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(name: str, bad: float) -> None:
    x = wide(64, 256)
    x[7, 100] = bad
    check(quantize(cp.asarray(x), name), ref.quantize(x, name))


@pytest.mark.parametrize("value", [0.0, 2.0**-149, 2.0**-127, 1e-38, 1e-36, 3e38])
@pytest.mark.parametrize("name", KERNELS)
def test_extreme_scales(name: str, value: float) -> None:
    q = replace(lookup(name), tail="pad_zero")
    x = (np.arange(-16, 48, dtype=np.float32) / 48 * np.float32(value)).reshape(1, 64)
    check(quantize(cp.asarray(x), q), ref.quantize(x, q))


def test_foreign_amax_and_state() -> None:
    x = wide(32, 64)
    for name, amax in (("nvfp4", 1e4), ("mxfp4", 3.0), ("int8_tensor", 0.5), ("fp8_tensor", 7.0), ("fp8_row", np.full((32, 1), 2.0))):
        check(quantize(cp.asarray(x), name, amax=amax), ref.quantize(x, name, amax=amax))
    delayed = lookup("fp8_tensor:history=delayed:window=4")
    state = {"scale": np.float32(3.7), "history": np.zeros(4, np.float32)}
    check(quantize(cp.asarray(x), delayed, state=state), ref.quantize(x, delayed, state=state))


@pytest.mark.parametrize("name", ["bf16", "fp16", "fixed16_8"])
def test_plain_casts(name: str) -> None:
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    every = (np.arange(2**16, dtype=np.uint32)[:, None] << np.uint32(16) | lower).view(np.float32).reshape(-1, 256)
    for x in (wide(33, 65), wide(32, 64), *((every, every[np.random.default_rng(0).permutation(len(every))]) if name != "fixed16_8" else ())):
        check(quantize(cp.asarray(x), name), ref.quantize(x, name))


def test_every_float32_to_bfloat16() -> None:
    """2^32 casts three ways: as an operand, as the cast that is proved against its definition, and as a copy, whose NaN is another NaN; and what the
    first one counts."""
    counts = {"count": 0, "overflowed": 0, "underflowed": 0}
    for part in range(16):
        bits = cp.arange(2**28, dtype=cp.uint32).reshape(2**14, 2**14) + np.uint32(part << 28)
        made, codes = quantize(bits.view(cp.float32), "bf16"), arrays.short(bits.view(cp.float32)).view(cp.uint16)
        lost = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        assert bool(((made.codes == codes) | (lost & ((codes & np.uint16(0x7FFF)) > np.uint16(0x7F80)))).all())
        assert bool((cast.encode(bits.view(cp.float32), "bfloat16", overflow="to_infinity").reshape(codes.shape) == made.codes).all())
        for key in counts:
            counts[key] += int(made.observed[key])
    assert counts == {"count": 2**32, "overflowed": 2 * (0x7F800000 - 0x7F7F8001), "underflowed": 2 * 0x8000}


@pytest.mark.parametrize("other", [None, 1, 3, 16])
@pytest.mark.parametrize("k", [None, 1, 5, 16, 64])
@pytest.mark.parametrize("name", ["e4m3", "e2m1", "e3m2", "int8", "int4", "nf4"])
def test_any_blocks(name: str, other: int | None, k: int | None) -> None:
    x = np.random.default_rng(7).standard_normal((37, 150)).astype(np.float32)
    words = np.random.default_rng(7).integers(0, 2**16, x.shape, dtype=np.uint32)
    for rounding in ("nearest_even", "stochastic"):
        q = Quantizer(name, Blocks(other, k), Scale(), rounding=rounding, tail="partial", narrow=k != 5)
        for axis in (0, 1):
            check(quantize(cp.asarray(x), q, k_axis=axis, words=words), ref.quantize(x, q, k_axis=axis, words=words))


def test_the_tensor_on_the_device() -> None:
    x = wide(32, 64)
    t, want = quantize(cp.asarray(x), "nvfp4_2d"), ref.quantize(x, "nvfp4_2d")
    assert np.array_equal(t.unpacked().get(), want.unpacked())
    assert np.array_equal(t.scale_values().get(), want.scale_values())
    assert np.array_equal(t.transpose().host().codes, want.transpose().codes)
    assert t.nbytes == want.nbytes
    with pytest.raises(BackendError, match="cublas_128x4"):
        t.to_layout("cublas_128x4")


def test_errors() -> None:
    x = cp.ones((4, 64), np.float32)
    for name, kind, words in (("nf4_double", BackendError, "scale rule double"), ("ternary_twn", BackendError, "scale rule twn")):
        with pytest.raises(kind, match=words):
            quantize(x, name)
    with pytest.raises(BackendError, match="no kernel reads int32"):
        quantize(x.astype(np.int32), "mxfp4")
    with pytest.raises(ShapeError):
        quantize(x[:, :33], "mxfp4")
    with pytest.raises(WordsError):
        quantize(x, "mxfp4:rounding=stochastic")
    with pytest.raises(SpecError):
        quantize(x, "fp8_tensor:history=delayed")
    x[0, 0] = np.nan
    with pytest.raises(NonFiniteError):
        quantize(x, Quantizer("e2m1", Blocks(), Scale("te", apply="mul_inverse")))


def test_the_public_entry() -> None:
    import lpref

    x = wide(32, 64)
    check(lpref.quantize(cp.asarray(x), lookup("mxfp8_e4m3")), ref.quantize(x, "mxfp8_e4m3"))
    with pytest.raises(BackendError, match="on a device"):
        lpref.quantize(cp.asarray(x), lookup("mxfp8_e4m3"), backend="cpu")
    with pytest.raises(BackendError, match="not on a device"):
        lpref.quantize(x, lookup("mxfp8_e4m3"), backend="cuda")
