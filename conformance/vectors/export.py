"""Writing vectors: which sets, in which form."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lpref.conformance.targets.base import CastCase
from lpref.conformance.vectors import gemms
from lpref.conformance.vectors.blocks import numbers, quantize_set, refusal
from lpref.conformance.vectors.c_header import header
from lpref.conformance.vectors.casts import cast_set
from lpref.conformance.vectors.digests import digest
from lpref.conformance.vectors.files import HERE, LIMIT, SUMS, VectorSet, sums
from lpref.ref.errors import SpecError, UnknownNameError
from lpref.ref.formats import FORMATS
from lpref.ref.formats import format as format_of
from lpref.ref.linalg import ACCUMULATORS, accumulator
from lpref.ref.quantize import QUANTIZERS
from lpref.specs import quantizer as quantizer_of

OPS = ("cast", "quantize", "gemm")
WAYS = ("jsonl", "npz", "c-header", "digests")
POLICIES = (("nearest_even", "saturate"), ("nearest_even", "ml_dtypes"), ("toward_zero", "saturate"), ("stochastic", "saturate"))
"""(rounding, overflow) of the casts of each format."""


def export(
    folder: str | Path,
    *,
    ops: Sequence[str] = (),
    formats: Sequence[str] = (),
    quantizers: Sequence[str] = (),
    models: Sequence[str] = (),
    max_cases: int = 2048,
    form: str = "jsonl",
    policies: Sequence[tuple[str, str]] = POLICIES,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Write vectors of the named formats, quantizers and accumulation models (none named: all), SHA256SUMS, the schema and the licence.

    Returns the files written. ops: of these kinds only; a kind without a name of its own is written whole.
    max_cases bounds the cases of a file; no file exceeds 1 MiB. form: jsonl | npz | c-header | digests (casts only; 2^32 inputs each).

    Raises: UnknownNameError, SpecError for a set that cannot be made.
    """
    for op in ops:
        if op not in OPS:
            raise UnknownNameError("op", op, OPS)
    if form not in WAYS:
        raise UnknownNameError("form", form, WAYS)
    if max_cases < 1:
        raise SpecError([f"max_cases: {max_cases} is not positive"], where="vectors export")
    names = dict(zip(OPS, (formats, quantizers, models), strict=True))
    kinds = [op for op in OPS if (op in ops if ops else names[op] or not any(names.values()))]
    casts = [CastCase(n, *p) for n in (cast_names(formats) if "cast" in kinds else ()) for p in policies]
    arrays = form in ("jsonl", "npz")
    blocks = quantizer_names(quantizers) if "quantize" in kinds and arrays else []
    sums_of = model_names(models) if "gemm" in kinds and arrays else []
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, data in contents(casts, blocks, sums_of, max_cases, form):
        if len(data) > LIMIT:
            raise SpecError([f"{name}: {len(data)} bytes, a file has at most {LIMIT}"], where="vectors export", remedy="lower --max-cases")
        (folder / name).write_bytes(data)
        written.append(folder / name)
        progress(f"{name}  {len(data)} bytes")
    shutil.copyfile(HERE / "LICENSE", folder / "LICENSE")
    if form == "jsonl":
        shutil.copyfile(HERE / "schema.json", folder / "schema.json")
    (folder / SUMS).write_text(sums(folder), encoding="utf-8")
    return written


def cast_names(formats: Sequence[str]) -> list[str]:
    """The formats whose casts are exported: the named ones, else all of at most 16 bits that are a list of reals."""
    named = [format_of(n) for n in formats]
    wide = [f.name for f in named if f.bits > 16]
    if wide:
        raise SpecError([f"{n}: vectors of casts stop at 16 bits" for n in wide], where="vectors export")
    return [f.name for f in named] or [n for n, f in FORMATS.items() if f.bits <= 16]


def quantizer_names(quantizers: Sequence[str]) -> list[str]:
    """The quantizers exported: the named ones, else all that have vectors."""
    accept({n: refusal(quantizer_of(n)) for n in quantizers})
    return list(quantizers) or [n for n, q in QUANTIZERS.items() if refusal(q) is None]


def model_names(models: Sequence[str]) -> list[str]:
    """The accumulation models exported: the named ones, else all that have vectors."""
    accept({n: gemms.refusal(accumulator(n)) for n in models})
    return list(models) or [n for n, entry in ACCUMULATORS.items() if gemms.refusal(entry.model) is None]


def accept(refusals: Mapping[str, str | None]) -> None:
    """SpecError naming what has no vectors, and why."""
    found = [f"{name}: no vectors: {why}" for name, why in refusals.items() if why]
    if found:
        raise SpecError(found, where="vectors export")


def contents(casts: Sequence[CastCase], blocks: Sequence[str], models: Sequence[str], limit: int, form: str) -> Iterator[tuple[str, bytes]]:
    """(file name, bytes)."""
    if form == "digests":
        for case in casts:
            if case.rounding != "stochastic":
                yield f"digests-{case.format}-{case.rounding}-{case.overflow}.json", (json.dumps(digest(case)) + "\n").encode()
        return
    if form == "c-header":
        share = max(16, min(limit, LIMIT * 9 // 10 // (24 * max(1, len(casts)))))
        yield "lpref_vectors.h", header([s for s in (cast_set(case, share) for case in casts) if s.cases]).encode()
        return
    blocks_of = (quantize_set(n, quantizer_of(n), limit) for n in blocks)
    for s in chain((cast_set(c, limit) for c in casts), blocks_of, (gemms.gemm_set(ACCUMULATORS[n], limit) for n in models)):
        if s.cases:
            yield (f"{s.name}.jsonl", s.text().encode()) if form == "jsonl" else (f"{s.name}.npz", npz(s))


def npz(s: VectorSet) -> bytes:
    """The arrays of a set: casts in, out, word; quantizers in_0, codes_0, scales_0, tensor_scale_0, …; products a_0, b_0, out_0, …;
    `header` as JSON text (uint8)."""
    h = s.header
    arrays: dict[str, Any] = {"header": np.frombuffer(json.dumps({**h, "count": len(s.cases)}).encode(), np.uint8)}
    if h["op"] == "cast":
        arrays["in"] = np.array([int(c["in"], 16) for c in s.cases], np.uint32)
        arrays["out"] = np.array([int(c["out"], 16) for c in s.cases], np.uint16 if h["code_bits"] > 8 else np.uint8)
        if "word_bits" in h:
            arrays["word"] = np.array([int(c["word"], 16) for c in s.cases], np.uint32)
    elif h["op"] == "gemm":
        for i, c in enumerate(s.cases):
            arrays |= {f"{key}_{i}": v.view(np.uint32) for key, v in gemms.product_of(c).items()}
    else:
        for i, c in enumerate(s.cases):
            arrays[f"in_{i}"] = numbers(c["in"], 32).reshape(c["shape"])
            arrays[f"codes_{i}"] = numbers(c["codes"], 16 if h["code_bits"] > 8 else 8).reshape(c["shape"])
            arrays[f"scales_{i}"] = numbers(c["scales"], h["scale_bits"]).reshape(c["scales_shape"])
            arrays[f"tensor_scale_{i}"] = np.uint32(int(c["tensor_scale"], 16))
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()
