"""JSON Schemas of the YAML files, derived from the dataclasses that read them."""

from __future__ import annotations

from typing import Any

from lpref.ref.errors import UnknownNameError

KINDS = ("train", "recipe", "quantizer")


def json_schema(kind: str = "train") -> dict[str, Any]:
    """The schema of one kind of file."""
    if kind not in KINDS:
        raise UnknownNameError("schema", kind, KINDS)
    if kind == "train":
        return train_schema()
    from lpref.specs.schema import json_schema as of

    from lpref.specs import KINDS as SPEC_KINDS

    return of(SPEC_KINDS[kind])
