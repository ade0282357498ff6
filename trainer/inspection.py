"""What quantizers do to the tensors of a file: figures (``lpref inspect``), or the codes themselves (``lpref quantize``)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lpref.accel.cpu.quantize import quantize
from lpref.ref import reduce
from lpref.ref.errors import DataError, NonFiniteError, OutputError
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.stats import stats
from lpref.ref.random import WordAddress
from lpref.trainer.tensorfile import FileTensor, tensors, write


def quantizer_named(name: str) -> Quantizer:
    """A registered quantizer for tensors as they come: partial blocks at the ends, unless the name says otherwise."""
    from lpref.specs import quantizer

    name = name.strip()
    return quantizer(name if ":tail=" in name else f"{name}:tail=partial")


def inspect_file(path: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per floating-point tensor and quantizer; a quantizer that refuses a tensor says why in ``error``."""
    chosen = {name.strip(): quantizer_named(name) for name in names if name.strip()}
    rows = []
    for tensor in tensors(path):
        if tensor.values.dtype.kind == "f" and tensor.values.size:
            rows += [_row(tensor, name, q) for name, q in chosen.items()]
    if not rows:
        raise DataError("no floating-point tensor in it", where=str(path), remedy="give a file with weights")
    return rows


def _row(tensor: FileTensor, name: str, q: Quantizer) -> dict[str, Any]:
    x = tensor.values.reshape(-1, tensor.values.shape[-1]) if tensor.values.ndim else tensor.values.reshape(1, 1)
    row: dict[str, Any] = {
        "tensor": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.values.shape), "amax": float(reduce.amax(x)), "quantizer": name,
    }  # fmt: skip
    try:
        found = stats(x, quantize(x, q, words=WordAddress(0, 0, f"inspect/{tensor.name}")))
    except NonFiniteError as error:
        return {**row, "error": str(error)}
    figures = {
        "sqnr_db": "sqnr_db",
        "overflowed": "overflow_share",
        "underflowed": "underflow_share",
        "bits": "bits_per_element",
    }
    return {**row, **{key: found[source] for key, source in figures.items()}}


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows with a header line; shapes as 2x3."""
    out = io.StringIO()
    keys = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(out, keys, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({**row, "shape": "x".join(map(str, row["shape"]))} for row in rows)
    return out.getvalue()


def quantize_to_file(source: Path, out: Path, name: str, *, layout: str = "linear", overwrite: bool = False) -> str:
    """Writes NAME.codes, NAME.scales and NAME.tensor_scale of every floating-point tensor of two or more axes, others unchanged.

    The file's metadata holds the quantizer (resolved), the layout and the logical shapes. Returns a line for a person.
    """
    if out.exists() and not overwrite:
        raise OutputError("exists", where=str(out), remedy="use --overwrite or another -o FILE")
    if out.suffix not in (".safetensors", ".npz"):
        raise DataError(
            f"{out.suffix or 'no suffix'} cannot hold codes and scales",
            where=str(out),
            remedy="write .safetensors or .npz",
        )
    q = quantizer_named(name)
    arrays: dict[str, np.ndarray] = {}
    shapes: dict[str, list[int]] = {}
    before = after = 0
    for tensor in tensors(source):
        if tensor.values.dtype.kind != "f" or tensor.values.ndim < 2:
            arrays[tensor.name] = tensor.values
            continue
        t = quantize(tensor.values, q, words=WordAddress(0, 0, f"quantize/{tensor.name}"))
        arrays.update({f"{tensor.name}.{part}": np.asarray(a) for part, a in t.to_layout(layout).items()})
        shapes[tensor.name] = list(tensor.values.shape)
        before, after = before + tensor.values.nbytes, after + t.nbytes
    if not shapes:
        raise DataError(
            "no floating-point tensor of two or more axes", where=str(source), remedy="give a file with weight matrices"
        )
    from lpref.ref.recipes.text import to_mapping

    metadata = {
        "lpref_quantizer": json.dumps(to_mapping(q)),
        "lpref_layout": layout,
        "lpref_shapes": json.dumps(shapes),
    }
    write(out, arrays, metadata)
    return f"{out}: {len(shapes)} tensors as {name}, {before:,} -> {after:,} bytes"
