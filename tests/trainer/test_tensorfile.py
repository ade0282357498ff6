"""Tensor files: every dtype comes back with its values; every broken file is typed."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from lpref.ref.errors import DataError, LprefError, OutputError
from lpref.ref.quantize import QTensor, quantize
from lpref.trainer.inspection import csv_text, inspect_file, quantize_to_file, quantizer_named
from lpref.trainer.tensorfile import tensors, write

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
    with np.errstate(invalid="ignore"):  # signalling NaNs become quiet ones
        values, expected = found.values.astype(np.float64).reshape(-1), raw.astype(np.float64)
    assert np.array_equal(values, expected, equal_nan=True)


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
    assert next(csv.DictReader(io.StringIO(csv_text(rows))))["shape"] == "32x50"


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


def raw_file(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}, 3, None, [],
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}, {"dtype": "F32", "shape": [1], "data_offsets": [0]},
        {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}, {"dtype": "F32", "shape": [1]},
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}, {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}, {"dtype": "F32", "shape": [0.5], "data_offsets": [0, 4]},
    ],
)  # fmt: skip
def test_hostile_entries(tmp_path: Path, entry: object) -> None:
    with pytest.raises(DataError, match="evil"):
        list(tensors(raw_file(tmp_path / "x.safetensors", {"evil": entry}, b"\0" * 8)))


@pytest.mark.parametrize("header", [b"[]", b"{", b"\xff\xfe", b'{"a":1,"a":2}', b"[" * 100_000, b"3 "])
def test_hostile_headers(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(DataError):
        list(tensors(raw_file(tmp_path / "x.safetensors", header)))


def test_overlapping_tensors_and_impossible_header_sizes(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    with pytest.raises(DataError, match="starts at byte 0"):
        list(tensors(raw_file(tmp_path / "x.safetensors", {"a": entry, "b": entry}, b"\0" * 8)))
    for length in (2**63, 10**9, 0, 1):
        (tmp_path / "y.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
        with pytest.raises(DataError, match="bytes"):
            list(tensors(tmp_path / "y.safetensors"))


@settings(max_examples=60)
@given(cut=st.integers(1, 10_000), suffix=st.sampled_from([".safetensors", ".npz", ".npy"]))
def test_truncated_files_never_pass(cut: int, suffix: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        w = np.arange(900, dtype=np.float32).reshape(30, 30)
        np.save(path, w) if suffix == ".npy" else write(path, {"w": w}, {})
        whole = path.read_bytes()
        path.write_bytes(whole[: cut % len(whole)])
        with pytest.raises(DataError):
            list(tensors(path))


def test_names_that_numpy_keeps_for_itself_and_equal_bytes(tmp_path: Path) -> None:
    arrays = {"file": np.ones((2, 2), np.float32), "allow_pickle": np.arange(3), "t": np.ones((4, 3), np.float32).T}
    write(tmp_path / "x.npz", arrays, {"k": "v"})
    back = {t.name: t.values for t in tensors(tmp_path / "x.npz")}
    assert list(back) == list(arrays)
    assert all(np.array_equal(back[n], a) for n, a in arrays.items())
    first = (tmp_path / "x.npz").read_bytes()
    write(tmp_path / "x.npz", arrays, {"k": "v"})
    assert (tmp_path / "x.npz").read_bytes() == first


def test_other_arrays_are_refused_and_bfloat16_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", a=np.array([print], dtype=object))
    np.save(tmp_path / "s.npy", np.array(["text"]))
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        archive.writestr("a.npy", b"no array")
    for name in ("o.npz", "s.npy", "z.npz", "missing.npz"):
        with pytest.raises(DataError):
            list(tensors(tmp_path / name))
    np.save(tmp_path / "b.npy", np.float32([1, -2.5]).astype(ml_dtypes.bfloat16))
    assert next(tensors(tmp_path / "b.npy")).values.tolist() == [1, -2.5]


@pytest.mark.parametrize("name", ["nvfp4_2d", "mxfp8_e4m3", "mxfp6_e2m3", "int8_row", "nf4", "fp8_tensor", "bf16"])
@pytest.mark.parametrize("layout", ["linear", "column"])
def test_every_layout_reads_back(tmp_path: Path, name: str, layout: str) -> None:
    w = RNG.standard_normal((33, 70)).astype(np.float32)
    np.save(tmp_path / "w.npy", w)
    quantize_to_file(tmp_path / "w.npy", tmp_path / "o.npz", name, layout=layout)
    parts = {t.name.removeprefix("w."): t.values for t in tensors(tmp_path / "o.npz")}
    q = quantizer_named(name)
    assert np.array_equal(QTensor.from_layout(layout, parts, q, w.shape).dequantize(), quantize(w, q).dequantize())
