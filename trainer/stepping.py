"""What runs a training step: the device by one graph, or the host, operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from lpref.ref.recipes.gemm import GEMMS
from lpref.trainer.data.batches import Batch
from lpref.trainer.passes import step_of
from lpref.trainer.step import StepResult, TrainState


class Stepper(Protocol):
    """Runs the steps of one run. `notes`: what a person should know of how they run."""

    notes: list[str]

    def steps(
        self, state: TrainState, count: int, batches_of: Callable[[int], Sequence[Batch]], *, collect: bool
    ) -> list[tuple[TrainState, StepResult]]:
        """(state after, what to report) of up to `count` steps from `state` on, one at least; none follows one that was skipped."""
        ...

    def compile_ahead(self, state: TrainState, batches: Sequence[Batch]) -> None:
        """Makes the machine code of a step of such micro-batches, where there is any to make."""
        ...

    def facts(self) -> dict[str, Any]:
        """What the run's last record says of the steps."""
        ...


class HostStep:
    """`step_of`."""

    def __init__(self, prepared: Any) -> None:
        self.p = prepared
        self.notes: list[str] = []

    def steps(
        self, state: TrainState, count: int, batches_of: Callable[[int], Sequence[Batch]], *, collect: bool = False
    ) -> list[tuple[TrainState, StepResult]]:
        """One step."""
        return [step_of(self.p, state, batches_of(state.step), collect)]

    def compile_ahead(self, state: TrainState, batches: Sequence[Batch]) -> None:
        """Nothing: the kernels are compiled when they are called."""

    def facts(self) -> dict[str, Any]:
        """Nothing."""
        return {}


def stepper(prepared: Any) -> Stepper:
    """The device's on the cuda backend, for a recipe whose steps the host need not look into; else the host's."""
    if prepared.backend.name == "cuda" and not looked_into(prepared):
        from lpref.trainer.device_step import DeviceStep

        return DeviceStep(prepared)
    return HostStep(prepared)


def looked_into(prepared: Any) -> str:
    """Why the host has to see arrays in the middle of a step: what a step does then depends on them. Empty where it need not."""
    recipe = prepared.recipe
    if recipe.passes or recipe.controllers:
        return "passes and controllers"
    if prepared.model.rates() or recipe.groups or recipe.loss_hooks or (recipe.schedule and prepared.model.learned):
        return "groups of parameters, loss hooks, scales that some phases do not learn"
    if recipe.gate is not None:
        return "precisions that a gate picks"
    if getattr(prepared.model.cfg, "experts", 0):
        return "tokens routed to experts"
    layers = (prepared.model.recipes or {}).values()
    sampled = any(linear.gemm(gemm).sampling is not None for linear in layers for gemm in GEMMS)
    return "rows sampled by their norms" if sampled else ""
