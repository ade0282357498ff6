"""The controllers of a run: their kinds, the weights that they see, and one call for each thing that a step asks of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lpref.ref.recipes import GEMMS
from lpref.ref.recipes.controllers import Clock, Influence, Kind, Seen, kind_of

States = Mapping[str, Any]


@dataclass(frozen=True)
class Controllers:
    """`kinds`: name in the checkpoint (``0.plateau``) -> kind.  `weights`: linear site -> parameter, where the recipe quantizes something."""

    kinds: Mapping[str, Kind] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs(self) -> frozenset[str]:
        """What of a step they read beside losses and observations."""
        return frozenset().union(*(kind.needs for kind in self.kinds.values()))

    def start(self, params: Mapping[str, Any], ops: Any) -> dict[str, Any]:
        """The states before the first step."""
        seen = {name: params[name] for name in self.weights.values()}
        return {name: kind.start(seen, ops) for name, kind in self.kinds.items()}

    def influences(self, states: States, clock: Clock) -> list[Influence]:
        """What each sets, in order."""
        return [kind.influence(states[name], clock) for name, kind in self.kinds.items()]

    def companions(self, states: States, clock: Clock) -> dict[str, Any]:
        """Site -> the companion tensor of its weight."""
        found: dict[str, Any] = {}
        for one in self.influences(states, clock):
            found |= {site: one.companions[name] for site, name in self.weights.items() if name in one.companions}
        return found

    def around(self, states: States, optimizer: Any, clock: Clock) -> Any:
        """The optimizer of the coming step; later controllers stand outside."""
        for name, kind in self.kinds.items():
            optimizer = kind.around(states[name], optimizer, clock)
        return optimizer

    def withheld(self, states: States, name: str) -> set[str]:
        """The parameters that get no gradient from the pass of that name."""
        return {one for key, kind in self.kinds.items() for one in kind.withheld(states[key]).get(name, ())}

    def after(self, states: States, seen: Seen) -> tuple[dict[str, Any], dict[str, Any]]:
        """(states after the step, weights that they replace); each sees the weights as the ones before it left them."""
        new: dict[str, Any] = {}
        replaced: dict[str, Any] = {}
        for name, kind in self.kinds.items():
            shown = Seen(
                seen.clock,
                seen.loss,
                seen.observed,
                {**seen.weights, **replaced},
                seen.grads,
                seen.quantizers,
                seen.ops,
                seen.scales,
                seen.by_pass,
            )
            new[name], written = kind.after(states[name], shown)
            replaced |= written
        return new, replaced


def controllers_of(recipe: Any, model: Any) -> Controllers:
    """The controllers of a recipe on a model whose layers are bound to it."""
    kinds = {f"{index}.{one.kind}": kind_of(one) for index, one in enumerate(recipe.controllers)}
    quantized = {
        site
        for site, linear in (model.recipes or {}).items()
        if any(q for g in GEMMS for slot in (linear.gemm(g).a, linear.gemm(g).b) for q in slot.quantizers().values())
    }
    return Controllers(kinds, {name: site.parameter for name, site in model.sites.items() if name in quantized})


def on(tree: Any, move: Callable[[Any], Any]) -> Any:
    """A tree of states with every array moved: to the host for a checkpoint, to the backend from one."""
    if isinstance(tree, Mapping):
        return {key: on(value, move) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(on(value, move) for value in tree)
    return move(tree) if hasattr(tree, "shape") else tree
