"""MLP: linear layers with ReLU between them, on flattened inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.models.config import complain, positive
from lpref.models.model import Model
from lpref.models.parameters import LinearSite, ParameterSpec, linear_parameters
from lpref.ref.errors import ShapeError
from lpref.ref.recipes import Context


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """A classifier of vectors."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    features: int = 64
    hidden: Sequence[int] = (128, 128)
    classes: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        widths = [f"hidden: {w!r} is not a positive integer" for w in self.hidden if not isinstance(w, int) or w < 1]
        complain(positive(self, "features", "classes") + widths, "mlp")


class MLP(Model):
    """logits [N, classes] of inputs [N, ...], flattened to `features`. Weights: normal, variance 2/k (arXiv:1502.01852)."""

    kind = "mlp"
    cfg: MLPConfig

    def linear_sites(self) -> list[LinearSite]:
        c, widths = self.cfg, [self.cfg.features, *self.cfg.hidden]
        count = len(widths)
        sites = [LinearSite(f"fc.{i}", "fc", i, count, widths[i + 1], widths[i], 1) for i in range(len(c.hidden))]
        return [*sites, LinearSite("classifier", "classifier", count - 1, count, c.classes, widths[-1], 1)]

    def declare(self) -> list[ParameterSpec]:
        return [spec for site in self.linear_sites() for spec in linear_parameters(site, (2.0 / site.k) ** 0.5, bias=True)]

    def logits(self, inputs: np.ndarray, ctx: Context) -> Tensor:
        flat = inputs.reshape(inputs.shape[0], -1)
        if flat.shape[1] != self.cfg.features:
            raise ShapeError(f"inputs are {inputs.shape}; needed {self.cfg.features} values each", where="mlp")
        x = Tensor(self.array(flat), self.backend)
        for i in range(len(self.cfg.hidden)):
            x = F.relu(self.linear(f"fc.{i}", x, ctx), self.under("activation", f"fc.{i}.activation", ctx))
        return self.linear("classifier", x, ctx)

    def operation_sites(self) -> Iterator[tuple[str, str]]:
        yield from (("activation", f"fc.{i}.activation") for i in range(len(self.cfg.hidden)))
        yield ("loss", "loss")
