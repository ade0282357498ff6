"""Stored state: what is kept, how many bytes, and that the driver rounds once and only what it keeps."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.errors import CheckpointError, SpecError, UnknownNameError
from lpref.ref.formats import format as format_named
from lpref.ref.optim import STORAGES, Storage, storage
from lpref.ref.quantize import QUANTIZERS, Blocks, Quantizer, Scale, quantize
from lpref.ref.random import WordAddress

rng = np.random.default_rng(21)
WORDS = WordAddress(5, 3, "w/m")


@pytest.mark.parametrize("name", STORAGES)
@pytest.mark.parametrize("sign", ["signed", "unsigned"])
@pytest.mark.parametrize("shape", [(1,), (256,), (257,), (33, 31), (4, 5, 6)])
def test_encode_decode_and_bytes(name: str, sign: str, shape: tuple[int, ...]) -> None:
    x = rng.standard_normal(shape).astype(np.float32)
    x = x * x if sign == "unsigned" else x
    kept = STORAGES[name].encode("w/m", x, sign, WORDS)
    back = STORAGES[name].decode("w/m", kept, shape, sign)
    assert back.shape == shape
    assert back.dtype == np.float32
    assert sum(a.nbytes for a in kept.values()) == STORAGES[name].nbytes(x.size, sign)
    if name != "dynamic8":  # its -1 is missing: a block whose largest magnitude is negative gets a smaller scale the second time
        again = STORAGES[name].encode("w/m", back, sign, WORDS)
        assert np.array_equal(STORAGES[name].decode("w/m", again, shape, sign), back)
    if sign == "signed":
        assert np.array_equal(STORAGES[name].round(x, WORDS), back)


def test_dynamic8_is_nearest_in_the_block_scaled_table() -> None:
    x = rng.standard_normal(600).astype(np.float32)
    back = storage("dynamic8").decode("m", storage("dynamic8").encode("m", x, "signed", None), (600,), "signed")
    table = format_named("dynamic8").table()[0]
    for start in range(0, 600, 256):
        block = x[start : start + 256]
        scale = np.abs(block).max()
        values = table * np.float64(scale)
        gap = np.diff(values).max() if block.size else 0
        best = np.abs(values[None, :] - block[:, None].astype(np.float64)).min(axis=1)
        error = np.abs(back[start : start + 256].astype(np.float64) - block)
        assert np.all(error <= best + 2.0**-23 * (np.abs(block) + gap))  # x/s and the product round once each
    assert not storage("dynamic8").decode("m", storage("dynamic8").encode("m", np.zeros(300, np.float32), "signed", None), (300,), "signed").any()


def test_small_tensors_stay_float32() -> None:
    s = Storage(STORAGES["dynamic8"].signed, STORAGES["dynamic8"].unsigned, min_numel=100)
    x = rng.standard_normal(99).astype(np.float32)
    assert s.encode("m", x, "signed", None)["m"] is x
    assert set(s.encode("m", rng.standard_normal(100).astype(np.float32), "signed", None)) == {"m.codes", "m.scales"}


def test_bfloat16_rne_loses_small_updates_and_sr_keeps_their_mean() -> None:
    """1 - 1e-3 lies between the bfloat16 neighbours 1 - 2^-8 and 1. Over all 2^16 words the mean of the 16-bit cast is the value itself."""
    one = np.float32([1.0])
    assert storage("bfloat16").round(one + np.float32(-1e-3), WORDS)[0] == 1.0
    x = np.full(2**16, np.float32(1) + np.float32(-1e-3))
    q = STORAGES["bfloat16_sr"].signed
    assert q.word_bits == 16
    rounded = format_named("bfloat16").round(x, rounding=q.rounding, words=np.arange(2**16, dtype=np.uint32), word_bits=16)
    assert set(rounded.tolist()) == {1.0, 1.0 - 2.0**-8}
    assert sum(rounded.astype(np.float64).tolist()) / 2**16 == float(x[0])


def test_stochastic_storage_uses_the_addressed_words() -> None:
    x = rng.standard_normal(1000).astype(np.float32)
    want = format_named("bfloat16").round(x, rounding="stochastic", words=WORDS.bits(1000, 16), word_bits=16)
    assert np.array_equal(storage("bfloat16_sr").round(x, WORDS), want)


def test_two_level_storage() -> None:
    q = Quantizer("e2m1", Blocks(1, 16), Scale(rule="nvfp4", format="e4m3", apply="te_nvfp4"), tail="partial")
    x = rng.standard_normal(100).astype(np.float32)
    kept = storage(q).encode("m", x, "signed", None)
    assert set(kept) == {"m.codes", "m.scales", "m.tensor_scale"}
    assert np.array_equal(storage(q).decode("m", kept, (100,), "signed"), storage(q).round(x, WORDS))
    assert sum(a.nbytes for a in kept.values()) == storage(q).nbytes(100, "signed") == 50 + 7 + 4


@pytest.mark.parametrize("name", [n for n, q in QUANTIZERS.items() if q.scale.rule not in ("learned", "flexpoint")])
def test_every_quantizer_can_keep_a_tensor(name: str) -> None:
    x = rng.standard_normal((13, 11)).astype(np.float32)
    s = storage(name)
    kept = s.encode("w/m", x, "signed", WORDS)
    assert np.array_equal(s.decode("w/m", kept, x.shape, "signed"), s.round(x, WORDS))
    want = quantize(x.reshape(-1), s.signed, words=WORDS).dequantize(np.float32).reshape(x.shape)
    assert np.array_equal(s.round(x, WORDS), want)
    if format_named(s.signed.format).bits in (4, 8, 16, 32):
        assert sum(a.nbytes for a in kept.values()) == s.nbytes(x.size, "signed")


def test_errors() -> None:
    with pytest.raises(SpecError, match="int4_learned: its scale needs a state"):
        storage("int4_learned")
    with pytest.raises(UnknownNameError, match="did you mean 'dynamic8'"):
        storage("dynamic-8")
    with pytest.raises(SpecError, match="a storage is a name"):
        storage(3)
    with pytest.raises(CheckpointError, match=r"no array 'w/m\.codes'"):
        storage("bfloat16").decode("w/m", {"w/m": np.zeros(3, np.float32)}, (3,), "signed")
