"""The `status` of a registered name: which levels the last recorded run of the tests proved (conformance/evidence.json)."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Callable, Iterable
from functools import cache


@cache
def evidence() -> dict[str, set[str]]:
    """{name as the tests give it: levels}; a level counts where some test passed and none failed. Nothing recorded, nothing claimed."""
    file = importlib.resources.files("lpref.conformance").joinpath("evidence.json")
    if not file.is_file():
        return {}
    passed: set[tuple[str, str]] = set()
    failed: set[tuple[str, str]] = set()
    for entry in json.loads(file.read_text(encoding="utf-8")):
        found = {"passed": passed, "failed": failed}.get(entry["result"])
        if found is not None:
            found.add((entry["name"], entry["level"]))
    levels: dict[str, set[str]] = {}
    for name, level in passed - failed:
        levels.setdefault(name, set()).add(level)
    return levels


def _formats() -> Iterable[str]:
    from lpref.ref.formats import FORMATS, VECTOR_FORMATS

    return [*FORMATS, *VECTOR_FORMATS]


def _roundings() -> Iterable[str]:
    from lpref.ref.rounding import ROUNDINGS

    return ROUNDINGS


def _overflow() -> Iterable[str]:
    from lpref.ref.rounding import OVERFLOW

    return OVERFLOW


def _scale_rules() -> Iterable[str]:
    from lpref.ref.scaling import PAGES

    return PAGES


def _accumulators() -> Iterable[str]:
    from lpref.ref.linalg import ACCUMULATORS

    return ACCUMULATORS


def _quantizers() -> Iterable[str]:
    from lpref.ref.quantize import COMPLEX_QUANTIZERS, QUANTIZERS

    return [*QUANTIZERS, *COMPLEX_QUANTIZERS]


def _optimizers() -> Iterable[str]:
    from lpref.ref.optim import RULES

    return RULES


def _recipes() -> Iterable[str]:
    from lpref.specs import RECIPE

    return RECIPE.names()


# Kinds that tests make claims about. A name without its kind means the first of these that has it.
NAMES: dict[str, Callable[[], Iterable[str]]] = {
    "format": _formats, "rounding": _roundings, "overflow": _overflow, "scale-rule": _scale_rules,
    "accumulator": _accumulators, "quantizer": _quantizers, "optimizer": _optimizers, "recipe": _recipes,
}  # fmt: skip


def owner(name: str) -> str:
    """The kind that `name` means where a test does not say; empty where no kind of NAMES has it."""
    return next((kind for kind, names in NAMES.items() if name in names()), "")


def status(kind: str, name: str) -> list[str]:
    """The levels proved of this name of this kind, sorted."""
    own = owner(name)
    bare = evidence().get(name, set()) if own in ("", kind) else set()
    return sorted(bare | evidence().get(f"{kind}:{name}", set()))
