"""Dotted paths into a spec: change one field (`set`), or list every field that can be set.

A step is a field name, a key of a mapping, or an index into a list: ``rules.0.use``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lpref.ref.errors import LprefError
from lpref.ref.recipes.text import to_mapping
from lpref.specs.building import SHORT, chosen, dataclass_members, hints, item_type, known, members, shown


def set_path(cls: type, data: dict[str, Any], path: str, value: Any, problems: list[str]) -> None:
    """Set the field at `path` of the mapping `data` of a `cls`; a path that leads nowhere becomes a problem."""
    steps, container, kind = str(path).split("."), data, cls
    for depth, step in enumerate(steps):
        here, last = ".".join(steps[: depth + 1]), depth == len(steps) - 1
        if isinstance(container, list):
            if not step.isdigit() or int(step) >= len(container):
                problems.append(f"{here}: no such entry; the list has {len(container)}")
                return
            key: Any = int(step)
        elif isinstance(container, dict):
            key = step
            fields = hints(_class(kind, container)) if dataclass_members(kind) else None
            if fields is not None and key not in fields:
                problems.append(f"{here}: no such field; {known(key, fields)}")
                return
            if fields is None and key not in container and not last:
                problems.append(f"{here}: no such entry; {known(key, container)}")
                return
        else:
            parent = ".".join(steps[:depth])
            problems.append(f"{here}: {parent} is {shown(container)}, which has no fields; set {parent} first")
            return
        kind = _inner(kind, container, key)
        if last:
            container[key] = value
            return
        container[key] = _expanded(kind, container.get(key) if isinstance(container, dict) else container[key], here, problems)
        container = container[key]


def settable(value: Any, prefix: str = "") -> list[tuple[str, Any, str]]:
    """(path, value, type) of every leaf field of a spec, in order: what ``lpref show NAME --paths`` prints."""
    rows: list[tuple[str, Any, str]] = []
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for name, kind in hints(type(value)).items():
            inner, path = getattr(value, name), f"{prefix}{name}"
            rows += settable(inner, path + ".") if _has_fields(inner) else [(path, to_mapping(inner), type_name(kind))]
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            rows += settable(inner, f"{prefix}{key}.") if _has_fields(inner) else [(f"{prefix}{key}", inner, type(inner).__name__)]
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            rows += settable(inner, f"{prefix}{index}.") if _has_fields(inner) else [(f"{prefix}{index}", inner, type(inner).__name__)]
    return rows


def type_name(kind: Any) -> str:
    """A type as a reader of YAML knows it."""
    return str(getattr(kind, "__name__", None) if isinstance(kind, type) else kind).replace("typing.", "").replace("NoneType", "None")


def _has_fields(value: Any) -> bool:
    return dataclasses.is_dataclass(value) or (isinstance(value, (Mapping, tuple)) and len(value) > 0)


def _class(kind: Any, data: Mapping[str, Any]) -> type:
    classes = dataclass_members(kind)
    return chosen(classes, data) or classes[0]


def _inner(kind: Any, container: Any, key: Any) -> Any:
    if isinstance(container, dict) and dataclass_members(kind):
        return hints(_class(kind, container))[key]
    inner = item_type(kind)
    return inner if inner is not None else Any


def _expanded(kind: Any, value: Any, path: str, problems: list[str]) -> Any:
    """A short form (a quantizer's name) written out, so that a path can lead into it."""
    for cls in members(kind):
        if isinstance(value, str) and cls in SHORT:
            try:
                return to_mapping(SHORT[cls](value))
            except LprefError as error:
                problems.append(f"{path}: {error}")
    return value
