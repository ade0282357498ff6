"""What all models share: named parameters, roles, recipes bound to linear sites, and the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.models.binding import bind_recipe
from lpref.models.parameters import LinearSite, ParameterSpec, initial
from lpref.ref.errors import ShapeError, UnknownNameError
from lpref.ref.recipes import Context, linear_parameters


class Model:
    """Parameters by name, and a forward pass written in `lpref.autodiff.functional`.

    Only linear layers and convolutions are quantized; embeddings, norms, attention scores and residual sums stay in float32.
    Subclasses define `declare`, `linear_sites` and `logits`.
    """

    kind: ClassVar[str]

    def __init__(self, cfg: Any, recipe: Any = None, seed: int = 0, backend: Any = None) -> None:
        """cfg: the kind's configuration.  recipe: a Recipe, None for unquantized layers.  backend: where the arrays live."""
        self.cfg, self.backend, self.seed = cfg, backend, seed
        specs = self.declare()
        self.params: dict[str, Tensor] = {s.name: self._tensor(initial(s, seed)) for s in specs}
        self.roles: dict[str, str] = {s.name: s.role for s in specs}
        self.sites: dict[str, LinearSite] = {site.name: site for site in self.linear_sites()}
        self.recipes = bind_recipe(recipe, list(self.sites.values()))
        self.learned: dict[str, dict[str, str]] = {}
        """Learned quantizer parameters: site -> {name in the recipe: parameter name}."""

    @classmethod
    def shapes(cls, cfg: Any) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every parameter of a configuration, without making any array."""
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

    def logits(self, inputs: np.ndarray, ctx: Context) -> Tensor:
        """Scores of the classes, last axis."""
        raise NotImplementedError

    # ---- what it does
    def loss(self, batch: Any, ctx: Context) -> Tensor:
        """Mean cross entropy in nats over all targets of `batch` (`.inputs`, `.targets`), a scalar."""
        logits = self.logits(batch.inputs, ctx)
        return F.softmax_cross_entropy(logits.reshape(-1, logits.shape[-1]), batch.targets.reshape(-1))

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
        return {name: np.zeros_like(t.data) if t.grad is None else t.grad for name, t in self.params.items()}

    def set_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Replace the parameters' arrays (all of them, same shapes) and drop their gradients."""
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
        site, recipe = self.sites[name], self.recipes[name]
        weight = self.params[site.parameter]
        learned = self._learned(name, x, weight, ctx)
        return F.linear(x, weight, recipe=recipe, ctx=ctx.at(name), params=learned, bias=self.params.get(f"{name}.bias"))

    def conv(self, name: str, x: Tensor, shape: tuple[int, int, int, int], stride: int, padding: int, ctx: Context) -> Tensor:
        """The convolution site `name` on x [N, C, H, W]; its weight (n, k) is seen as `shape`."""
        weight = self.params[f"{name}.weight"].reshape(*shape)
        return F.conv2d(x, weight, stride=stride, padding=padding, recipe=self.recipes[name], ctx=ctx.at(name))

    def norm(self, name: str, x: Tensor) -> Tensor:
        """RMSNorm or LayerNorm over the last axis, as `cfg.norm` says."""
        weight = self.params[f"{name}.weight"]
        if self.cfg.norm == "rmsnorm":
            return F.rmsnorm(x, weight, self.cfg.norm_eps)
        return F.layernorm(x, weight, self.params[f"{name}.bias"], self.cfg.norm_eps)

    def _learned(self, name: str, x: Tensor, weight: Tensor, ctx: Context) -> dict[str, Tensor]:
        """Learned quantizer parameters of a site; an init forward (`ctx.init`) makes them from what it sees."""
        if ctx.init and name not in self.learned and self.recipes[name] is not None:
            made = linear_parameters(x.data, weight.data, self.recipes[name], self.backend)
            self.learned[name] = {key: f"{name}.{key}" for key in made}
            for key, value in made.items():
                self.params[f"{name}.{key}"] = self._tensor(np.asarray(value))
                self.roles[f"{name}.{key}"] = "quantizer_step"
        return {key: self.params[full] for key, full in self.learned.get(name, {}).items()}

    def _tensor(self, array: Any) -> Tensor:
        return Tensor(array, self.backend, requires_grad=True)
