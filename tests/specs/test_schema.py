"""The JSON Schema that editors use: up to date, and in agreement with the loader."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from lpref.specs import KINDS, RECIPE, recipe
from lpref.specs.reading import parse
from lpref.specs.schema import json_schema, text

SPECS = Path(__file__).parents[2] / "specs"
VALIDATOR = jsonschema.Draft202012Validator(json_schema(RECIPE))


def test_file_is_up_to_date() -> None:
    """Regenerate: python -c "from lpref.specs.schema import text; open('specs/spec.schema.json', 'w').write(text())"."""
    assert (SPECS / "spec.schema.json").read_text(encoding="utf-8") == text()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_schema_is_a_schema(kind) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema(kind))


@pytest.mark.parametrize("name", RECIPE.names())
def test_recipes_fulfil_it(name: str) -> None:
    VALIDATOR.validate(parse((SPECS / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")))
    VALIDATOR.validate(parse(recipe(name).to_yaml()))


@pytest.mark.parametrize(
    "change",
    [
        {"titel": "x"},
        {"linear": {"fprop": {"a": {"source": "hpp"}}}},
        {"linear": {"wgrad": {"accumulate": {"chunk": "x"}}}},
        {"rules": {}},
        {"lpref": 2},
    ],
)
def test_it_finds_what_the_loader_finds(change: dict) -> None:
    assert list(VALIDATOR.iter_errors({"lpref": 1, "name": "x", **change}))
