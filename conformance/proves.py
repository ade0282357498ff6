"""proves: the mark on tests that carry a claim, and the file of what they proved.

    @proves("{name}", "oracle")             # {name}: a parameter of the test
    @pytest.mark.parametrize("name", FORMATS)
    def test_every_code(name): ...

A name is a registered one (`lpref list KIND`); ``kind:name`` (``quantizer:nf4``) where kinds share it. Levels:

- oracle: bits equal the exact oracle of tests/oracle (another definition, in rational numbers)
- vectors: bits equal the exported or published vectors
- cpu, cuda: the backend's bits equal the reference's
- official: bits equal what the official code gives when run

``pytest --lpref-evidence=FILE`` writes what passed. Nobody edits the file; the `status` of every row is computed from it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

LEVELS = ("oracle", "vectors", "cpu", "cuda", "official")
Test = TypeVar("Test", bound=Callable[..., Any])


def proves(name: str, level: str) -> Callable[[Test], Test]:
    """Mark a test: passing, it proves `level` of `name`. Several may be stacked. ValueError for an unknown level."""
    import pytest

    if level not in LEVELS:
        raise ValueError(f"proves: level {level!r}; known: {', '.join(LEVELS)}")
    mark: Callable[[Test], Test] = pytest.mark.proves(name, level)
    return mark


@dataclass(frozen=True, order=True)
class Entry:
    """One claim and how its test went, all parametrisations that make the claim together."""

    name: str
    level: str
    test: str
    device: str
    commit: str = ""
    result: str = ""  # passed | failed | skipped: failed where one case failed, skipped where none ran
    cases: int = 1  # how many cases passed

    @property
    def file(self) -> str:
        """The test's file, relative to the root."""
        return self.test.partition("::")[0]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a later run replaces."""
        return (self.name, self.level, self.test, self.device)


def claims(item: Any) -> list[tuple[str, str]]:
    """The (name, level) of a collected test, its parameters filled in.

    `item` is a pytest Item. KeyError names a parameter that the test does not have.
    """
    spec = getattr(item, "callspec", None)
    params: Mapping[str, Any] = spec.params if spec is not None else {}
    return [(mark.args[0].format(**params), mark.args[1]) for mark in item.iter_markers("proves")]


def function(test: str) -> str:
    """A test's id without its parameters."""
    return test.partition("[")[0]


def summary(outcomes: Iterable[tuple[str, str, str, str]], devices: Mapping[str, str], commit: str) -> list[Entry]:
    """Entries from (name, level, test id, outcome) of every case."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for name, level, test, outcome in outcomes:
        found.setdefault((name, level, function(test)), []).append(outcome)
    worst = lambda results: next(r for r in ("failed", "passed", "skipped") if r in results)  # noqa: E731
    return [
        Entry(name, level, test, devices.get(level, devices[""]), commit, worst(results), results.count("passed"))
        for (name, level, test), results in found.items()
    ]


def read(path: Path) -> list[Entry]:
    """The entries of an evidence file; none where it does not exist."""
    return [Entry(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def merge(old: Iterable[Entry], new: Iterable[Entry], ran: set[str], root: Path) -> list[Entry]:
    """New entries, and those old ones that this run says nothing about.

    An old entry stays where its file exists and either was not part of the run (`ran`: files) or was recorded on a
    device that took no part in it.
    """
    new = list(new)
    here = {entry.device for entry in new}
    kept = [e for e in old if (root / e.file).is_file() and (e.file not in ran or e.device not in here)]
    return sorted({entry.key: entry for entry in [*kept, *new]}.values())


def write(path: Path, entries: Iterable[Entry]) -> None:
    """One entry a line, sorted, in one atomic step."""
    lines = [json.dumps(asdict(entry), sort_keys=True, ensure_ascii=False) for entry in sorted(entries)]
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(lines) + "\n]\n")
    os.chmod(name, 0o644)
    os.replace(name, path)
