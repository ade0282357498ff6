"""Schemas of the YAML files: current, valid, and accepting what ships."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from lpref.specs.reading import parse
from lpref.trainer.schema import KINDS, json_schema, train_schema_text
from lpref.trainer.spec import load_spec, plain, spec_names

SPECS = Path(__file__).resolve().parents[2] / "specs"


def test_the_shipped_schema_is_current() -> None:
    assert (SPECS / "train.schema.json").read_text() == train_schema_text(), (
        "write it again: lpref.trainer.schema.train_schema_text()"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_are_schemas(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema(kind))


@pytest.mark.parametrize("name", spec_names())
def test_every_shipped_spec_is_accepted_loads_and_round_trips(name: str) -> None:
    text = (SPECS / f"{name}.yaml").read_text()
    assert "$schema=../train.schema.json" in text.splitlines()[0]
    validator = jsonschema.Draft202012Validator(json_schema("train"))
    assert not list(validator.iter_errors(parse(text)))
    spec = load_spec(name)
    assert load_spec(spec) == spec
    assert load_spec(plain(spec)) == spec


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    validator = jsonschema.Draft202012Validator(json_schema("train"))
    good = parse((SPECS / "train" / "default.yaml").read_text())
    for change in (
        {"model": {"kind": "gpt", "layer": 2}},
        {"train": {"steps": "many"}},
        {"nonsense": 1},
        {"numerics": "exactly"},
    ):
        assert list(validator.iter_errors({**good, **change})), change
