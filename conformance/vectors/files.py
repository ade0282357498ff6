"""Vector files: one header line, one line for each case; written and read, checked against the schema and their checksums."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lpref.ref.errors import SpecError

VERSION = 1
LIMIT = 1 << 20
"""No file is longer, in bytes."""
HERE = Path(__file__).parent
SUMS = "SHA256SUMS"
_TYPES = {"object": dict, "array": list, "string": str, "integer": int}


@dataclass(frozen=True)
class VectorSet:
    """The cases of one file. `header` as in the schema; `count` and `crc32` are filled in when it is written."""

    name: str  # file name without its ending
    header: Mapping[str, Any]
    cases: Sequence[Mapping[str, Any]]

    def text(self) -> str:
        """The file's contents."""
        body = "".join(json.dumps(case, separators=(",", ":"), ensure_ascii=False) + "\n" for case in self.cases)
        head = {**self.header, "count": len(self.cases), "crc32": f"{zlib.crc32(body.encode()):08x}"}
        return json.dumps(head, separators=(",", ":"), ensure_ascii=False) + "\n" + body


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of the lines."""
    found: dict[str, Any] = json.loads((HERE / "schema.json").read_text(encoding="utf-8"))
    return found


def problems(value: Any, rule: Mapping[str, Any], where: str) -> Iterator[str]:
    """What is wrong with a value, by the part of JSON Schema that schema.json uses; each names its field."""
    kind = _TYPES.get(rule.get("type", ""))
    if kind is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        yield f"{where}: {value!r} is no {rule['type']}"
        return
    if "const" in rule and value != rule["const"]:
        yield f"{where}: {value!r}, expected {rule['const']!r}"
    if "enum" in rule and value not in rule["enum"]:
        yield f"{where}: {value!r} is none of {', '.join(rule['enum'])}"
    if "pattern" in rule and not re.search(rule["pattern"], value):
        yield f"{where}: {value[:40]!r} does not match {rule['pattern']}"
    if "minimum" in rule and value < rule["minimum"]:
        yield f"{where}: {value!r} is below {rule['minimum']}"
    for name in rule.get("required", ()):
        if name not in value:
            yield f"{where}.{name}: missing"
    for name, part in value.items() if "properties" in rule else ():
        if name in rule["properties"]:
            yield from problems(part, rule["properties"][name], f"{where}.{name}")
        else:
            yield f"{where}.{name}: unknown field"
    for i, part in enumerate(value if "items" in rule else ()):
        yield from problems(part, rule["items"], f"{where}[{i}]")


def read(path: Path) -> VectorSet:
    """The set of a file.

    Raises: SpecError naming the file, the line and the field: no JSON, another version, a schema violation, a wrong checksum or count.
    """
    head, _, body = path.read_text(encoding="utf-8").partition("\n")
    rules = schema()["$defs"]
    header = _json(head, f"{path.name}, line 1")
    _raise(problems(header, rules["header"], f"{path.name}: header"))
    if f"{zlib.crc32(body.encode()):08x}" != header["crc32"]:
        _raise(iter([f"{path.name}: header.crc32: {header['crc32']!r}, the cases have {zlib.crc32(body.encode()):08x}"]))
    lines = body.splitlines()
    if len(lines) != header["count"]:
        _raise(iter([f"{path.name}: header.count: {header['count']}, the file has {len(lines)} cases"]))
    cases = [_json(line, f"{path.name}, line {i + 2}") for i, line in enumerate(lines)]
    for i, case in enumerate(cases):
        _raise(problems(case, rules[header["op"]], f"{path.name}, line {i + 2}"))
    return VectorSet(path.name.removesuffix(".jsonl"), header, cases)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SpecError([f"{where}: not JSON: {error}"], where="vectors") from None


def _raise(found: Iterator[str]) -> None:
    listed = list(found)
    if listed:
        raise SpecError(listed, where="vectors", remedy="export the vectors again; they are not edited by hand")


def sums(folder: Path) -> str:
    """`SHA256SUMS` of the files of a folder, as `sha256sum -c` reads it."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != SUMS)
    return "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)


def check_sums(folder: Path) -> None:
    """Every file that SHA256SUMS names, against its sum. SpecError names what is missing or differs; a folder without sums passes."""
    path = folder / SUMS
    if not path.is_file():
        return
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        want, _, name = line.partition("  ")
        if not (folder / name).is_file():
            found.append(f"{SUMS}: {name}: missing")
        elif hashlib.sha256((folder / name).read_bytes()).hexdigest() != want:
            found.append(f"{SUMS}: {name}: checksum differs")
    _raise(iter(found))
