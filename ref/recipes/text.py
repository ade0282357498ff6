"""Frozen dataclasses as plain mappings, and plain mappings as YAML text (block style, one field a line).

Only what a spec consists of: dataclasses, mappings with text keys, sequences, text, numbers, booleans, None. Numbers are written so
that they read back to the same bits (`repr`, with a point in the significand, which every YAML version takes for a number); text is
plain where no YAML version could read it as something else, else double-quoted. Reading is `lpref.specs`' part.

>>> print(dump({"a": {"b": [1, 2.0], "c": "on"}, "d": []}), end="")
a:
  b:
  - 1
  - 2.0
  c: "on"
d: []
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from html import escape
from typing import Any

from lpref.ref.scaling import Blocks

HEADER = "# yaml-language-server: $schema=spec.schema.json\nlpref: 1\n"

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*( [A-Za-z0-9_./+(-][A-Za-z0-9_./+()-]*)*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def to_mapping(value: Any, *, defaults: bool = True) -> Any:
    """`value` in mappings, lists and scalars; `defaults=False` leaves out fields that equal their default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f for f in dataclasses.fields(value) if f.init and (defaults or not _is_default(f, getattr(value, f.name)))]
        return {f.name: _blocks(value, f.name) or to_mapping(getattr(value, f.name), defaults=defaults) for f in fields}
    if isinstance(value, Mapping):
        return {str(k): to_mapping(v, defaults=defaults) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_mapping(v, defaults=defaults) for v in value]
    return value


def _blocks(owner: Any, name: str) -> str:
    """The whole axis is None in `Blocks` and ``all`` in YAML."""
    return "all" if isinstance(owner, Blocks) and getattr(owner, name) is None else ""


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        return bool(field.default == value)
    return field.default_factory is not dataclasses.MISSING and bool(field.default_factory() == value)


def scalar(value: Any) -> str:
    """One scalar as YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = repr(value).replace("inf", ".inf").replace("nan", ".nan")
        return re.sub(r"^(-?\d+)e", r"\1.0e", text)
    if isinstance(value, int):
        return str(value)
    text = str(value)
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else _quoted(text)


def _quoted(text: str) -> str:
    """Double-quoted, everything that is not printable escaped: \\uXXXX or \\UXXXXXXXX (YAML 1.2, sec. 5.7)."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" if ord(c) < 65536 else f"\\U{ord(c):08x}" for c in plain) + '"'


def _lines(value: Any, indent: str) -> list[str]:
    if isinstance(value, dict) and value:
        return [line for key, item in value.items() for line in _entry(f"{indent}{scalar(key)}:", item, indent)]
    if isinstance(value, list) and value:
        found = []
        for item in value:
            nested = isinstance(item, (dict, list)) and bool(item)
            inner = _lines(item, indent + "  ") if nested else [f"{indent}  {_empty(item)}"]
            found += [f"{indent}- {inner[0][len(indent) + 2 :]}", *inner[1:]]
        return found
    return [f"{indent}{_empty(value)}"]


def _entry(head: str, item: Any, indent: str) -> list[str]:
    if isinstance(item, dict) and item:
        return [head, *_lines(item, indent + "  ")]
    if isinstance(item, list) and item:
        return [head, *_lines(item, indent)]
    return [f"{head} {_empty(item)}"]


def _empty(value: Any) -> str:
    return "{}" if value == {} and isinstance(value, dict) else "[]" if isinstance(value, list) else scalar(value)


def dump(value: Any) -> str:
    """YAML text of a mapping (or of a dataclass, with all its fields)."""
    return "\n".join(_lines(to_mapping(value), "")) + "\n"


def html(recipe: Any) -> str:
    """A recipe's three GEMMs as an HTML table: operand by operand its source, format, blocks and rounding."""
    rows = []
    for gemm in ("fprop", "dgrad", "wgrad"):
        spec = recipe.linear.gemm(gemm)
        operands = "".join(f"<td>{escape(_operand(getattr(spec, side)))}</td>" for side in "ab")
        transform = "" if spec.transform is None else f"{spec.transform.kind} {spec.transform.size}, {spec.transform.signs} signs"
        rows.append(f"<tr><th>{gemm}</th>{operands}<td>{transform}</td><td>{spec.output}</td></tr>")
    head = "<tr><th></th><th>a</th><th>b</th><th>transform</th><th>output</th></tr>"
    return f"<table><caption><b>{escape(recipe.name)}</b>: {escape(recipe.title)}</caption>{head}{''.join(rows)}</table>"


def _operand(slot: Any) -> str:
    source = "" if slot.source == "hp" else f"{slot.source} {slot.of}".strip()
    if slot.split is not None:
        parts = "; ".join(f"{part} {_quantized(q)}" for part, q in slot.quantizers().items())
        return f"{slot.split.kind} split: {source or parts}"
    return source or "high precision" if slot.quantizer is None else ", ".join([_quantized(slot.quantizer), *([source] if source else [])])


def _quantized(q: Any) -> str:
    if q is None:
        return "in high precision"
    size = " x ".join("all" if n is None else str(n) for n in (q.blocks.other, q.blocks.k))
    return f"{q.format}, blocks {size} (other x k), {q.rounding}"
