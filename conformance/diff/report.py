"""What a comparison found: a `CaseReport` for each case, its matrix of input class x result, and one example of every difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lpref.conformance.diff.known import Known
from lpref.conformance.targets.base import Case

UNEXPLAINED = ""


@dataclass(frozen=True)
class Cell:
    """A cell of the matrix: so many inputs of a class gave a result; `known` is the entry that explains it (empty: none does)."""

    input_class: str
    result: str
    count: int
    known: str = UNEXPLAINED


@dataclass(frozen=True)
class Example:
    """The simplest input found for one difference: what went in, what came, what the definition gives. Lines of text, and plain data."""

    known: str
    text: tuple[str, ...]
    data: Mapping[str, Any] = field(default_factory=dict)
    trace: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseReport:
    """One case of one target. `same` and `cells` are by input class; `refused` inputs have no answer under the definition."""

    target: str
    version: str
    case: Case
    same: Mapping[str, int] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()
    refused: int = 0
    examples: tuple[Example, ...] = ()
    explained: tuple[Known, ...] = ()
    error: tuple[str, str] | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Inputs (blocks, elements) compared."""
        return sum(self.same.values()) + self.different

    @property
    def different(self) -> int:
        """How many differ."""
        return sum(c.count for c in self.cells)

    @property
    def unexplained(self) -> int:
        """How many differ without an explanation."""
        return sum(c.count for c in self.cells if not c.known)

    @property
    def status(self) -> str:
        """same | explained | unexplained | missing | refused | raised | crashed | timeout | answer."""
        if self.error:
            return self.error[0]
        return "unexplained" if self.unexplained else "explained" if self.cells else "same"

    @property
    def good(self) -> bool:
        """Nothing unexplained, and it answered."""
        return self.status in ("same", "explained")

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "target": self.target, "version": self.version, "op": self.case.op, "case": self.case.fields(), "status": self.status,
            "total": self.total, "different": self.different, "unexplained": self.unexplained, "refused": self.refused,
            "same": dict(self.same),
            "cells": [{"class": c.input_class, "result": c.result, "count": c.count, "known": c.known or None} for c in self.cells],
            "examples": [{"known": e.known or None, **e.data, **({"trace": list(e.trace)} if e.trace else {})} for e in self.examples],
            "error": None if self.error is None else {"kind": self.error[0], "message": self.error[1]},
            "notes": list(self.notes), **self.extra,
        }  # fmt: skip


def heading(r: CaseReport) -> str:
    """One line: target, case, outcome."""
    name = f"{r.target} {r.version}".strip()
    if r.error:
        return f"{name} · {r.case.op} {r.case}: {r.error[0]}: {r.error[1]}"
    said = f"{r.total} compared, " + (f"{r.different} differ, {r.unexplained} unexplained" if r.cells else "no difference")
    return f"{name} · {r.case.op} {r.case}: {r.status}: {said}" + (f", {r.refused} left out (undefined)" if r.refused else "")


def matrix(r: CaseReport) -> list[str]:
    """The matrix: one row for each input class that has inputs, one column for each result that occurs."""
    results = list(dict.fromkeys(c.result for c in r.cells))
    classes = list(dict.fromkeys([*r.same, *(c.input_class for c in r.cells)]))
    head = ["input", "same", *results]
    rows = []
    for name in classes:
        found = [sum(c.count for c in r.cells if c.input_class == name and c.result == result) for result in results]
        rows.append([name, str(r.same.get(name, 0)), *(str(n) if n else "·" for n in found)])
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return ["  " + "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))) for row in [head, *rows]]


def text(r: CaseReport) -> str:
    """The whole report of a case, for a terminal."""
    lines = [heading(r)]
    if r.cells:
        lines += matrix(r)
    by_id = {k.id: k for k in r.explained}
    for example in r.examples:
        entry = by_id.get(example.known)
        lines.append(f"  known: {entry.id}: {entry.reason} ({entry.source})" if entry else "  UNEXPLAINED; the simplest input that differs:")
        lines += [f"    {line}" for line in (*example.text, *example.trace)]
    lines += [f"  note: {note}" for note in r.notes]
    return "\n".join(lines)
