"""Digests: CRC-32 of the codes of each 2^20 consecutive float32 patterns, over all 2^32; a kernel is proved without Python.

The codes of patterns 0, 1, 2, … (as float32 bits) are taken in that order, one byte each up to 8 bits, else two, the lower first. So that
there is one answer: NaN inputs give the format's canonical NaN code, inputs that the definition refuses give 0.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from lpref.conformance.intervals import ANY_NAN, PATTERNS, REFUSED, intervals
from lpref.conformance.targets.base import CastCase
from lpref.conformance.vectors.files import VERSION
from lpref.ref.formats import format as format_of

CHUNK = 1 << 20


def digest(case: CastCase) -> dict[str, Any]:
    """The digests of a deterministic cast; some ten seconds."""
    f = format_of(case.format)
    runs = intervals(f, case.rounding, case.overflow)
    codes = np.where(runs.codes == ANY_NAN, f.nan_code or 0, np.where(runs.codes == REFUSED, 0, runs.codes)).astype(f.code_dtype.newbyteorder("<"))
    found = []
    for start in range(0, PATTERNS, CHUNK):
        i = int(np.searchsorted(runs.starts, start, "right")) - 1
        j = int(np.searchsorted(runs.starts, start + CHUNK, "left"))
        bounds = np.clip(runs.starts[i : j + 1], start, start + CHUNK)
        found.append(f"{zlib.crc32(np.repeat(codes[i:j], np.diff(bounds)).data):08x}")
    return {
        "lpref_digests": VERSION, "op": "cast", "subject": f.name, "revision": f.revision, "rounding": case.rounding,
        "overflow": case.overflow, "bytes_per_code": codes.dtype.itemsize, "inputs_per_digest": CHUNK,
        "nan_code": None if f.nan_code is None else f"{f.nan_code:#x}", "refused": int(runs.refused), "license": "CC0-1.0", "crc32": found,
    }  # fmt: skip
