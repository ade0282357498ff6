"""``metrics.jsonl``: one JSON object a line, one line a logged step; appended, flushed, and cut back on resume."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from lpref.ref.errors import CheckpointError
from lpref.trainer.files import typed_os_errors, write_atomic


def to_json(value: Any) -> Any:
    """Plain JSON values; a non-finite number becomes the text "nan", "inf" or "-inf" (JSON has none)."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {str(key): to_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(part) for part in value]
    return value


class MetricsWriter:
    """Appends records; each line reaches the operating system before the next step begins, so a ``kill -9`` loses none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with typed_os_errors(path):
            self._file: TextIO = open(path, "a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """One line. `record` has an integer ``step``."""
        with typed_os_errors(self.path):
            self._file.write(json.dumps(to_json(record), allow_nan=False) + "\n")
            self._file.flush()

    def sync(self) -> None:
        """Makes everything written so far durable (called with every checkpoint)."""
        with typed_os_errors(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_records(path: Path) -> list[dict[str, Any]]:
    """All whole records. A last line without newline is what a killed run left and is not a record; any other bad line is an error."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    lines = text.split("\n")
    records = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = json.loads(line)
            record["step"]
        except (ValueError, KeyError, TypeError):
            raise CheckpointError(
                f"line {number} is not a metrics record: {line[:60]!r}",
                where=str(path),
                remedy="restore the file or start anew",
            ) from None
        records.append(record)
    return records


def truncate(path: Path, step: int) -> int:
    """Keeps the records of steps up to and including `step`, without closing records; returns how many were dropped."""
    records = read_records(path)
    kept = [record for record in records if record["step"] <= step and "end" not in record]
    write_atomic(path, "".join(json.dumps(record) + "\n" for record in kept))
    return len(records) - len(kept)


def columns(records: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """One float64 array per scalar key, one entry a record, NaN where a record lacks it; nested keys are joined by dots.

    >>> columns([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5, "valid": {"bpb": 3.0}}])["valid.bpb"]
    array([nan,  3.])
    """
    flat = [_flat(record) for record in records]
    keys = dict.fromkeys(key for record in flat for key in record)
    return {key: np.array([record.get(key, math.nan) for record in flat]) for key in keys}


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, float]:
    out: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            out.update(_flat(value, f"{prefix}{key}."))
        elif isinstance(value, (int, float)):
            out[prefix + key] = float(value)
        elif value in ("nan", "inf", "-inf"):
            out[prefix + key] = float(value)
    return out
