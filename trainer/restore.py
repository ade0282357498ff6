"""A run's model as its newest checkpoint left it, to evaluate or to generate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lpref.ref.errors import CheckpointError
from lpref.ref.recipes.controllers import Clock
from lpref.trainer import checkpoint as checkpoints
from lpref.trainer.controllers import controllers_of, on
from lpref.trainer.in_force import Recipes
from lpref.trainer.setup import load_backend, load_recipe
from lpref.trainer.spec import TrainSpec, load_spec


@dataclass(frozen=True)
class Loaded:
    """A run's newest whole checkpoint, ready to evaluate or to generate; its data need not be there any more."""

    spec: TrainSpec
    env: dict[str, Any]
    model: Any
    step: int
    context: Callable[[int], Any]

    @property
    def length(self) -> int:
        """The model's window in tokens; 0 for images."""
        return int(self.spec.model.get("context", 0))

    @property
    def byte_level(self) -> bool:
        """Whether the model predicts bytes."""
        return bool(self.env["data"].get("byte_level", False))


def restore(path: Path, backend: str | None = None) -> Loaded:
    """The model of the run in `path` with the weights and quantizer states of its newest whole checkpoint.

    backend: where it runs; None: as the spec says, and under `auto` on the CPU if the run was there.
    """
    from lpref.models import build
    from lpref.ref.recipes import Context
    from lpref.trainer.run import Run

    run = Run(path)
    spec = load_spec(run.folder.spec)
    found, passed = checkpoints.newest(run.folder.checkpoints)
    if found is None:
        raise CheckpointError(
            f"no whole checkpoint: {passed[0]}" if passed else "the run has no checkpoint",
            where=str(path),
            remedy="" if passed else "let it run to its first checkpoint",
        )
    recipe = load_recipe(spec)
    chosen: Any = backend or ("cpu" if spec.backend == "auto" and run.env.get("backend") == "cpu" else spec.backend)
    model = build(spec.model, recipe, spec.train.seed, load_backend(replace(spec, backend=chosen)))
    model.set_arrays(found.params)
    companions = put_in_force(model, recipe, spec, found)
    states = found.states["quantizers"]

    def context(number: int) -> Any:
        return Context(spec.train.seed, found.step, found.update, pass_=number, state=states, companions=companions, observed={})

    return Loaded(spec, run.env, model, found.step, context)


def put_in_force(model: Any, recipe: Any, spec: TrainSpec, found: checkpoints.Checkpoint) -> dict[str, Any]:
    """Put into the model what evaluations of a checkpoint are under, as the run's loop does; returns companion tensors by site."""
    controllers = controllers_of(recipe, model)
    states = on(found.states.get("controllers", {}), model.array)
    clock = Clock(found.step, found.update, spec.train.steps, spec.train.seed)
    recipes = Recipes(recipe, model.sites, spec.train.steps)
    if recipes.changes:
        now = recipes.at(found.step, found.update, controllers.influences(states, clock), evaluation=True)
        model.use(now.recipe, now.layers, now.operations)
    return controllers.companions(states, clock)
