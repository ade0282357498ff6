"""Tensors in files: safetensors (BF16, FP8 and packed FP4 included), npz and npy, without pickle.

Low-precision tensors are read as the exact values of their codes. `tensors` yields one tensor at a time, so a large file costs the
memory of its largest tensor.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpref.ref.errors import DataError
from lpref.ref.formats import format as format_named
from lpref.trainer.data.files import describe_os_error
from lpref.trainer.files import write_atomic

METADATA = "__metadata__"
MAX_HEADER = 100_000_000
"""Bytes; the limit of the safetensors package."""
SUFFIXES = (".safetensors", ".npz", ".npy")
PLAIN = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U64": "<u8", "U32": "<u4", "U16": "<u2",
    "U8": "<u1", "BOOL": "|b1",
}  # fmt: skip
CODED = {
    "BF16": "bfloat16", "F8_E4M3": "e4m3", "F8_E5M2": "e5m2", "F8_E4M3FNUZ": "e4m3fnuz", "F8_E5M2FNUZ": "e5m2fnuz", "F8_E8M0": "e8m0", "F4": "e2m1",
}  # fmt: skip


@dataclass(frozen=True)
class FileTensor:
    """`values` are float32 (float64 where the file has it; integers as they are); `dtype` is the file's word for what it stores."""

    name: str
    dtype: str
    values: np.ndarray


def tensors(path: Path) -> Iterator[FileTensor]:
    """The tensors of a file in its order; DataError names what is wrong with the file."""
    if path.suffix not in SUFFIXES:
        raise DataError(
            f"{path.suffix or 'no suffix'} is not a tensor file",
            where=str(path),
            remedy=f"known: {', '.join(SUFFIXES)}",
        )
    with describe_os_error(path, "tensor file"):
        if path.stat().st_size == 0:
            raise DataError("tensor file is empty", where=str(path), remedy="give a file with content")
        if path.suffix == ".safetensors":
            yield from _safetensors(path)
        else:
            yield from _numpy(path)


def _numpy(path: Path) -> Iterator[FileTensor]:
    try:
        with np.load(path, allow_pickle=False) if path.suffix == ".npz" else _Single(path) as archive:
            for name in archive.files:
                if name != METADATA:
                    array = archive[name]
                    if not isinstance(array, np.ndarray):  # np.load hands out the bytes of what has no array's magic
                        raise ValueError(f"its member {name!r} is no array")
                    yield FileTensor(name, str(array.dtype), _readable(array, name, path))
    except (
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        KeyError,
        NotImplementedError,
        RuntimeError,
        zlib.error,
        MemoryError,
    ) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"not a readable {path.suffix[1:]} file: {error}",
            where=str(path),
            remedy="write it again, without pickled objects",
        ) from None


class _Single:
    """An npy file with the interface of an npz archive; its tensor has the file's stem as name."""

    def __init__(self, path: Path) -> None:
        self.files = [path.stem]
        self._array = np.load(path, allow_pickle=False)

    def __enter__(self) -> _Single:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def __getitem__(self, _: str) -> np.ndarray:
        return self._array


def _readable(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    if (
        array.dtype.kind == "V" and array.dtype.itemsize == 2 and array.dtype.names is None
    ):  # bfloat16, as NumPy stores it
        return np.asarray(format_named("bfloat16").decode(array.view("<u2")), np.float32)
    if array.dtype.kind not in "fiub":
        raise DataError(f"tensor {name!r} is {array.dtype}", where=str(path), remedy="store real numbers")
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _safetensors(path: Path) -> Iterator[FileTensor]:
    header, start = read_header(path)
    with open(path, "rb") as file:
        for name, entry in header.items():
            first, stop = entry["data_offsets"]
            file.seek(start + first)
            yield FileTensor(
                name, entry["dtype"], _values(file.read(stop - first), entry["dtype"], entry["shape"], name, path)
            )


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The entries of a safetensors header, every one checked against the file, and the byte where the data begins."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if not 2 <= header_bytes <= min(size - 8, MAX_HEADER):
            raise _broken(path, f"its header would have {header_bytes} bytes, the file has {size}")
        raw = file.read(header_bytes)
    try:
        header = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _broken(path, str(error)) from None
    if not isinstance(header, dict):
        raise _broken(path, "its header is no mapping")
    header.pop(METADATA, None)
    end, available = 0, size - 8 - header_bytes
    for name, entry in header.items():
        if not isinstance(entry, dict) or not _is_entry(entry):
            raise _broken(path, f"the entry of tensor {name!r} is {entry!r:.200}")
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        if stop > available:
            raise DataError(
                f"truncated: tensor {name!r} ends at byte {stop}, {available} are there",
                where=str(path),
                remedy="copy it again",
            )
        if start != end:
            raise _broken(path, f"tensor {name!r} starts at byte {start}, the one before ends at {end}")
        end = stop
    return header, 8 + header_bytes


def _is_entry(entry: dict[str, Any]) -> bool:
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    lists = isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2 and len(shape) <= 32
    whole = lists and all(type(n) is int and n >= 0 for n in [*shape, *offsets])  # type: ignore[misc]
    return isinstance(entry.get("dtype"), str) and whole and offsets[0] <= offsets[1]  # type: ignore[index]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name occurs twice in its header")
    return dict(pairs)


def _broken(path: Path, what: str) -> DataError:
    return DataError(f"not a safetensors file: {what}", where=str(path), remedy="write it again")


def _values(raw: bytes, dtype: str, shape: list[int], name: str, path: Path) -> np.ndarray:
    count = math.prod(shape)
    if dtype in PLAIN:
        kind = np.dtype(PLAIN[dtype])
        needed = count * kind.itemsize
    elif dtype in CODED:
        f = format_named(CODED[dtype])
        needed = -(-count * f.bits // 8)
    else:
        raise DataError(f"tensor {name!r} is {dtype}", where=str(path), remedy=f"known: {', '.join([*PLAIN, *CODED])}")
    if len(raw) != needed:
        raise DataError(
            f"tensor {name!r} of shape {shape} and dtype {dtype} needs {needed} bytes, has {len(raw)}",
            where=str(path),
            remedy="write it again",
        )
    if dtype in PLAIN:
        values = np.frombuffer(raw, kind).reshape(shape)
        return values.astype(np.float32) if dtype == "F16" else values
    codes = np.frombuffer(raw, np.uint8 if f.bits <= 8 else "<u2")
    if f.bits == 4:  # two a byte, the lower index in the low nibble
        codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(-1)[:count]
    return np.asarray(f.decode(codes), np.float32).reshape(shape)


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes safetensors or npz by suffix, whole or not at all. npz keeps `metadata` as the JSON text of the array ``__metadata__``."""
    if path.suffix == ".safetensors":
        from safetensors.numpy import save

        write_atomic(
            path, save({name: np.asarray(a, order="C") for name, a in arrays.items()}, metadata=dict(metadata))
        )
    elif path.suffix == ".npz":
        buffer = io.BytesIO()
        with zipfile.ZipFile(
            buffer, "w"
        ) as archive:  # not np.savez, whose own parameters are names that tensors cannot have
            for name, array in [*arrays.items(), (METADATA, np.array(json.dumps(dict(metadata))))]:
                stream = io.BytesIO()
                np.lib.format.write_array(stream, np.asarray(array, order="C"), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), stream.getvalue())
        write_atomic(path, buffer.getvalue())
    else:
        raise DataError(
            f"{path.suffix or 'no suffix'} cannot hold codes and scales",
            where=str(path),
            remedy="write .safetensors or .npz",
        )
