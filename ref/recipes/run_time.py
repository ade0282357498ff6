"""V12: what a recipe changes while it runs makes a sound recipe at every moment, and controllers and passes are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lpref.ref.errors import LprefError
from lpref.ref.recipes.change import in_force
from lpref.ref.recipes.controllers import KINDS, kind_of


def run_time_problems(recipe: Any) -> Iterator[str]:
    """Everything wrong with schedule, passes, evaluation and controllers."""
    for kind, entries in (("schedule", recipe.schedule), ("passes", recipe.passes)):
        for index, entry in enumerate(entries):
            for changes in entry.all_changes() if kind == "schedule" else [entry.set]:
                problems = list(_unsound(recipe, changes, f"{kind}.{index}.set"))
                yield from problems
                if problems:
                    break  # the other widths of a cycle say the same
    yield from _unsound(recipe, recipe.evaluation, "evaluation")
    if len({one.update for one in recipe.passes}) > 1:
        yield "passes: each and summed do not go together; say the same update for all passes"
    names = [one.name for one in recipe.passes]
    if len(set(names)) < len(names):
        yield f"passes: the names {', '.join(names)} are not all different"
    yield from _displaced(recipe.passes)
    for index, controller in enumerate(recipe.controllers):
        yield from _controller(recipe, controller, f"controllers.{index}")


def _displaced(passes: Any) -> Iterator[str]:
    """A displaced pass follows the pass that it is displaced by, and their gradients are summed."""
    for index, one in enumerate(passes):
        if one.displaced is None:
            continue
        if one.displaced.of not in [earlier.name for earlier in passes[:index]]:
            yield f"passes.{index}.displaced.of: no earlier pass is called {one.displaced.of!r}"
        if one.update != "summed":
            yield f"passes.{index}.update: a displaced pass has no weights of its own to update; write summed"


def _unsound(recipe: Any, changes: Any, where: str) -> Iterator[str]:
    try:
        gate = in_force(recipe, [changes]).gate
        if gate is not None and (recipe.gate is None or gate.sizes != recipe.gate.sizes):
            yield f"{where}: gate: its parameters are made before the first step, so neither it nor its sizes can come later"
    except LprefError as error:
        yield f"{where}: {error}"


def _controller(recipe: Any, controller: Any, where: str) -> Iterator[str]:
    if controller.kind not in KINDS:
        return  # a mechanism that this version lacks: `executable` says so
    try:
        kind = kind_of(controller)
    except LprefError as error:
        yield f"{where}: {error}"
        return
    for changes in kind.all_changes():
        yield from _unsound(recipe, changes, where)
    for problem in kind.problems(recipe):
        yield f"{where}.{problem}"
