"""From a name, a path, YAML text or a mapping to a validated, frozen spec; and back to YAML.

A file starts with ``lpref: 1``. ``extends: NAME`` starts from another spec, resolved, and merges the fields of this one into it:
mappings deeply, lists as a whole, and a mapping whose `kind` or `base` differs as a whole. ``base: NAME`` is the same word for short
mappings; ``set: {dotted.path: value}`` then changes single fields, and refuses a path that does not exist.

>>> from lpref.specs.loader import RECIPE, load
>>> load({"base": "nvfp4", "set": {"linear.wgrad.transform": "none"}}, RECIPE).linear.wgrad.transform is None
True
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from lpref.ref.errors import LprefError, SpecError, UnknownNameError
from lpref.ref.linalg import Accumulate, accumulator
from lpref.ref.quantize import Quantizer, lookup
from lpref.ref.recipes import LinearRecipe, Recipe
from lpref.ref.recipes.text import dump, to_mapping
from lpref.specs.building import SHORT, build
from lpref.specs.paths import set_path
from lpref.specs.reading import parse, read_text

VERSION = 1
MAX_EXTENDS = 8


@dataclass(frozen=True)
class Kind:
    """A kind of spec: its name, its dataclass, and the folder below `specs` that holds the named ones."""

    name: str
    cls: type
    folder: str

    def names(self) -> list[str]:
        """The names of the specs that come with the package."""
        folder = resources.files("lpref.specs") / self.folder
        return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")) if folder.is_dir() else []


RECIPE = Kind("recipe", Recipe, "recipes")
QUANTIZER = Kind("quantizer", Quantizer, "quantizers")
KINDS: dict[str, Kind] = {kind.name: kind for kind in (RECIPE, QUANTIZER)}


def load(source: Any, kind: Kind, set: Mapping[str, Any] | None = None, where: str = "") -> Any:
    """The spec that `source` (name, path, mapping, or an instance already) describes, with the fields of `set` changed.

    Raises SpecError with every problem found, UnknownNameError for a name that no spec has.
    """
    where = where or (str(source) if isinstance(source, (str, Path)) else "")
    if isinstance(source, kind.cls) and not set:
        return source
    try:
        return _load(source, kind, dict(set or {}), where, ())
    except SpecError as error:
        error.where = error.where or where
        raise


def load_text(text: str, kind: Kind, where: str = "") -> Any:
    """The spec that a YAML text describes."""
    return load({"lpref": None, **parse(text, where)}, kind, where=where)


def to_yaml(value: Any, schema: str = "spec.schema.json", *, defaults: bool = True) -> str:
    """`value` as a YAML file; the first line points editors to the schema. Reads back to an equal value."""
    head = f"# yaml-language-server: $schema={schema}\nlpref: {VERSION}\n"
    return head + dump(to_mapping(value, defaults=defaults))


def _load(source: Any, kind: Kind, changes: dict[str, Any], where: str, chain: tuple[str, ...]) -> Any:
    if isinstance(source, kind.cls):
        data = to_mapping(source)
    elif isinstance(source, Mapping):
        data = dict(source)
    elif isinstance(source, (str, Path)):
        data, where, chain = _named(source, kind, where, chain)
    else:
        raise SpecError([f"a {kind.name} is a name, a path or a mapping, not {type(source).__name__}"], where=where)
    version = version_problems(data.pop("lpref", VERSION))
    problems: list[str] = []
    changes = {**_mapping(data.pop("set", {}), "set", problems), **changes}
    parents = [data.pop(word) for word in ("base", "extends") if word in data]
    if len(parents) > 1:
        problems.append("extends: stands beside base; write one of them")
    if parents and not problems:
        inherited = to_mapping(_load(parents[0], kind, {}, where, chain))
        anonymous = {"name": "", "standard": ""} if kind.cls is Quantizer and (data or changes) else {}  # changed: another definition
        data = merge({**inherited, **anonymous}, data)
    if problems:
        raise SpecError([*version, *problems], where=where)
    try:
        made = _finish(kind.cls, data, changes, where)
    except SpecError as error:
        raise SpecError([*version, *error.problems], where=where) from None
    if version:
        raise SpecError(version, where=where)
    return made


def _finish(cls: type, data: dict[str, Any], changes: dict[str, Any], where: str) -> Any:
    if not changes:
        return build(cls, data, where)
    problems: list[str] = []
    data = to_mapping(build(cls, data, where))
    for path, value in changes.items():
        set_path(cls, data, path, value, problems)
    try:
        made = build(cls, data, where)
    except SpecError as error:
        raise SpecError([*problems, *error.problems], where=where) from None
    if problems:
        raise SpecError(problems, where=where)
    return made


def _named(source: str | Path, kind: Kind, where: str, chain: tuple[str, ...]) -> tuple[dict[str, Any], str, tuple[str, ...]]:
    """The mapping of a file that is given by path, or by the name of one that comes with the package."""
    text = str(source)
    if isinstance(source, Path) or text.endswith((".yaml", ".yml")) or "/" in text or "\\" in text:
        path = Path(text)
        beside = Path(chain[-1]).parent / path if chain else path
        place = str(beside if not path.is_absolute() and beside.is_file() else path)
        content = "" if place in chain else read_text(place)
    else:
        if kind.cls is Quantizer:  # registered in ref, not a file
            return to_mapping(lookup(text)), where, chain
        name, _, revision = text.partition("@")
        if name not in kind.names():
            raise UnknownNameError(kind.name, name, kind.names(), where=where if where != text else "")
        file = resources.files("lpref.specs") / kind.folder / f"{name}.yaml"
        place, content = str(file), file.read_text(encoding="utf-8")
        newest = str(parse(content, place).get("revision", 1))
        if revision not in ("", newest):
            raise UnknownNameError(f"revision of {kind.name}", text, [f"{name}@{newest}"], where=where if where != text else "")
    if place in chain or len(chain) >= MAX_EXTENDS:
        steps = " → ".join(Path(p).name for p in (*chain, place))
        raise SpecError([f"extends: {steps} {'goes in a circle' if place in chain else f'is longer than {MAX_EXTENDS} files'}"], where=where)
    return {"lpref": None, **parse(content, place)}, place, (*chain, place)


def version_problems(version: Any) -> list[str]:
    """What is wrong with the `lpref:` of a file; None stands for none."""
    if version == VERSION and not isinstance(version, bool):
        return []
    found = "missing" if version is None else f"{version!r} is not a version that this program reads"
    return [f"lpref: {found}; a spec starts with `lpref: {VERSION}`"]


def _mapping(value: Any, name: str, problems: list[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        problems.append(f"{name}: expected a mapping, got {value!r}")
        return {}
    return dict(value)


def merge(old: Any, new: Any) -> Any:
    """`new` laid over `old`: mappings deeply, everything else (and a mapping of another kind) as a whole."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)) or "base" in new:
        return new
    if "kind" in new and new["kind"] != old.get("kind"):
        return new
    return {**old, **{k: merge(old[k], v) if k in old else v for k, v in new.items()}}


def _short_quantizer(data: Any) -> Any:
    """A name, or a mapping that starts from a named one: ``{base: nvfp4, rounding: stochastic}``.

    A changed quantizer keeps neither name nor standard of its base: it is another definition.
    """
    if isinstance(data, str):
        return lookup(data)
    if isinstance(data, Mapping) and "base" in data:
        rest = {k: v for k, v in data.items() if k != "base"}
        base = lookup(str(data["base"]))
        return merge(to_mapping(dataclasses.replace(base, name="", standard="") if rest else base), rest)
    return data


def _short_recipe(data: Any) -> Any:
    """A name or path, or a mapping with `base`, `extends` or `set`."""
    if isinstance(data, str) or (isinstance(data, Mapping) and {"base", "extends", "set"} & set(data)):
        return load(data, RECIPE)
    return data


def _short_linear(data: Any) -> Any:
    """The name of a recipe stands for its `linear`."""
    if isinstance(data, str):
        return load(data, RECIPE).linear
    if isinstance(data, Mapping) and "base" in data:
        rest = {k: v for k, v in data.items() if k != "base"}
        return merge(to_mapping(load(str(data["base"]), RECIPE).linear), rest)
    return data


def _short_accumulate(data: Any) -> Any:
    """A name of `ACCUMULATORS`, or a mapping that starts from a named one: ``{base: hopper_bf16, chunk: 64}``."""
    if isinstance(data, str):
        return accumulator(data)
    if isinstance(data, Mapping) and "base" in data:
        return merge(to_mapping(accumulator(str(data["base"]))), {k: v for k, v in data.items() if k != "base"})
    return data


SHORT[Accumulate] = _short_accumulate
SHORT[Quantizer] = _short_quantizer
SHORT[Recipe] = _short_recipe
SHORT[LinearRecipe] = _short_linear

__all__ = ["KINDS", "QUANTIZER", "RECIPE", "Kind", "LprefError", "load", "load_text", "merge", "to_yaml"]
