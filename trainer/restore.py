"""A run's model as its newest checkpoint left it, to evaluate or to generate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lpref.ref.errors import CheckpointError
from lpref.ref.recipes.change import in_force
from lpref.ref.recipes.controllers import Clock, kind_of
from lpref.trainer import checkpoint as checkpoints
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
    recipe = evaluated(load_recipe(spec), spec.train.steps, found)
    chosen: Any = backend or ("cpu" if spec.backend == "auto" and run.env.get("backend") == "cpu" else spec.backend)
    model = build(spec.model, recipe, spec.train.seed, load_backend(replace(spec, backend=chosen)))
    model.set_arrays(found.params)
    states = found.states["quantizers"]

    def context(number: int) -> Any:
        return Context(spec.train.seed, found.step, found.update, pass_=number, state=states, observed={})

    return Loaded(spec, run.env, model, found.step, context)


def evaluated(recipe: Any, total: int, found: checkpoints.Checkpoint) -> Any:
    """The recipe that evaluations of a checkpoint are under. What controllers set for single layers is not part of it."""
    kinds = {f"{index}.{one.kind}": kind_of(one) for index, one in enumerate(recipe.controllers)}
    clock = Clock(found.step, found.update, total)
    set_by = [kind.influence(found.states["controllers"][name], clock).recipe for name, kind in kinds.items()]
    return in_force(recipe, [*recipe.changes(found.step, total, found.update), *set_by, recipe.evaluation])
