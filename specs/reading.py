"""YAML text in, plain mappings out: safe tags only, YAML 1.2 scalars, and limits on everything that could grow.

Refused with a `SpecError` that names the line: text that is not UTF-8, more than 1 MiB, more than 50 000 nodes, nesting deeper
than 40, aliases and anchors (`extends` reuses a spec, an alias bomb cannot be written), several documents, duplicate or
non-text keys, integers beyond 64 bits, tags.

Scalars are those of the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema): `1e-3` is a number, `no` and
`1:30` are text. PyYAML follows YAML 1.1 by default, where these three read otherwise.

>>> parse("lr: 1e-3\\nname: no\\n")
{'lr': 0.001, 'name': 'no'}
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from lpref.ref.errors import SpecError

MAX_BYTES, MAX_NODES, MAX_DEPTH = 1 << 20, 50_000, 40

_INT = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_SCALARS: list[tuple[str, re.Pattern[str], list[str]]] = [
    ("tag:yaml.org,2002:null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    ("tag:yaml.org,2002:int", _INT, list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
        list("-+.0123456789"),
    ),
]


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2 and without duplicate keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                found = key.value if isinstance(key, yaml.ScalarNode) else "a collection"
                raise yaml.constructor.ConstructorError(None, None, f"a field name must be text, not {str(found)[:40]!r}", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the field {key.value[:60]!r} stands twice in one mapping", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_int(self, node: Any) -> int:
        text = self.construct_scalar(node)
        value = int(text, 0 if text[:2] in ("0x", "0o") else 10) if len(text) <= 24 else 1 << 64
        if not -(1 << 63) <= value < 1 << 64:
            raise yaml.constructor.ConstructorError(None, None, f"the integer {text[:24]}… does not fit in 64 bits", node.start_mark)
        return value

    def construct_real(self, node: Any) -> float:
        text = self.construct_scalar(node).lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1's
for _tag, _pattern, _first in _SCALARS:
    for _character in _first:
        _Loader.yaml_implicit_resolvers.setdefault(_character, []).append((_tag, re.compile(f"^(?:{_pattern.pattern})$")))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_real)


def _check_size(text: str, where: str) -> None:
    """Walk the events once (no recursion, nothing expanded) and refuse what is too deep, too large or aliased."""
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        mark = event.start_mark
        line = f"line {mark.line + 1 if mark else 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise SpecError([f"{line}: anchors and aliases are not part of a spec; write the value out, or use `extends`"], where=where)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        nodes += isinstance(event, yaml.NodeEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > MAX_DEPTH:
            raise SpecError([f"{line}: nested deeper than {MAX_DEPTH} levels"], where=where)
        if nodes > MAX_NODES:
            raise SpecError([f"{line}: more than {MAX_NODES} values"], where=where)
        if documents > 1:
            raise SpecError([f"{line}: a second document; a spec is one document"], where=where)


def parse_value(text: str, where: str = "") -> Any:
    """Any YAML value: what stands right of `=` in ``-s key=value``."""
    if len(text) > MAX_BYTES:
        raise SpecError([f"{len(text)} characters; a spec has at most {MAX_BYTES}"], where=where)
    try:
        _check_size(text, where)
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SpecError([f"{place}{error.problem or error.context or 'not valid YAML'}"], where=where) from None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError([f"not valid YAML: {str(error).splitlines()[0][:200]}"], where=where) from None


def parse(text: str, where: str = "") -> dict[str, Any]:
    """A YAML document whose top level is a mapping."""
    value = parse_value(text, where)
    if not isinstance(value, dict):
        found = "nothing" if value is None else type(value).__name__
        raise SpecError([f"a spec is a mapping of fields, this is {found}"], where=where)
    return value


def read_text(path: str | Path) -> str:
    """The text of a file; every way in which that can fail is a SpecError that names the path."""
    file, where = Path(path), str(path)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        near = sorted(p.name for p in file.parent.glob("*.y*ml"))[:12] if file.parent.is_dir() else []
        raise SpecError(["no such file"], where=where, remedy=f"the folder holds {', '.join(near)}" if near else "check the path") from None
    except IsADirectoryError:
        raise SpecError(["is a folder, not a file"], where=where) from None
    except (OSError, ValueError) as error:
        raise SpecError([f"cannot be read: {error}"], where=where) from None
    if len(data) > MAX_BYTES:
        raise SpecError([f"{len(data)} bytes; a spec has at most {MAX_BYTES}"], where=where)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError([f"not UTF-8: byte {error.start} is 0x{data[error.start]:02x}"], where=where, remedy="save it as UTF-8") from None
