"""Known differences: data, matched mechanically.

Each entry of `known.yaml` names a package and its versions, the cases (op, formats or quantizers, input, rounding, overflow) and the input
classes that it is about, and what comes out instead (`becomes`), as an alternative definition that is evaluated. An element is explained by
an entry only where everything fits and the alternative gives the very value that the target gave::

    id: unique name                      reason: why it differs, one or two sentences
    package: ml_dtypes                   source: where that is written, or `measured`
    versions: ">=0.5,<0.7"               source_level: read | measured | secondary
    op: cast
    formats: [e4m3, e5m2]                quantizers: [mxfp4, …]        left out: all; without parameters they stand for all of theirs
    case: {input: float64}               fields of the case that must match
    classes: [tie, near tie]             rows of the matrix; left out: all
    becomes: see `lpref.conformance.diff.alternatives`
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

import yaml

from lpref.conformance.targets.base import Case
from lpref.ref.errors import SpecError

FIELDS = ("id", "package", "versions", "op", "formats", "quantizers", "case", "classes", "becomes", "reason", "source", "source_level")
LEVELS = ("read", "measured", "secondary", "memory")


@dataclass(frozen=True)
class Known:
    """One known difference."""

    id: str
    package: str
    versions: str
    op: str
    becomes: Mapping[str, Any]
    reason: str
    source: str
    source_level: str
    formats: tuple[str, ...] = ()
    quantizers: tuple[str, ...] = ()
    case: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def covers(self, target: str, version: str, case: Case) -> bool:
        """Whether the entry is about this target, version and case."""
        if self.package != target or self.op != case.op or not version_in(version, self.versions):
            return False
        subject = getattr(case, "format", None) or getattr(case, "quantizer", "")
        allowed = self.formats or self.quantizers
        plain = str(subject).partition(":")[0] if not any(":" in a for a in allowed) else str(subject)
        if allowed and str(subject) not in allowed and plain not in allowed:
            return False
        return all(one_of(getattr(case, k, None), v) for k, v in self.case.items())


def one_of(value: Any, wanted: Any) -> bool:
    """Equal, or in the list."""
    return value in wanted if isinstance(wanted, list) else value == wanted


@cache
def known() -> tuple[Known, ...]:
    """All entries.

    Raises: SpecError with every problem of the file.
    """
    text = importlib.resources.files("lpref.conformance.diff").joinpath("known.yaml").read_text(encoding="utf-8")
    return read(text)


def read(text: str) -> tuple[Known, ...]:
    """The entries of a YAML text."""
    entries, problems = yaml.safe_load(text) or [], []
    must = {f.name for f in fields(Known) if f.name not in ("formats", "quantizers", "case", "classes")}
    for i, entry in enumerate(entries):
        name = entry.get("id", f"entry {i}")
        problems += [f"{name}: unknown field {k!r}" for k in entry if k not in FIELDS]
        problems += [f"{name}: no {k}" for k in sorted(must - set(entry))]
        if entry.get("source_level") not in LEVELS:
            problems.append(f"{name}: source_level: {entry.get('source_level')!r} is none of {', '.join(LEVELS)}")
    ids = [e.get("id") for e in entries]
    problems += [f"{i}: twice" for i in sorted({str(i) for i in ids if ids.count(i) > 1})]
    if problems:
        raise SpecError(problems, where="known.yaml")
    lists = ("formats", "quantizers", "classes")
    made: list[dict[str, Any]] = [{k: tuple(v) if k in lists else v for k, v in e.items()} for e in entries]
    return tuple(Known(**fields_) for fields_ in made)


def about(target: str, version: str, case: Case) -> list[Known]:
    """The entries that cover a case."""
    return [k for k in known() if k.covers(target, version, case)]


def numbers(version: str) -> tuple[int, ...]:
    """Leading numbers of a version: ``2.13.0+cpu`` is (2, 13, 0)."""
    return tuple(int(n) for n in re.findall(r"\d+", version.partition("+")[0])[:4])


def version_in(version: str, wanted: str) -> bool:
    """Whether a version satisfies comma-separated comparisons; ``*`` is any.

    >>> version_in("2.13.0+cpu", ">=2.13,<3"), version_in("0.5.2", "<0.5"), version_in("7bc4195", "==7bc4195")
    (True, False, True)
    """
    for part in wanted.replace(" ", "").split(","):
        match = re.fullmatch(r"(==|>=|<=|<|>)(.+)", part)
        if part == "*":
            continue
        if match is None:
            raise SpecError([f"versions: cannot read {part!r}"])
        sign, limit = match.groups()
        if sign == "==" and version == limit:
            continue
        a, b = numbers(version), numbers(limit)
        if not {"==": a == b, ">=": a >= b, "<=": a <= b, "<": a < b, ">": a > b}[sign]:
            return False
    return True
