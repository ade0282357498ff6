"""The page of a format, quantizer, recipe or optimizer, as text and as data."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lpref.ref.errors import SpecError
from lpref.ref.formats import VectorFormat
from lpref.ref.rounding import overflow
from lpref.trainer.catalog import find, quantizer_title
from lpref.trainer.show_format import format_text

TAIL = {
    "error": "an axis that is no multiple of its block raises ShapeError",
    "pad_zero": "the last block of an axis is shorter; stored layouts are padded with zero codes to whole blocks",
    "partial": "the last block of an axis is shorter; stored layouts stay ragged",
}


@dataclass(frozen=True)
class Page:
    """`text` for a person, `data` for ``--json``."""

    text: str
    data: dict[str, Any]


def show(name: str, *, paths: bool = False, other: str | None = None, value: str | None = None) -> Page:
    """The page; with `paths` the settable paths, with `other` the differences, with `value` where it lies in a format."""
    kind, thing = find(name)
    if value is not None and (kind != "format" or isinstance(thing, VectorFormat)):
        raise SpecError([f"{name} is a {kind}; --value asks where a number lies in a format"], where="show")
    if other is not None:
        return difference(name, kind, thing, other)
    if paths:
        return paths_page(name, kind, thing)
    if kind == "format":
        return format_page(thing, value)
    return {"quantizer": quantizer_page, "recipe": recipe_page, "optimizer": optimizer_page}[
        kind
    ](name, thing)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """{dotted path: plain value} of nested dataclasses, mappings and sequences."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts: Any = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
    elif isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, (list, tuple)) and any(
        dataclasses.is_dataclass(v) or isinstance(v, (Mapping, list, tuple)) for v in value
    ):
        parts = enumerate(value)
    else:
        return {path: list(value) if isinstance(value, tuple) else value}
    out: dict[str, Any] = {}
    for key, part in parts:
        out.update(leaves(part, f"{path}.{key}" if path else str(key)))
    return out or {path: {}}


def paths_page(name: str, kind: str, thing: Any) -> Page:
    """Every settable path with its value and type."""
    if isinstance(thing, type):
        thing = thing()
    from lpref.specs.paths import settable

    rows = [{"path": path, "value": value, "type": kind} for path, value, kind in settable(thing)]
    width = max((len(row["path"]) for row in rows), default=0)
    return Page(
        "\n".join(f"{r['path']:{width}}  {r['value']!r}  ({r['type']})" for r in rows),
        {"name": name, "kind": kind, "paths": rows},
    )


def difference(name: str, kind: str, thing: Any, other: str) -> Page:
    """Paths whose values differ."""
    other_kind, second = find(f"{kind}:{other}" if ":" not in other else other)
    if kind != other_kind:
        raise SpecError(
            [f"{name} is a {kind}, {other} a {other_kind}"], where="show --diff", remedy="compare two of one kind"
        )
    a, b = (
        leaves(thing() if isinstance(thing, type) else thing),
        leaves(second() if isinstance(second, type) else second),
    )
    rows = [
        {"path": p, name: a.get(p), other: b.get(p)}
        for p in dict.fromkeys([*a, *b])
        if a.get(p) != b.get(p) or (p in a) != (p in b)
    ]
    width = max((len(str(r["path"])) for r in rows), default=0)
    lines = [f"{r['path']:{width}}  {r[name]!r} -> {r[other]!r}" for r in rows]
    return Page("\n".join(lines) or "no difference", {"kind": kind, "a": name, "b": other, "differences": rows})


def prose(thing: Any) -> str:
    """The docstring of the page that defines `thing`."""
    module = getattr(thing, "module", "") or (thing.__module__ if inspect.isclass(thing) else "")
    return inspect.cleandoc(sys.modules[module].__doc__ or "") if module in sys.modules else ""


def vector_page(f: VectorFormat) -> Page:
    """Figures and the vectors by code."""
    facts = {key: getattr(f, key) for key in ("name", "title", "bits", "standard", "source_level", "revision", "dimension")}
    table = [{"code": code, "bits": f"{code:0{f.bits}b}", "vector": list(v)} for code, v in enumerate(f.vectors)]
    lines = [f"{f.name}: {f.title}", "", *(f"{key:14} {facts[key]}" for key in list(facts)[2:]), ""]
    lines += [f"{code:0{f.bits}b}  ({', '.join(f'{x:g}' for x in v)})" for code, v in enumerate(f.vectors)]
    return Page("\n".join([*lines, "", prose(f)]), {"kind": "format", **facts, "values": table})


def format_page(f: Any, value: str | None) -> Page:
    """The page of `show_format`; code books of vectors have their own."""
    if isinstance(f, VectorFormat):
        return vector_page(f)
    return Page(*format_text(f, prose(f), value))


def quantizer_page(name: str, q: Any) -> Page:
    """What it does, every field, and the page of its scale rule, which states zero blocks, NaN and infinity."""
    from lpref.ref.scaling import PAGES

    found = leaves(q)
    page = (
        inspect.getdoc(PAGES[q.scale.rule])
        if q.scale.rule in PAGES
        else "No scale: the element format's own conversion."
    )
    lines = [f"{name}: {quantizer_title(q)}", *([f"source: {q.standard}"] if q.standard else []), ""]
    lines += [f"{path:18} {value}" for path, value in found.items() if path not in ("name", "standard")]
    lines += ["", f"overflow {q.overflow}: {overflow(q.overflow)}", f"tail {q.tail}: {TAIL[q.tail]}", "", page or ""]
    return Page(
        "\n".join(lines),
        {"kind": "quantizer", "name": name, "title": quantizer_title(q), "fields": found, "prose": page},
    )


def recipe_page(name: str, recipe: Any) -> Page:
    """Title, source, the prose of its file, and the fields that differ from their defaults as YAML."""
    from lpref.specs import to_yaml
    from lpref.specs.page import recipe_prose

    prose = recipe_prose(name.partition("@")[0])
    lines = [f"{recipe.name}: {recipe.title}", f"source: {recipe.source} (source level: {recipe.source_level})", f"family: {recipe.family}", ""]
    lines += [f"{label}: {text}".replace("\n", "\n    ") for label, text in prose.items()]
    lines += ["", to_yaml(recipe, defaults=False).rstrip(), f"# every field: lpref show {name} --paths"]
    data = {"kind": "recipe", "name": name, "title": recipe.title, "source": recipe.source, "prose": prose, "fields": leaves(recipe)}
    return Page("\n".join(lines), data)


def optimizer_page(name: str, rule: Any) -> Page:
    """The rule's page and its hyper-parameters."""
    fields = leaves(rule())
    lines = [prose(rule), "", *(f"{path:18} {value}" for path, value in fields.items())]
    return Page("\n".join(lines), {"kind": "optimizer", "name": name, "fields": fields, "prose": prose(rule)})
