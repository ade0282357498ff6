"""What every controller is: parameters, a state, a pure update at step boundaries, and what the state then sets.

    start        the state before the first step
    after        (state after a step, weights that it replaces), from what the step showed; pure
    influence    what the state sets in the next step: fields of the recipe, fields of single layers, companion tensors of weights
    around       the optimizer of the next step, wrapped where the method changes the update itself

State is a tree of arrays, numbers and text, and lives in the checkpoint; a step sees it as it was before the step. A step that was skipped shows
nothing. Arrays are the backend's, computed with through its ops only. An epoch of the sources is `every` steps here: runs count steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

State = Mapping[str, Any]


@dataclass(frozen=True)
class Clock:
    """When: of the coming step. `pass_` is the number of the pass within it."""

    step: int = 0
    update: int = 0
    total: int = 1
    seed: int = 0
    pass_: int = 0


@dataclass(frozen=True)
class Seen:
    """What a step shows at its end.

    clock      of the step that ended
    loss       mean over its micro-batches
    observed   ``site/gemm/slot`` -> what its quantizer saw, one entry a micro-batch
    weights    parameter -> the weight after the update, of every linear layer with a quantized weight
    grads      the gradients of the loss by those weights
    scales     the gradients of learned quantizer parameters, by parameter
    by_pass    the same of each summed pass, by the pass's name
    quantizers parameter -> the quantizer of the weight in the forward pass, as in force in the step
    ops        the backend
    """

    clock: Clock
    loss: float
    observed: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    grads: Mapping[str, Any] = field(default_factory=dict)
    quantizers: Mapping[str, Any] = field(default_factory=dict)
    ops: Any = None
    scales: Mapping[str, Any] = field(default_factory=dict)
    by_pass: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Influence:
    """What a state sets: paths of the recipe, paths of the linear recipe of single layers (site -> path -> value), paths of the `OpRecipe` of
    single other operations (``kind:site`` -> path -> value), and companion tensors of weights (parameter -> array)."""

    recipe: Mapping[str, Any] = field(default_factory=dict)
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    companions: Mapping[str, Any] = field(default_factory=dict)
    operations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Probe:
    """A forward and backward pass that is not a step: what is changed in it, and whose random words are others (a prefix of site/slot)."""

    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    operations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fresh: str = ""


NOTHING = Influence()


@dataclass(frozen=True)
class Kind:
    """A kind of controller with its parameters. Subclasses are final."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """What of `Seen` it reads beyond loss and observations: weights, grads, scales."""

    def problems(self, recipe: Any) -> Iterator[str]:
        """What is wrong with the controller under this recipe, each as ``field: what``."""
        yield from ()

    def all_changes(self) -> Iterator[Mapping[str, Any]]:
        """Every set of recipe paths that `influence` may give, for validation."""
        yield from ()

    def start(self, weights: Mapping[str, Any], ops: Any) -> dict[str, Any]:
        """The state before the first step."""
        return {}

    def after(self, state: State, seen: Seen) -> tuple[State, Mapping[str, Any]]:
        """(state after the step, weights that it replaces)."""
        return state, {}

    def probes(self, state: State, clock: Clock) -> bool:
        """Whether it probes before the coming step."""
        return False

    def probed(self, state: State, run: Any, ops: Any) -> State:
        """The state after probing. run(probe) gives all gradients of the coming batch under a `Probe`, run.sizes the elements that are saved
        for the backward pass by site/slot."""
        return state

    def influence(self, state: State, clock: Clock) -> Influence:
        """What the coming step (or pass) is under."""
        return NOTHING

    def withheld(self, state: State) -> Mapping[str, Any]:
        """Pass name -> the parameters that get no gradient from that (summed) pass in the coming step."""
        return {}

    def around(self, state: State, optimizer: Any, clock: Clock) -> Any:
        """The optimizer of the coming step."""
        return optimizer
