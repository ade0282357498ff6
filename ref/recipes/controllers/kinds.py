"""The kinds of controllers by name, and a controller of a recipe as one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lpref.ref.errors import SpecError, UnknownNameError
from lpref.ref.recipes.controllers.alrs import Alrs
from lpref.ref.recipes.controllers.base import Kind
from lpref.ref.recipes.controllers.block_wise import BlockWise
from lpref.ref.recipes.controllers.counteract import Counteract
from lpref.ref.recipes.controllers.disorder import Disorder
from lpref.ref.recipes.controllers.diversity import Diversity
from lpref.ref.recipes.controllers.ema import Ema
from lpref.ref.recipes.controllers.freeze import Freeze
from lpref.ref.recipes.controllers.hasb import Hasb
from lpref.ref.recipes.controllers.plateau import Plateau
from lpref.ref.recipes.controllers.ramping import Ramping
from lpref.ref.recipes.controllers.sensitivity import Sensitivity
from lpref.ref.recipes.controllers.steer import Steer

KINDS: dict[str, type[Kind]] = {
    "plateau": Plateau, "diversity": Diversity, "steer": Steer, "ema": Ema, "ramping": Ramping, "freeze": Freeze, "disorder": Disorder,
    "counteract": Counteract, "alrs": Alrs, "hasb": Hasb, "block_wise": BlockWise, "sensitivity": Sensitivity,
}  # fmt: skip


def kind_of(controller: Any) -> Kind:
    """The kind of a `Controller`, with its parameters.

    Raises UnknownNameError for the kind, SpecError for parameters.
    """
    if controller.kind not in KINDS:
        raise UnknownNameError("controller", controller.kind, KINDS)
    kind = KINDS[controller.kind]
    known = {f.name: str(f.type) for f in fields(kind)}
    values: dict[str, Any] = {}
    for key, value in controller.parameters.items():
        if key not in known:
            raise UnknownNameError("parameter", key, known, where=f"controller {controller.kind}")
        values[key] = _value(value, known[key], f"parameters.{key}")
    try:
        return kind(**values)
    except SpecError as error:
        raise SpecError([f"parameters.{text}" for text in error.problems]) from None


def _value(value: Any, kind: str, where: str) -> Any:
    """A parameter as its field has it: numbers as they are read, lists as tuples."""
    if kind == "float" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind == "str" and isinstance(value, str):
        return value
    items = (Mapping,) if "Mapping" in kind else (int, float)
    if kind.startswith("tuple") and isinstance(value, (list, tuple)) and all(isinstance(one, items) for one in value):
        return tuple(value)
    if kind.startswith("Mapping") and isinstance(value, Mapping):
        return value
    raise SpecError([f"{where}: expected {kind}, got {value!r}"])
