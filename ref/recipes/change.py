"""A recipe with some fields changed, given by dotted paths: what a schedule does from step to step. Pure.

>>> from lpref.ref.recipes import Recipe
>>> changed(Recipe("r"), {"linear.fprop.a.quantizer": "fp8_tensor"}).linear.fprop.a.quantizer.format
'e4m3'
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from lpref.ref.errors import SpecError, UnknownNameError, nearest
from lpref.ref.quantize import lookup

STILL: dict[str, Any] = {"schedule": (), "passes": (), "controllers": (), "evaluation": {}}
"""The fields of a recipe that change it while it runs, as those of one that stands still."""


def in_force(recipe: Any, changes: Iterable[Mapping[str, Any]]) -> Any:
    """`recipe` under changes that follow one another, standing still; the recipe itself where there are none.

    >>> from lpref.ref.recipes import Recipe
    >>> one, two = {"linear.fprop.a.quantizer": "nvfp4"}, {"linear.fprop.a.quantizer.rounding": "to_odd"}
    >>> in_force(Recipe("r"), [one, two]).linear.fprop.a.quantizer.rounding
    'to_odd'
    """
    for one in changes:
        recipe = changed(recipe, {**one, **STILL}) if one else recipe
    return recipe


def changed(value: Any, paths: Mapping[str, Any]) -> Any:
    """`value` with every path set. A quantizer is given by name or null, `linear` may be exempt. Raises SpecError for a path that leads nowhere."""
    tree: dict[str, Any] = {}
    for path, new in paths.items():
        *parents, last = path.split(".")
        here = tree
        for step in parents:
            here = here.setdefault(step, {})
        here[last] = _Leaf(new)
    return _changed(value, tree, "")


@dataclasses.dataclass(frozen=True)
class _Leaf:
    value: Any


def _changed(value: Any, tree: Mapping[str, Any], path: str) -> Any:
    """`value` with the changes of a whole subtree made at once, so that only the result has to be sound."""
    new = {}
    for key, inner in tree.items():
        here = f"{path}.{key}" if path else key
        old = _get(value, key, here)
        new[key] = _leaf(key, old, inner.value, here) if isinstance(inner, _Leaf) else _changed(old, inner, here)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **new)
    if isinstance(value, tuple):
        return tuple(new.get(str(i), item) for i, item in enumerate(value))
    return {**value, **new}


def _get(value: Any, key: str, path: str) -> Any:
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value)]
        if key in names:
            return getattr(value, key)
    elif isinstance(value, Mapping):
        names = list(value)
        if key in value:
            return value[key]
    elif isinstance(value, tuple) and key.isdigit() and int(key) < len(value):
        return value[int(key)]
    else:
        names = []
    near = nearest(key, names)
    raise SpecError([f"{path}: no such field; {f'did you mean {near[0]!r}?' if near else 'known: ' + (', '.join(names) or 'none')}"])


def _leaf(key: str, old: Any, new: Any, path: str) -> Any:
    if dataclasses.is_dataclass(new) or key in STILL:
        return new
    if key == "linear" and new == "exempt":
        return type(old)()  # float32, as a rule's `exempt`
    if key == "quantizer" and isinstance(new, str) and new != "none":
        try:
            return lookup(new)
        except UnknownNameError as error:
            raise SpecError([f"{path}: {error}"]) from None
    if new == "none" and not isinstance(old, str):
        return None
    if isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool):
        return float(new)
    if old is not None and new is not None and type(old) is not type(new):
        raise SpecError([f"{path}: expected {type(old).__name__}, got {new!r}"])
    return new
