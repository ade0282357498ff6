"""Probes of controllers: gradients of the coming batch under changed recipes, before the step and without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lpref.ref.recipes.controllers import Influence, Probe
from lpref.trainer.data.batches import Batch
from lpref.trainer.step import TrainState, gradients


@dataclass
class Probing:
    """Runs probes at a state. sizes: elements saved by site/slot; kinds: operation site -> kind."""

    p: Any
    state: TrainState
    batches: Sequence[Batch]
    sizes: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kinds = {site: kind for kind, site in self.p.model.operation_sites()}
        self.p.bind(self.state)
        self._gradients(sizes=self.sizes)

    def __call__(self, probe: Probe) -> Mapping[str, Any]:
        """The gradients of the scaled loss under the recipe in force with the probe's changes."""
        p, state = self.p, self.state
        found = p.rules.controllers.influences(state.controllers, p.clock(state))
        own = Influence(layers=probe.layers, operations=probe.operations)
        now = p.recipes.at(state.step, state.update, [*found, own])
        p.model.use(now.recipe, now.layers, now.operations)
        return self._gradients(fresh=probe.fresh)

    def _gradients(self, **more: Any) -> Mapping[str, Any]:
        context = self.p.context_of(self.state, collect=False)
        return gradients(self.p.model, self.batches, lambda micro: replace(context(micro), **more), self.state.loss_scale.scale)[1]


def probed(p: Any, state: TrainState, batches: Sequence[Batch]) -> TrainState:
    """The state with those controllers' states that probe before this step."""
    clock, states = p.clock(state), dict(state.controllers)
    for name, kind in p.rules.controllers.kinds.items():
        if kind.probes(states[name], clock):
            here = replace(state, controllers=states)
            states[name] = kind.probed(states[name], Probing(p, here, batches), p.backend)
    return replace(state, controllers=states) if any(states[n] is not s for n, s in state.controllers.items()) else state
