"""JSON Schemas of the YAML files, derived from the dataclasses that read them.

``specs/train.schema.json`` is `train_schema` of this version; a test regenerates and compares it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lpref.ref.errors import UnknownNameError

KINDS = ("train", "recipe", "quantizer")
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(kind: str = "train") -> dict[str, Any]:
    """The schema of one kind of file."""
    if kind not in KINDS:
        raise UnknownNameError("schema", kind, KINDS)
    if kind == "train":
        return train_schema()
    from lpref.specs.loader import KINDS as SPEC_KINDS
    from lpref.specs.schema import json_schema as of

    return of(SPEC_KINDS[kind])


def train_schema() -> dict[str, Any]:
    """A training spec: model, optimizer and schedule by `kind`; the recipe as a name, a path or a mapping."""
    from lpref.models import CONFIGS
    from lpref.ref.optim import RULES, SCHEDULES, Schedule
    from lpref.trainer.catalog import spec_names
    from lpref.trainer.spec import TrainSpec

    schema = of_dataclass(TrainSpec)
    fields = schema["properties"]
    storage = {"storage_of": {"type": "object"}, "no_decay": {"type": "array", "items": {"type": "string"}}}
    fields["model"] = by_kind(CONFIGS, {})
    fields["optimizer"] = by_kind(RULES, storage)
    fields["schedule"] = {"anyOf": [{"enum": sorted(SCHEDULES)}, of_dataclass(Schedule)]}
    fields["recipe"] = {"anyOf": [{"enum": spec_names("recipes")}, {"type": "string"}, {"type": "object"}]}
    extra = {"lpref": {"const": 1}, "extends": {"type": "string"}}
    return {
        **schema,
        "$schema": DRAFT,
        "properties": {**extra, **fields},
        "required": ["lpref"],
        "additionalProperties": False,
    }


def train_schema_text() -> str:
    """The content of ``specs/train.schema.json``."""
    return json.dumps(train_schema(), indent=1) + "\n"


def by_kind(classes: Mapping[str, type], extra: Mapping[str, Any]) -> dict[str, Any]:
    """One of several mappings told apart by `kind`; the kind alone stands for its defaults."""
    options = []
    for kind, cls in classes.items():
        schema = of_dataclass(cls)
        properties = {"kind": {"const": kind}, **schema.get("properties", {}), **extra}
        options.append({**schema, "properties": properties, "required": ["kind"], "additionalProperties": False})
    return {"anyOf": [{"enum": list(classes)}, *options]}


def of_dataclass(cls: type) -> dict[str, Any]:
    """pydantic's schema of a dataclass, its references written out."""
    import pydantic

    schema = pydantic.TypeAdapter(cls).json_schema()
    definitions = schema.pop("$defs", {})
    made = _inlined(schema, definitions)
    return {**made, "required": []} if "required" in made else made


def _inlined(value: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        if "$ref" in value:
            return _inlined(definitions[value["$ref"].rsplit("/", 1)[-1]], definitions)
        return {key: _inlined(part, definitions) for key, part in value.items()}
    return [_inlined(part, definitions) for part in value] if isinstance(value, list) else value
