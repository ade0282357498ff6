"""``-s key.path=value``: a value in YAML, put into a mapping at a dotted path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lpref.ref.errors import SpecError

_RECIPE_OWN = ("base", "set", "name", "extends")


def apply_overrides(
    mapping: Mapping[str, Any], assignments: Sequence[str] | Mapping[str, Any], parse: Any
) -> dict[str, Any]:
    """A copy of `mapping` with every assignment made, in order: texts ``path=value``, whose values `parse` reads, or {path: value}.

    A path below ``recipe`` changes that field of the named recipe: ``recipe.linear.wgrad.output=bfloat16`` gives
    ``{base: <the recipe>, set: {linear.wgrad.output: bfloat16}}``.

    >>> apply_overrides({"train": {"steps": 5}}, ["train.steps=7", "recipe=fp32"], lambda text: int(text) if text.isdigit() else text)
    {'train': {'steps': 7}, 'recipe': 'fp32'}
    """
    out = _copy(mapping)
    problems: list[str] = []
    for path, value in (
        assignments.items() if isinstance(assignments, Mapping) else _parsed(assignments, parse, problems)
    ):
        keys = path.split(".")
        if not all(keys):
            problems.append(f"{path!r}: not a path of fields")
        elif keys[0] == "recipe" and len(keys) > 1 and keys[1] not in _RECIPE_OWN:
            _set_in_recipe(out, ".".join(keys[1:]), value)
        elif problem := _set(out, keys, value):
            problems.append(f"{path}: {problem}")
    if problems:
        raise SpecError(problems, where="-s/--set")
    return out


def _parsed(texts: Sequence[str], parse: Any, problems: list[str]) -> Iterator[tuple[str, Any]]:
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals:
            problems.append(f"{text!r}: not of the form key.path=value")
            continue
        try:
            yield path.strip(), parse(value)
        except SpecError as error:
            problems.extend(f"{path.strip()}: {problem}" for problem in error.problems)


def _copy(value: Any) -> Any:
    return {key: _copy(part) for key, part in value.items()} if isinstance(value, Mapping) else value


def _set(mapping: dict[str, Any], keys: Sequence[str], value: Any) -> str:
    for i, key in enumerate(keys[:-1]):
        inner = mapping.setdefault(key, {})
        if not isinstance(inner, dict):
            return f"{'.'.join(keys[: i + 1])} is {inner!r}, not a mapping"
        mapping = inner
    mapping[keys[-1]] = value
    return ""


def _set_in_recipe(mapping: dict[str, Any], path: str, value: Any) -> None:
    recipe = mapping.get("recipe", "nvfp4")
    if not isinstance(recipe, dict) or not {"base", "set"} & set(recipe):
        recipe = {"base": recipe}
    mapping["recipe"] = {**recipe, "set": {**recipe.get("set", {}), path: value}}
