"""From a spec to everything that a run needs: data, backend, recipe, model, optimizer. All bad input is found here, before writing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from lpref.ref.errors import BackendError, SpecError
from lpref.ref.optim import Schedule
from lpref.ref.optim.optimizer import optimizer
from lpref.ref.random import check_streams
from lpref.ref.recipes.controllers import Clock
from lpref.trainer.checkpoint import Checkpoint
from lpref.trainer.construction import build_model
from lpref.trainer.controllers import controllers_of, on
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import Batch, train_batch
from lpref.trainer.data.types import Data, TokenData
from lpref.trainer.environment import environment
from lpref.trainer.histograms import LookingBackend, histograms
from lpref.trainer.in_force import InForce, Recipes
from lpref.trainer.quantizers import kept_weights, states_of
from lpref.trainer.spec import TrainSpec, plain, to_yaml
from lpref.trainer.step import Rules, TrainState, gradients


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start. `spec` has the recipe written out."""

    spec: TrainSpec
    data: Data
    backend: Any
    recipe: Any
    model: Any
    rules: Rules
    facts: dict[str, Any]
    recipes: Recipes
    """The recipes in force of the run."""
    instead: str = ""
    """Why the CPU does what the GPU of this machine cannot; only under backend auto."""

    @property
    def length(self) -> int:
        """The model's window in tokens; 0 for images."""
        return int(getattr(self.model.cfg, "context", 0))

    @property
    def tokens_per_step(self) -> int:
        """Predictions of one global batch."""
        return self.spec.train.batch * (self.length if isinstance(self.data, TokenData) else 1)

    def in_force(self, state: TrainState, *, pass_: int | None = None, evaluation: bool = False) -> InForce:
        """The recipe in force at `state`; its key is equal for equal ones."""
        found = self.rules.controllers.influences(state.controllers, self.clock(state, pass_ or 0))
        return self.recipes.at(state.step, state.update, found, pass_=pass_, evaluation=evaluation)

    def bind(self, state: TrainState, *, pass_: int | None = None, evaluation: bool = False) -> Rules:
        """Puts the recipe that is in force at `state` into the model; the rules of a step with its loss scale."""
        if not self.recipes.changes:
            return self.rules
        now = self.in_force(state, pass_=pass_, evaluation=evaluation)
        self.model.use(now.recipe, now.layers, now.operations)
        return replace(self.rules, loss_scale=now.recipe.loss_scale)

    def clock(self, state: TrainState, pass_: int = 0) -> Clock:
        """When `state` is, for controllers."""
        return Clock(state.step, state.update, self.rules.steps or 1, self.rules.seed, pass_)

    def context_of(self, state: TrainState, *, collect: bool, pass_: int = 0) -> Callable[[int], Any]:
        """micro-batch -> Context of a training forward and backward."""
        from lpref.ref.recipes import Context

        seed = self.spec.train.seed
        companions = self.rules.controllers.companions(state.controllers, self.clock(state, pass_))
        return lambda micro: Context(
            seed, state.step, state.update, pass_=pass_, micro=micro, state=state.quantizers, companions=companions, observed={}, collect=collect
        )

    def evaluation_context(self, state: TrainState) -> Callable[[int], Any]:
        """pass number -> Context of a forward outside training; nothing that it observes is kept."""
        return self.context_of(state, collect=False)

    def rebuild(self, backend: Any) -> Any:
        """The same model on another backend, weights and the recipe in force included."""
        other = build_model(self.spec, self.recipe, backend, self.data)
        other.set_arrays(self.model.arrays())
        other.recipes, other.operations, other.at_sites = self.model.recipes, self.model.operations, self.model.at_sites
        other.gating = None if self.model.gating is None else replace(self.model.gating)
        return other

    def rehearse(self) -> None:
        """Forward and backward of the first micro-batch beside the optimizer's state, forgotten.

        What has no kernel, or no room, raises before anything is written.
        """
        from lpref.trainer.stepping import stepper

        train = self.spec.train
        first = train_batch(self.data, self.length, train.batch, train.seed, 0, 0, train.batch // train.micro_batches)
        controllers = self.rules.controllers.start(self.model.arrays(), self.backend)
        state = TrainState(0, 0, {}, self.rules.quantizers.start(), self.rules.loss_scale.start(), controllers)
        stepper(self).compile_ahead(state, [first])
        held = self.rules.optimizer.start(self.model.arrays(), self.rules.seed, self.backend)  # a step will find it there
        gradients(self.model, [first], self.context_of(state, collect=False), state.loss_scale.scale)
        del held
        for tensor in self.model.params.values():
            tensor.grad = None

    def histograms(self, state: TrainState, batch: Batch) -> dict[str, Any]:
        """The codes of inputs, weights and gradients on their formats' grids, as `state` quantizes those of `batch`."""
        if not self.rules.quantizers.places:
            return {}
        looking = LookingBackend(self.backend, load_backend(replace(self.spec, backend=self.backend.name, numerics="exact")))
        context = self.context_of(state, collect=False)
        return histograms(gradients(self.rebuild(looking), [batch], context, state.loss_scale.scale)[2])

    def to_checkpoint(self, state: TrainState, params: dict[str, Any]) -> Checkpoint:
        """What has to be stored to continue from `state`."""
        moments, weights = ({name: self.backend.arrays.host(a) for name, a in arrays.items()} for arrays in (state.optimizer, params))
        states = {"optimizer": moments, "quantizers": state.quantizers, "loss_scale": asdict(state.loss_scale)}
        if state.controllers:
            states["controllers"] = on(state.controllers, self.backend.arrays.host)
        return Checkpoint(state.step, state.update, weights, states, self.facts)

    def environment(self) -> dict[str, Any]:
        """``env.json``."""
        own = self.data
        data = {"name": own.name, "title": own.title, "sha256": own.sha256, "byte_level": own.byte_level, **own.facts}
        return {
            **environment(),
            "backend": self.backend.name,
            "numerics": self.backend.numerics,
            "spec_sha256": self.facts["spec_sha256"],
            "data": data,
        }

    def describe(self) -> str:
        """One line for the start of a run."""
        count, what = self.model.num_params(), f"{self.backend.name} backend, numerics {self.backend.numerics}"
        why = f" ({self.instead})" if self.instead else ""
        return f"{self.spec.model['kind']} with {count:,} parameters on {self.data.name}, recipe {self.spec.recipe_name}, {what}{why}"


def prepare(spec: TrainSpec, *, data: Data | None = None) -> Prepared:
    """Loads and checks everything. Raises SpecError, UnknownNameError, DataError, BackendError.

    Backend auto is the GPU where there is one with kernels for the recipe, else the CPU.
    """
    from lpref.accel.cuda import device
    from lpref.conformance.numerics import numerics_hash

    if spec.backend != "cpu":
        device.begin()
    data = load_data(spec.data.name) if data is None else data
    numerics_hash()  # kept; made while the device starts
    backend = load_backend(spec)
    try:
        prepared = prepare_on(backend, spec, data)
        if backend.name == "cuda":
            prepared.rehearse()
    except BackendError as error:
        if backend.name != "cuda" or spec.backend != "auto":
            raise
        return replace(prepare_on(load_backend(replace(spec, backend="cpu")), spec, data), instead=str(error))
    return prepared


def prepare_on(backend: Any, spec: TrainSpec, data: Data) -> Prepared:
    """`prepare` on this backend."""
    from lpref.conformance.numerics import numerics_hash

    recipe = load_recipe(spec)
    model = build_model(spec, recipe, backend, data)
    resolved = replace(spec, recipe=plain_recipe(recipe))
    facts = {
        "data_sha256": data.sha256,
        "numerics_hash": numerics_hash(),
        "spec_sha256": hashlib.sha256(to_yaml(resolved).encode()).hexdigest(),
    }
    facts |= {"start_sha256": model.origin} if model.origin else {}
    own = {key: value for key, value in spec.optimizer.items() if key != "kind"}
    chosen = optimizer(spec.optimizer["kind"], roles=model.roles, weights=kept_weights(recipe, model), **own)
    rules = Rules(
        optimizer=chosen, schedule=make_schedule(spec), loss_scale=recipe.loss_scale, quantizers=states_of(model.recipes),
        clip=spec.train.clip, seed=spec.train.seed, backend=backend, steps=spec.train.steps,
        controllers=controllers_of(recipe, model),
    )  # fmt: skip
    check_streams([*model.random_sites(), *rules.optimizer.random_sites(model.params)])
    return Prepared(resolved, data, backend, recipe, model, rules, facts, Recipes(recipe, model.sites, spec.train.steps))


def check_spec(spec: TrainSpec, data: Data) -> None:
    """Raises what `prepare` would raise about recipe, model and data."""
    build_model(spec, load_recipe(spec), load_backend(spec), data)


def load_recipe(spec: TrainSpec) -> Any:
    """The spec's recipe; a changed one without a name of its own is called ``BASE+set``."""
    from lpref.specs import recipe

    try:
        found = recipe(spec.recipe)
    except SpecError as error:
        if not isinstance(spec.recipe, str):  # written in the spec itself, below `recipe`
            raise SpecError([f"recipe.{text}" for text in error.problems], where=error.where, remedy=error.remedy) from None
        raise
    found.require_executable()
    own_name = isinstance(spec.recipe, str) or "name" in spec.recipe
    return found if own_name else replace(found, name=spec.recipe_name)


def plain_recipe(recipe: Any) -> dict[str, Any]:
    """The recipe as a mapping that reads back to an equal one."""
    from lpref.ref.recipes.text import to_mapping

    return dict(to_mapping(recipe))


def load_backend(spec: TrainSpec) -> Any:
    """The spec's backend."""
    from lpref.accel import backend

    return backend(backend_name(spec.backend), spec.numerics)


def backend_name(asked: str) -> str:
    """`asked`; for `auto` cuda where CuPy and a GPU that serves are there, else cpu."""
    from lpref.accel.cuda import device

    return asked if asked != "auto" else "cuda" if device.usable() else "cpu"


def make_schedule(spec: TrainSpec) -> Schedule:
    """The learning rate over updates; peak and length default to ``optimizer.lr`` and ``train.steps``.

    A run that is shorter than its warm-up ends within it.
    """
    steps = max(spec.train.steps, spec.schedule["warmup"] + 1)
    return Schedule(**{"lr": spec.optimizer["lr"], "steps": steps, **spec.schedule})


__all__ = ["Prepared", "build_model", "check_spec", "plain", "prepare"]
