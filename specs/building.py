"""Plain mappings in, frozen dataclasses out; every problem of the mapping is found, each with the path of its field.

The shape comes from the dataclass: unknown and missing fields, nested dataclasses, tuples and mappings of dataclasses, unions of
dataclasses told apart by their `kind`. Leaves (numbers, text, literals) are pydantic's part. What a dataclass refuses in its own
``__post_init__`` is reported at its path too.

Short forms: text where a dataclass with a `kind` is wanted is that kind (``gradient: lsq``), ``none`` is null where null is
allowed, and `SHORT` holds the short forms of single classes (a quantizer's name, ``all`` in blocks, …).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import pydantic

from lpref.ref.errors import LprefError, SpecError, nearest
from lpref.ref.scaling import Blocks

_FAILED = object()
_WORDS = {
    "int": "an integer", "float": "a number", "bool": "true or false", "string": "text", "dict": "a mapping",
    "tuple": "a list", "list": "a list", "mapping": "a mapping", "none": "null",
}  # fmt: skip

# class -> what its short form stands for: (value as read) -> value with the short form replaced; raises LprefError
SHORT: dict[type, Callable[[Any], Any]] = {}


def build(cls: type, data: Any, where: str = "") -> Any:
    """An instance of the dataclass `cls` from `data`; raises one SpecError that lists everything wrong with it."""
    problems: list[str] = []
    value = _build(cls, data, "", problems)
    if problems:
        raise SpecError(problems, where=where)
    return value


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """Field name -> type, of the fields that a spec may set."""
    resolved = typing.get_type_hints(cls)
    return {f.name: resolved[f.name] for f in dataclasses.fields(cls) if f.init}


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def members(kind: Any) -> list[Any]:
    """The members of a union without None; of anything else, itself."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [m for m in typing.get_args(kind) if m is not type(None)]
    return [kind]


def allows_none(kind: Any) -> bool:
    return kind is Any or kind is type(None) or type(None) in typing.get_args(kind)


def dataclass_members(kind: Any) -> list[type]:
    return [m for m in members(kind) if isinstance(m, type) and dataclasses.is_dataclass(m)]


def item_type(kind: Any) -> Any | None:
    """X for tuple[X, ...], list[X] and Mapping[str, X]; None for a leaf."""
    for member in members(kind):
        origin, arguments = typing.get_origin(member), typing.get_args(member)
        if origin in (tuple, list) and arguments:
            return arguments[0]
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return arguments[1]
    return None


def _build(kind: Any, data: Any, path: str, problems: list[str]) -> Any:
    if data is None and allows_none(kind):
        return None
    classes = dataclass_members(kind)
    if isinstance(data, str) and data == "none" and allows_none(kind) and str not in members(kind):
        return None
    if classes:
        return _instance(classes, data, path, problems)
    inner = item_type(kind)
    if inner is not None and dataclass_members(inner):
        return _collection(kind, inner, data, path, problems)
    return _leaf(kind, data, path, problems)


def _collection(kind: Any, inner: Any, data: Any, path: str, problems: list[str]) -> Any:
    wants_mapping = any(isinstance(typing.get_origin(m), type) and issubclass(typing.get_origin(m), Mapping) for m in members(kind))
    if not isinstance(data, Mapping if wants_mapping else (list, tuple)):
        return _problem(problems, path, f"expected a {'mapping' if wants_mapping else 'list'}, got {shown(data)}")
    if isinstance(data, Mapping):
        return {str(k): _build(inner, v, f"{path}.{k}", problems) for k, v in data.items()}
    return tuple(_build(inner, v, f"{path}.{i}", problems) for i, v in enumerate(data))


def _instance(classes: list[type], data: Any, path: str, problems: list[str]) -> Any:
    try:
        for cls in classes:
            data = SHORT[cls](data) if cls in SHORT else data
    except LprefError as error:
        return _refused(problems, path, error)
    if any(isinstance(data, cls) for cls in classes):
        return data
    if isinstance(data, str) and any("kind" in hints(c) for c in classes):
        data = {"kind": data}
    if not isinstance(data, Mapping):
        return _problem(problems, path, f"expected a mapping, got {shown(data)}")
    meant = chosen(classes, data)
    return _problem(problems, _join(path, "kind"), _kinds(classes, data)) if meant is None else _construct(meant, data, path, problems)


def chosen(classes: list[type], data: Mapping[str, Any]) -> type | None:
    """The member of a union that a mapping means: by its `kind`, or where there is none, the first that has all its fields."""
    by_kind = {name: cls for cls in classes for name in typing.get_args(hints(cls).get("kind"))}
    if by_kind:
        return by_kind.get(str(data.get("kind")), classes[0] if len(classes) == 1 else None)
    return next((cls for cls in classes if set(data) <= set(hints(cls))), classes[0])


def _kinds(classes: list[type], data: Mapping[str, Any]) -> str:
    names = [name for cls in classes for name in typing.get_args(hints(cls).get("kind"))]
    return unknown(data["kind"], names) if "kind" in data else f"missing; known: {', '.join(names)}"


def _construct(cls: type, data: Mapping[str, Any], path: str, problems: list[str]) -> Any:
    before, wanted = len(problems), hints(cls)
    for key in data:
        if key not in wanted:
            _problem(problems, _join(path, str(key)), f"no such field; {known(str(key), wanted)}")
    values = {key: _build(kind, data[key], _join(path, key), problems) for key, kind in wanted.items() if key in data}
    for field in dataclasses.fields(cls):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.init and required and field.name not in data:
            _problem(problems, _join(path, field.name), "missing, and it has no default")
    if len(problems) > before:
        problems += _also_wrong(cls, {key: value for key, value in values.items() if _whole(value)}, path)
        return _FAILED
    try:
        return cls(**values)
    except (LprefError, ValueError, TypeError) as error:
        return _refused(problems, path, error)


def _whole(value: Any) -> bool:
    """Whether every part of a value could be read."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return value is not _FAILED and all(_whole(part) for part in parts)


def _also_wrong(cls: type, sound: Mapping[str, Any], path: str) -> list[str]:
    """What `cls` refuses of the fields that could be read, the others at their defaults; problems of other fields are not the file's."""
    found: list[str] = []
    try:
        cls(**sound)
    except (LprefError, ValueError, TypeError) as error:
        _refused(found, path, error)
    own = tuple(_join(path, key) for key in sound)
    return [text for text in found if text.startswith(tuple(f"{key}{end}" for key in own for end in (":", ".")))]


def _leaf(kind: Any, data: Any, path: str, problems: list[str]) -> Any:
    accepted = members(kind)
    if isinstance(data, bool) and kind is not Any and bool not in accepted and not any(typing.get_origin(m) is typing.Literal for m in accepted):
        return _problem(problems, path, f"expected {_expected(accepted)}, got {shown(data)}")
    if isinstance(data, float) and not math.isfinite(data):
        return _problem(problems, path, f"expected a finite number, got {data}")
    try:
        return _adapter(kind).validate_python(data)
    except pydantic.ValidationError as error:
        choices = [c for m in accepted if typing.get_origin(m) is typing.Literal for c in typing.get_args(m)]
        if choices:
            return _problem(problems, path, unknown(data, choices))
        for item in error.errors()[:1] if len(accepted) > 1 else error.errors():
            inner = "".join(f".{p}" for p in item["loc"] if isinstance(p, int))
            word = f"expected {_expected(accepted)}" if not inner else item["msg"][0].lower() + item["msg"][1:]
            _problem(problems, path + inner, f"{word}, got {shown(item['input'] if inner else data)}")
        return _FAILED


def _expected(kinds: list[Any]) -> str:
    words = []
    for kind in kinds:
        base = typing.get_origin(kind) or kind
        name = "mapping" if isinstance(base, type) and issubclass(base, Mapping) else getattr(base, "__name__", str(base))
        words.append(_WORDS.get("string" if name == "str" else name, name))
    return " or ".join(dict.fromkeys(words))


def _refused(problems: list[str], path: str, error: Exception) -> Any:
    """What a dataclass or a short form refused, at `path`; a prefix that repeats the field's own name is dropped."""
    own = path.rsplit(".", 1)[-1]
    for text in _texts(error):
        head, colon, rest = text.partition(": ")
        if colon and all(part.isidentifier() or part.isdigit() for part in head.split(".")):
            inner = head.removeprefix(f"{own}.") if own else head
            _problem(problems, path if inner == own else _join(path, inner), rest)
        else:
            _problem(problems, path, text)
    return _FAILED


def _texts(error: Exception) -> list[str]:
    """The messages of an error, each starting with a path where it has one; a place that is a class is left out."""
    if isinstance(error, SpecError):
        return [f"{problem}; {error.remedy}" if error.remedy else problem for problem in error.problems]
    if isinstance(error, LprefError) and error.where[:1].isupper():
        return [f"{error.message}; {error.remedy}" if error.remedy else error.message]
    return [str(error)]


def _problem(problems: list[str], path: str, text: str) -> Any:
    problems.append(f"{path}: {text}" if path else text)
    return _FAILED


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def shown(value: Any) -> str:
    """`value` for a message, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def known(name: str, names: typing.Iterable[str]) -> str:
    near = nearest(name, names)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(names)}"


def unknown(value: Any, choices: typing.Iterable[Any]) -> str:
    choices = [str(c) for c in choices]
    near = nearest(str(value), choices)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"unknown {shown(value)}; {hint}known: {', '.join(choices)}"


def _blocks(data: Any) -> Any:
    """``all`` is the whole axis."""
    if data == "all":
        return Blocks()
    return {k: None if v == "all" else v for k, v in data.items()} if isinstance(data, Mapping) else data


SHORT[Blocks] = _blocks
