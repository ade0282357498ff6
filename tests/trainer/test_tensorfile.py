"""Tensor files: every dtype comes back with its values; every broken file is typed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load, save

from lpref.ref.errors import DataError, LprefError, OutputError
from lpref.ref.quantize import QTensor, quantize
from lpref.trainer.inspection import csv_text, inspect_file, quantize_to_file, quantizer_named
from lpref.trainer.tensorfile import tensors

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float16", "float32", "float64"])
def test_every_code_of_every_float_dtype(tmp_path: Path, kind: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, kind, None) or kind)
    if dtype.itemsize <= 2:
        raw = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
    else:
        raw = RNG.standard_normal(256).astype(dtype)
    (tmp_path / "t.safetensors").write_bytes(save({"w": raw.reshape(16, -1)}))
    (found,) = tensors(tmp_path / "t.safetensors")
    assert np.array_equal(found.values.astype(np.float64).reshape(-1), raw.astype(np.float64), equal_nan=True)


def test_packed_fp4_reads_low_nibble_first(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F4", "shape": [2, 2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "t.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes([0x21, 0xF7]))
    (found,) = tensors(tmp_path / "t.safetensors")
    assert found.values.tolist() == [[0.5, 1.0], [6.0, -6.0]]


def test_npz_and_npy(tmp_path: Path) -> None:
    a = RNG.standard_normal((3, 4)).astype(np.float16)
    np.savez(tmp_path / "t.npz", a=a, n=np.arange(3))
    np.save(tmp_path / "one.npy", a)
    assert [(t.name, t.dtype) for t in tensors(tmp_path / "t.npz")] == [("a", "float16"), ("n", "int64")]
    (found,) = tensors(tmp_path / "one.npy")
    assert found.name == "one"
    assert np.array_equal(found.values, a.astype(np.float32))


def test_broken_files_are_typed(tmp_path: Path) -> None:
    good = save({"w": np.ones((4, 4), np.float32)})
    cases = {
        "cut.safetensors": (good[:-3], "truncated"),
        "head.safetensors": (good[:20], "not a safetensors file"),
        "noise.safetensors": (b"\xff" * 64, "not a safetensors file"),
        "empty.safetensors": (b"", "empty"),
        "text.npy": (b"hello world", "not a readable npy"),
        "text.npz": (b"PK\x03\x04 and then nothing", "not a readable npz"),
        "a.txt": (b"x", "is not a tensor file"),
    }
    header = json.dumps({"w": {"dtype": "F9", "shape": [2], "data_offsets": [0, 2]}}).encode()
    cases["odd.safetensors"] = (len(header).to_bytes(8, "little") + header + b"ab", "is F9")
    header = json.dumps({"w": {"dtype": "F32", "shape": [7], "data_offsets": [0, 4]}}).encode()
    cases["size.safetensors"] = (len(header).to_bytes(8, "little") + header + b"abcd", "needs 28 bytes, has 4")
    for name, (raw, words) in cases.items():
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(DataError) as caught:
            list(tensors(tmp_path / name))
        assert words in str(caught.value), name
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="not a readable npy"):
        list(tensors(tmp_path / "object.npy"))


def test_inspect_rows_and_csv(tmp_path: Path) -> None:
    w = RNG.standard_normal((32, 50)).astype(np.float32)
    bad = w.copy()
    bad[0, 0] = np.nan
    (tmp_path / "t.safetensors").write_bytes(save({"w": w, "bad": bad, "ids": np.arange(3)}))
    rows = inspect_file(tmp_path / "t.safetensors", ["int8_row", "mxfp4"])
    assert {(r["tensor"], r["quantizer"]) for r in rows} == {
        (t, q) for t in ("w", "bad") for q in ("int8_row", "mxfp4")
    }
    fine = next(r for r in rows if (r["tensor"], r["quantizer"]) == ("w", "mxfp4"))
    assert 10 < fine["sqnr_db"] < 25
    assert fine["bits"] >= 4.25
    assert list(csv.DictReader(io.StringIO(csv_text(rows))))[0]["shape"] == "32x50"


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_written_codes_read_back_to_the_same_tensor(tmp_path: Path, suffix: str) -> None:
    w = RNG.standard_normal((32, 64)).astype(np.float32)
    (tmp_path / "in.safetensors").write_bytes(save({"w": w, "bias": w[0]}))
    out = tmp_path / f"out.{suffix}"
    quantize_to_file(tmp_path / "in.safetensors", out, "nvfp4")
    arrays = load(out.read_bytes()) if suffix == "safetensors" else dict(np.load(out))
    assert np.array_equal(arrays["bias"], w[0])
    parts = {key: arrays[f"w.{key}"] for key in ("codes", "scales", "tensor_scale")}
    q = quantizer_named("nvfp4")
    back = QTensor.from_layout("linear", parts, q, (32, 64))
    assert np.array_equal(back.dequantize(), quantize(w, q).dequantize())
    with pytest.raises(OutputError, match="exists"):
        quantize_to_file(tmp_path / "in.safetensors", out, "nvfp4")
    with pytest.raises(LprefError):
        quantize_to_file(tmp_path / "in.safetensors", tmp_path / "x.bin", "nvfp4")
