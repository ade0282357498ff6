"""What all models share: named parameters, roles, recipes bound to linear sites, and the loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.autodiff.fused.watched import WATCHED
from lpref.autodiff.tensor import make
from lpref.models.gating import Gating, gate_parameters, gating_of
from lpref.models.hooks import outside_block, training_loss
from lpref.models.parameters import LinearSite, ParameterSpec, check_sizes, initial, stored
from lpref.ref.errors import ShapeError, SpecError, UnknownNameError
from lpref.ref.random import check_streams
from lpref.ref.recipes import (
    Context,
    Group,
    LinearRecipe,
    LossHook,
    Operation,
    OpRecipe,
    layer_weight,
    linear_parameters,
    operation_sites,
    random_sites,
)
from lpref.ref.recipes.expression import NAMES
from lpref.ref.recipes.groups import rates
from lpref.ref.recipes.learned import is_learned, used_names
from lpref.ref.recipes.sixteen import codes_gradient, codes_input, rounds_gradient, rounds_input
from lpref.ref.recipes.tails import tail_problems


class Model:
    """Parameters by name, and a forward pass written in `lpref.autodiff.functional`.

    A recipe quantizes linear layers and convolutions, and of the other operations those that it names (`under`); all else stays in float32.
    Subclasses define `declare`, `linear_sites`, `operation_sites` and `logits`.
    """

    kind: ClassVar[str]
    last: ClassVar[str] = ""
    """The linear layer whose output is the logits, and which alone reads their gradient."""

    def __init__(self, cfg: Any, recipe: Any = None, seed: int = 0, backend: Any = None) -> None:
        """cfg: the kind's configuration.  recipe: a Recipe, None for unquantized layers.  backend: where the arrays live."""
        self.cfg, self.backend, self.seed = cfg, backend, seed
        self.sites: dict[str, LinearSite] = {site.name: site for site in self.linear_sites()}
        self.recipes: Mapping[str, LinearRecipe] | None = None
        self.hooks: Sequence[LossHook] = ()
        self.groups: Sequence[Group] = ()
        self.gating: Gating | None = None
        self.first: Mapping[str, Any] = {}
        """The first weights, where a teacher needs them."""
        self.routes: list[tuple[Tensor, np.ndarray]] = []
        """Router probabilities and tokens by expert, of every router of the last forward pass."""
        self.origin = ""
        """SHA-256 of the weights of another run that these began as; empty: fresh ones."""
        self.saliency: Mapping[str, Any] = {}
        """Of every quantized weight, where a loss hook needs it."""
        self.operations: Mapping[str, OpRecipe] = {}
        self.at_sites: Mapping[str, OpRecipe] = {}
        """Operations whose recipe is not that of their kind, by site."""
        if recipe is not None:
            self.use(recipe)
        specs = stored(self.declare(), self.sites, self.recipes)
        if recipe is not None and recipe.weights.start == "unit":
            specs = [s if s.std is None else dataclasses.replace(s, std=1.0) for s in specs]
        specs += gate_parameters(self)
        check_sizes(specs, f"{self.kind} model")
        self.params: dict[str, Tensor] = {s.name: self._tensor(initial(s, seed)) for s in specs}
        self.roles: dict[str, str] = {s.name: s.role for s in specs}
        self.watch: Callable[[str, str, Any], None] | None = None
        """Sees (site, x | w | dy, array) of every linear site; None: nobody looks."""
        self.learned: dict[str, dict[str, str]] = {}
        """Learned quantizer parameters: site -> {name in the recipe: parameter name}."""

    @classmethod
    def shapes(cls, cfg: Any) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every parameter of a configuration without a recipe, without making any array."""
        blank = cls.__new__(cls)
        blank.cfg = cfg
        return {spec.name: spec.shape for spec in blank.declare()}

    # ---- what a kind defines
    def declare(self) -> Sequence[ParameterSpec]:
        """The parameters, in a fixed order."""
        raise NotImplementedError

    def linear_sites(self) -> Sequence[LinearSite]:
        """The places where a recipe applies, in the order of the forward pass."""
        raise NotImplementedError

    def operation_sites(self) -> Iterator[tuple[str, str]]:
        """(kind, site) of every operation of `lpref.ref.recipes.OPERATIONS` that is no linear site."""
        raise NotImplementedError

    def gated_blocks(self) -> Mapping[str, int]:
        """The residual blocks whose precision a gate may pick, in the order of the forward pass: name -> channels of its input."""
        return {}

    def logits(self, inputs: np.ndarray, ctx: Context) -> Tensor:
        """Scores of the classes, last axis."""
        raise NotImplementedError

    # ---- what it does
    def use(self, recipe: Any, layers: Mapping[str, LinearRecipe] | None = None, at_sites: Mapping[str, OpRecipe] | None = None) -> None:
        """Put a recipe in force. Raises SpecError for a rule that matches no layer and for blocks that do not divide a layer under tail
        error, WordsError for two uses of one stream.

        layers: what `recipe.bind` gave, where that was done before.  at_sites: recipes of single operations.
        """
        if layers is not None and layers is self.recipes:
            return
        self.at_sites = {} if at_sites is None else at_sites
        if layers is None:
            layers = recipe.bind(self.sites.values())
            problems = tail_problems(recipe, layers, {s.name: {"N": s.n, "K": s.k} for s in self.sites.values()})
            if problems:
                raise SpecError(problems, where=f"recipe {recipe.name}")
        self.recipes, self.operations = layers, recipe.operations
        self.hooks, self.groups = recipe.loss_hooks, recipe.groups
        self.gating = gating_of(self, recipe, layers)
        check_streams(self.random_sites())

    def random_sites(self) -> list[str]:
        """The site paths whose random words the recipe in force draws."""
        linear = [path for name, layer in (self.recipes or {}).items() for path in random_sites(layer, name)]
        own = ((kind, site) for kind, site in self.operation_sites() if kind in self.operations)
        linear += ["loss/integer/rounding" for hook in self.hooks if hook.kind == "integer_loss"]
        return [*linear, *(path for kind, site in own for path in operation_sites(self.operations[kind], kind, site))]

    def under(self, kind: str, site: str, ctx: Context, **sizes: float) -> Operation | None:
        """The operation `site` under the recipe in force; None where that says nothing about its kind."""
        recipe = self.operations.get(kind)
        recipe = recipe if recipe is None else self.at_sites.get(site, recipe)
        return None if recipe is None else Operation(kind, recipe, ctx.at(site), sizes)

    def loss(self, batch: Any, ctx: Context) -> Tensor:
        """Mean cross entropy in nats over all targets of `batch` (`.inputs`, `.targets`), a scalar."""
        under = self.under("loss", "loss", ctx)
        coded = f"{self.last}.bias" not in self.params
        back = self.read_in(self.last, ctx, gradient=True, alone=coded) if self.last and under is None else "float32"
        return F.softmax_cross_entropy(self.logits(batch.inputs, ctx), batch.targets, under, back, alone=bool(self.last))

    def training_loss(self, batch: Any, ctx: Context) -> Tensor:
        """`loss`, or what the loss hooks of the recipe in force make of it; evaluation asks for `loss`."""
        return training_loss(self, batch, ctx)

    def quantized_weight(self, site: str, ctx: Context) -> Tensor:
        """The weight of a linear site as its layer sees it in the forward pass, a constant."""
        weight, recipe = self.params[self.sites[site].parameter], (self.recipes or {})[site]
        params = {key: self.params[name].data for key, name in self.learned.get(site, {}).items()}
        return make(layer_weight(weight.data, recipe, ctx.at(site), self.backend, params), self.backend)

    def rates(self) -> dict[str, float]:
        """Parameter -> multiple of the learning rate where that is not 1: the recipe's groups, and 0 for what is learned by a phase or pass that
        is not in force, or outside the block whose output is the loss."""
        idle = {
            name: 0.0
            for site, own in self.learned.items()
            for key, name in own.items()
            if key not in used_names((self.recipes or {})[site])
        }
        return {**rates(self.groups, self.roles), **idle, **outside_block(self)}

    def parameters(self) -> list[Tensor]:
        """The parameters in their fixed order."""
        return list(self.params.values())

    def num_params(self) -> int:
        """Number of trained values."""
        return sum(t.size for t in self.params.values())

    def arrays(self) -> dict[str, Any]:
        """The parameters' arrays by name."""
        return {name: t.data for name, t in self.params.items()}

    def grads(self) -> dict[str, Any]:
        """The parameters' gradients by name; zeros where the loss did not reach one."""
        return {name: F.zeros_like(t).data if t.grad is None else t.grad for name, t in self.params.items()}

    def set_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Replace the parameters' arrays (all of them, same shapes; NumPy's are taken to the backend) and drop their gradients.

        Learned quantizer parameters of a checkpoint are adopted where an init forward would make them.
        """
        self._adopt(arrays)
        unknown = [name for name in arrays if name not in self.params]
        if unknown:
            raise UnknownNameError("parameter", unknown[0], self.params, where=f"{self.kind} model")
        missing = [name for name in self.params if name not in arrays]
        if missing:
            raise ShapeError(f"no array for {', '.join(missing[:5])}", where=f"{self.kind} model", remedy="give all parameters")
        for name, old in self.params.items():
            if tuple(arrays[name].shape) != tuple(old.shape):
                raise ShapeError(f"{name} is {tuple(arrays[name].shape)}, needed {tuple(old.shape)}", where=f"{self.kind} model")
        self.params = {name: self._tensor(arrays[name]) for name in self.params}

    # ---- for the kinds
    def linear(self, name: str, x: Tensor, ctx: Context) -> Tensor:
        """The linear site `name` on x [M, k] under its recipe, plus its bias where it has one."""
        weight, bias = self.params[self.sites[name].parameter], self.params.get(f"{name}.bias")
        if self.recipes is None:
            return self._watched(name, x, weight, F.linear(x, weight, bias=bias))
        at = ctx.at(name)
        if ctx.init:
            self._learn(name, x.data, weight.data, at)
        back = self.read_in(name, ctx, gradient=True)
        y = F.linear(x, weight, recipe=self.recipes[name], ctx=at, params=self._learned(name), bias=bias, back=back)
        return self._watched(name, x, weight, y)

    def _watched(self, name: str, x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        """y; where the model is watched, x, the weight and, in the backward pass, the gradient of y are shown. Convolutions are not."""
        if self.watch is None:
            return y
        see = self.watch
        see(name, "x", x.data)
        see(name, "w", weight.data)
        return WATCHED(y, lambda g: see(name, "dy", g))

    def conv(self, name: str, x: Tensor, kernel: int, stride: int, ctx: Context) -> Tensor:
        """The convolution site `name` on x [N, C, H, W], zero padding kernel // 2; its weight is kept as (n, k), k = (c, y, x)."""
        weight, padding = self.params[f"{name}.weight"], kernel // 2
        shaped = weight.reshape(weight.shape[0], x.shape[1], kernel, kernel)
        if self.recipes is None:
            return F.conv2d(x, shaped, stride=stride, padding=padding)
        if ctx.init:
            self._learn(name, self.backend.im2col(x.data, kernel, kernel, stride, padding), weight.data, ctx.at(name))
        recipe, at = self.recipes[name], ctx.at(name)
        return F.conv2d(x, shaped, stride=stride, padding=padding, recipe=recipe, ctx=at, params=self._learned(name))

    def norm(self, name: str, x: Tensor, ctx: Context, store: str = "float32") -> Tensor:
        """RMSNorm or LayerNorm over the last axis, as `cfg.norm` says; store: of the result where the recipe does nothing to norms."""
        weight, under = self.params[f"{name}.weight"], self.under("norm", name, ctx)
        store = store if under is None else "float32"
        if self.cfg.norm == "rmsnorm":
            return F.rmsnorm(x, weight, self.cfg.norm_eps, under, store)
        return F.layernorm(x, weight, self.params[f"{name}.bias"], self.cfg.norm_eps, under, store)

    def read_in(self, site: str, ctx: Context, gradient: bool = False, alone: bool = False) -> str:
        """The format to keep the input of a linear site in, or the gradient of its output, if nothing else reads it: bfloat16 where the backend
        keeps such arrays in 16 bits and the site rounds all that it reads to bfloat16; else float32. Statistics are of what was there before it
        was rounded. alone: "unmade", where nothing but the site reads it, as codes that the backend can make while it makes the values.
        """
        if self.recipes is None or self.watch is not None or ctx.collect or ctx.init:
            return "float32"
        if self.backend is None or self.backend.numerics != "fast" or not self.backend.arrays.sixteen:
            return "float32"
        recipe = self.recipes[site]
        if alone and self.backend.arrays.unmade and (codes_gradient if gradient else codes_input)(recipe):
            return "unmade"
        return "bfloat16" if (rounds_gradient if gradient else rounds_input)(recipe) else "float32"

    def embed(self, table: str, ids: Any, ctx: Context) -> Tensor:
        """Rows `ids` of the table of that name."""
        weight = self.params[f"{table}.weight"]
        return F.embedding(weight, ids, self.under("embedding", table, ctx, rows=ids.size, entries=weight.shape[0]))

    def _learn(self, site: str, x: Any, weight: Any, ctx: Context) -> None:
        """Make the learned parameters of a site from its first input, each once."""
        if self.recipes is not None:
            made = linear_parameters(x, weight, self.recipes[site], self.backend, ctx)
            for key, value in made.items():
                if key not in self.learned.get(site, {}):
                    self._add_learned(site, key, value)

    def _adopt(self, arrays: Mapping[str, Any]) -> None:
        """Declare the learned quantizer parameters (`SITE.x_step`, `SITE.w_zero`, …) that `arrays` holds."""
        for name, value in arrays.items():
            site, _, key = name.rpartition(".")
            if name not in self.params and self.recipes is not None and site in self.sites and is_learned(key):
                self._add_learned(site, key, value)

    def _add_learned(self, site: str, key: str, value: Any) -> None:
        name = f"{site}.{key}"
        self.learned.setdefault(site, {})[key] = name
        self.params[name], self.roles[name] = self._tensor(value), "adapter" if key in NAMES else "quantizer_step"

    def _learned(self, site: str) -> dict[str, Tensor]:
        return {key: self.params[name] for key, name in self.learned.get(site, {}).items()}

    def _tensor(self, array: Any) -> Tensor:
        return Tensor(self.array(array), self.backend, requires_grad=True)

    def array(self, x: Any) -> Any:
        """x, from NumPy or the backend itself, as an array of the backend (of NumPy where there is no backend)."""
        return x if self.backend is None else self.backend.arrays.make(x)
