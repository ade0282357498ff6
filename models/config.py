"""Checks that the models' configurations share."""

from __future__ import annotations

from collections.abc import Iterable

from lpref.ref.errors import SpecError


def positive(cfg: object, *names: str) -> list[str]:
    """A problem for each field that is not a positive integer."""
    values = [(name, getattr(cfg, name)) for name in names]
    return [f"{name}: {value!r} is not a positive integer" for name, value in values if not isinstance(value, int) or value < 1]


def one_of(cfg: object, name: str, known: Iterable[str]) -> list[str]:
    """A problem if the field is none of `known`."""
    value = getattr(cfg, name)
    return [] if value in known else [f"{name}: {value!r} is not one of {', '.join(known)}"]


def complain(problems: list[str], kind: str) -> None:
    """Raise all problems at once."""
    if problems:
        raise SpecError(problems, where=f"model {kind}")
