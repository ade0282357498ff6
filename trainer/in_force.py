"""The recipe in force at a step: that of the spec under its schedule, its controllers, a pass, and what evaluations change.

`InForce.key` is equal for equal recipes in force, so a step that was captured or compiled for one key may be run again under it. Each recipe in force
is made, checked and bound to the model's layers once; the newest `KEPT` are held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lpref.ref.recipes.change import changed, in_force
from lpref.ref.recipes.controllers import Influence

KEPT = 64


@dataclass(frozen=True)
class InForce:
    """A recipe bound to the layers of a model. `key` says which one; empty: the spec's own recipe, unchanged."""

    key: str
    recipe: Any
    layers: Mapping[str, Any] = field(hash=False)
    operations: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Site -> recipe of the operations whose recipe is not that of their kind."""


class Recipes:
    """The recipes in force of one run."""

    def __init__(self, recipe: Any, sites: Mapping[str, Any], total: int) -> None:
        """recipe: the spec's.  sites: the model's linear sites by name.  total: steps of the run."""
        self.recipe, self.sites, self.total = recipe, dict(sites), total
        self._made: dict[str, InForce] = {}

    @property
    def changes(self) -> bool:
        """Whether any step is under another recipe than the spec's."""
        r = self.recipe
        return bool(r.schedule or r.controllers or r.passes or r.evaluation)

    def at(
        self,
        step: int,
        update: int,
        influences: Sequence[Influence] = (),
        *,
        pass_: int | None = None,
        evaluation: bool = False,
    ) -> InForce:
        """What is in force at a step: schedule, then controllers, then the pass, then what evaluations change."""
        found = self.recipe.changes(step, self.total, update)
        found += [dict(one.recipe) for one in influences]
        found += [dict(self.recipe.passes[pass_].set)] if pass_ is not None and self.recipe.passes else []
        found += [dict(self.recipe.evaluation)] if evaluation else []
        found = [one for one in found if one]
        layers = [one.layers for one in influences if one.layers]
        sites = [one.operations for one in influences if one.operations]
        key = repr((found, layers, sites)) if found or layers or sites else ""
        if key not in self._made:
            while len(self._made) >= KEPT:
                del self._made[next(iter(self._made))]
            self._made[key] = self._bound(key, found, layers, sites)
        return self._made[key]

    def _bound(
        self, key: str, changes: Sequence[Mapping[str, Any]], layers: Sequence[Mapping[str, Mapping[str, Any]]],
        sites: Sequence[Mapping[str, Mapping[str, Any]]],
    ) -> InForce:  # fmt: skip
        recipe = in_force(self.recipe, changes)
        bound = recipe.bind(self.sites.values())
        for one in layers:
            for site, paths in one.items():
                bound[site] = changed(bound[site], paths)
        operations: dict[str, Any] = {}
        for one in sites:
            for site, paths in one.items():
                kind, _, name = site.partition(":")
                operations[name] = changed(operations.get(name, recipe.operations[kind]), paths)
        return InForce(key, recipe, bound, operations)
