"""Figures as they are found, a line each in ``figures.jsonl``: what a call that was killed had found, the next one need not find again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lpref.ref.errors import OutputError
from lpref.trainer.files import typed_os_errors
from lpref.trainer.metrics import to_json


@dataclass(frozen=True)
class Found:
    """The figure of one run, its seconds of CPU time, the backend and the processor that it ran on, and the commit."""

    value: float
    seconds: float
    backend: str
    device: str
    commit: str


class Ledger:
    """key -> Found. A key is the hash of all that decides a figure, so equal runs of two experiments share it.

    A last line without its newline is what a kill left, and is cut off. Raises: OutputError for any other line that is no figure.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Found] = {}
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        whole, _, torn = text.rpartition("\n")
        for number, line in enumerate(whole.splitlines(), 1):
            self._read(line, number)
        if torn:
            with typed_os_errors(path):
                path.write_text(whole + "\n" if whole else "", encoding="utf-8")

    def _read(self, line: str, number: int) -> None:
        try:
            row = json.loads(line)
            self.found[row["key"]] = Found(float(row["value"]), float(row["seconds"]), *(str(row[name]) for name in ("backend", "device", "commit")))
        except (ValueError, KeyError, TypeError):
            problem = f"line {number} is not a figure: {line[:60]!r}"
            raise OutputError(problem, where=str(self.path), remedy="remove the file; its figures run again") from None

    def put(self, key: str, found: Found, experiment: str, arm: str, seed: int) -> None:
        """Adds a line; experiment, arm and seed are for readers."""
        self.found[key] = found
        row = {"key": key, "experiment": experiment, "arm": arm, "seed": seed, **asdict(found)}
        with typed_os_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(to_json(row), allow_nan=False) + "\n")
