"""Tensors of a safetensors file as NumPy arrays: a length, a JSON header, raw little-endian bytes; nothing in it can run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, deserialize

from lpref.ref.errors import CheckpointError

FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


def read_safetensors(path: Path | str) -> dict[str, np.ndarray]:
    """name -> array, float32 (F64 stays float64). Raises CheckpointError for a broken file or a dtype that holds no weights."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError("no such file", where=str(path))
    try:
        entries = deserialize(path.read_bytes())
    except SafetensorError as error:
        raise CheckpointError(f"not a safetensors file: {error}", where=str(path)) from error
    return {name: _array(name, entry, path) for name, entry in entries}


def _array(name: str, entry: dict, path: Path) -> np.ndarray:
    kind, data = entry["dtype"], entry["data"]
    if kind == "BF16":
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    elif kind in FLOATS:
        values = np.frombuffer(data, np.dtype(FLOATS[kind]).newbyteorder("<"))
        values = values.astype(np.float64 if kind == "F64" else np.float32)
    elif kind in ("BOOL", "U8", "I64"):  # masks and other constants
        values = np.frombuffer(data, {"BOOL": np.bool_, "U8": np.uint8, "I64": np.int64}[kind])
    else:
        raise CheckpointError(f"tensor {name!r} is {kind}", where=str(path), remedy="known: F64, F32, F16, BF16; convert it first")
    return values.reshape(entry["shape"])
