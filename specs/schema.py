"""JSON Schema of the specs, generated from their dataclasses: editors complete and check the YAML with it.

The file ``spec.schema.json`` beside this module is `document` of every kind of spec; a test regenerates and compares it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pydantic

from lpref.specs.building import SHORT
from lpref.specs.loader import KINDS, VERSION, Kind

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_HEAD: dict[str, Any] = {
    "lpref": {"const": VERSION, "description": "version of the spec language"},
    "extends": {"type": "string", "description": "start from this spec (a name, or a path) and lay the fields of this one over it"},
    "base": {"type": "string", "description": "the same as extends, for short mappings"},
    "set": {"type": "object", "description": "dotted path: value, changed last"},
}


def json_schema(kind: Kind) -> dict[str, Any]:
    """The schema of one kind of spec, with the short forms that the loader reads."""
    made = pydantic.TypeAdapter(kind.cls).json_schema()
    definitions = {name: _definition(name, body) for name, body in made.pop("$defs", {}).items()}
    top = _closed(_with_none(made))
    top["properties"] = {**_HEAD, **top["properties"]}
    required = top.pop("required", [])
    if required:
        top["anyOf"] = [{"required": required}, {"required": ["extends"]}, {"required": ["base"]}]
    return {"$schema": DIALECT, **top, "$defs": definitions}


def document(schemas: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One schema for files of any of the kinds whose schemas are given."""
    parts, definitions = [], {}
    for schema in schemas:
        definitions.update(schema.get("$defs", {}))
        part = {key: value for key, value in schema.items() if key not in ("$schema", "$defs")}
        parts.append({**part, "properties": {"lpref": _HEAD["lpref"], **part.get("properties", {})}} if "properties" in part else part)
    return {"$schema": DIALECT, "title": "lpref spec", "anyOf": parts, "$defs": dict(sorted(definitions.items()))}


def text(schemas: Iterable[dict[str, Any]] | None = None) -> str:
    """`document` as the file has it; without argument, of the kinds that this package reads."""
    found = [json_schema(kind) for kind in KINDS.values()] if schemas is None else schemas
    return json.dumps(document(found), indent=1, ensure_ascii=False) + "\n"


def _definition(name: str, body: dict[str, Any]) -> dict[str, Any]:
    """A nested dataclass: closed, and beside it its short forms."""
    body = _closed(_with_none(body))
    if name == "Blocks":
        for field in body["properties"].values():
            field["anyOf"] = [*field["anyOf"], {"const": "all"}]
    kinds = body.get("properties", {}).get("kind", {})
    words = kinds.get("enum", [kinds["const"]] if "const" in kinds else [])
    if name in {cls.__name__ for cls in SHORT}:
        if "properties" in body:
            body["properties"] = {"base": {"type": "string"}, **body["properties"]}
            body.pop("required", None)
        return {"anyOf": [body, {"type": "string"}]}
    return {"anyOf": [body, {"enum": words}]} if words else body


def _closed(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "additionalProperties": False} if "properties" in body else body


def _with_none(value: Any) -> Any:
    """``none`` wherever null may stand; no defaults but plain ones and the first line of descriptions, which editors show."""
    if isinstance(value, list):
        return [_with_none(v) for v in value]
    if not isinstance(value, dict):
        return value
    value = {k: _with_none(v) for k, v in value.items() if k != "default" or not isinstance(v, (dict, list))}
    choices = value.get("anyOf", [])
    if isinstance(value.get("description"), str):
        value["description"] = value["description"].strip().splitlines()[0]
    if {"type": "null"} in choices:
        value["anyOf"] = [*choices, {"const": "none"}]
    return value
