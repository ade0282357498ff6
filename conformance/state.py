"""The state file of a long proof: JSON, written whole beside its place and moved there in one step; and what must match to resume it."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lpref.conformance.intervals import Intervals
from lpref.ref.errors import SpecError

VERSION = 1
FRESH: dict[str, Any] = {"done": 0, "seconds": 0.0, "failures": 0, "first": None}


def digest(passes: Sequence[Intervals]) -> str:
    """CRC-32 of the definition's intervals: a state of another definition is not resumed."""
    crc = 0
    for runs in passes:
        crc = zlib.crc32(runs.codes.astype("<i8").tobytes(), zlib.crc32(runs.starts.astype("<i8").tobytes(), crc))
    return f"{crc:08x}"


def load(path: Path | None, what: dict[str, Any]) -> dict[str, Any]:
    """The saved counts, or fresh ones where there is no file.

    Raises: SpecError for a file that is no state, and for the state of something else, naming the field.
    """
    if path is None or not path.exists():
        return dict(FRESH)
    remedy = "give another --resume file, or remove this one"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        data = None
    if not isinstance(data, dict) or data.get("lpref_state") != VERSION or not isinstance(data.get("what"), dict):
        raise SpecError([f"{path}: not the state of a proof"], where="prove", remedy=remedy)
    wrong = [f"{path}: {k} is {data['what'].get(k)!r}, this proof's is {v!r}" for k, v in what.items() if data["what"].get(k) != v]
    if wrong:
        raise SpecError(wrong, where="prove", remedy=remedy)
    return {k: data[k] for k in FRESH}


def save(path: Path, what: dict[str, Any], counts: dict[str, Any]) -> None:
    """Write the state in one atomic step."""
    text = json.dumps({"lpref_state": VERSION, "what": what, **counts}, indent=1)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
