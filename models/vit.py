"""ViT: a transformer over the patches of an image, learned positions, mean of the tokens, linear classifier.

Source: Dosovitskiy et al., arXiv:2010.11929, section 3.1; mean pooling instead of a class token as in Beyer et al., arXiv:2205.01580.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.models.config import complain, positive
from lpref.models.parameters import LinearSite, ParameterSpec, linear_parameters, norm_parameters
from lpref.models.residual import Stream
from lpref.models.transformer import Transformer, TransformerConfig
from lpref.ref.errors import ShapeError
from lpref.ref.recipes import Context


@dataclass(frozen=True, kw_only=True)
class ViTConfig(TransformerConfig):
    """An image classifier on square images."""

    layers: int = 2
    d_model: int = 64
    ffn: int = 192
    image: int = 8
    """Height and width in pixels."""
    channels: int = 1
    patch: int = 2
    """Height and width of a patch."""
    classes: int = 10

    def __post_init__(self) -> None:
        found = self.problems() + positive(self, "image", "channels", "patch", "classes")
        if not found and self.image % self.patch:
            found.append(f"patch: patches of {self.patch} do not tile an image of {self.image}")
        complain(found, "vit")

    @property
    def tokens(self) -> int:
        """Patches of an image."""
        return (self.image // self.patch) ** 2


class ViT(Transformer):
    """logits [N, classes] of images [N, C, H, W]."""

    kind = "vit"
    cfg: ViTConfig

    def _patch(self) -> LinearSite:
        c = self.cfg
        return LinearSite("patch", "patch", -1, c.layers, c.d_model, c.channels * c.patch**2, c.tokens)

    def _classifier(self) -> LinearSite:
        return LinearSite("classifier", "classifier", -1, self.cfg.layers, self.cfg.classes, self.cfg.d_model, 1)

    def declare(self) -> list[ParameterSpec]:
        c = self.cfg
        return [
            *linear_parameters(self._patch(), self._patch().k ** -0.5, bias=True),
            ParameterSpec("wpe.weight", (c.tokens, c.d_model), "embedding", c.init_std),
            *self.block_parameters(),
            *norm_parameters("norm", c.d_model, c.norm),
            *linear_parameters(self._classifier(), c.init_std, bias=True),
        ]

    def linear_sites(self) -> list[LinearSite]:
        return [self._patch(), *self.block_sites(self.cfg.tokens), self._classifier()]

    def stream(self, inputs: np.ndarray, ctx: Context) -> tuple[Stream, Callable[[int, Stream], Stream]]:
        c = self.cfg
        self.routes = []
        if inputs.ndim != 4 or inputs.shape[1:] != (c.channels, c.image, c.image):
            raise ShapeError(f"images are {inputs.shape}; needed [N, {c.channels}, {c.image}, {c.image}]", where="vit")
        batch = inputs.shape[0]
        x = self.linear("patch", Tensor(self.patches(self.array(inputs)), self.backend), ctx)
        x = x + self.embed("wpe", np.tile(np.arange(c.tokens), batch), ctx)
        return x, lambda i, x: self.block(i, x, batch, ctx, causal=False)

    def logits(self, inputs: np.ndarray, ctx: Context) -> Tensor:
        c, batch = self.cfg, inputs.shape[0]
        x = self.through_blocks(*self.stream(inputs, ctx))
        pooled = F.mean(self.last_norm(x, ctx).reshape(batch, c.tokens, c.d_model), axis=1)
        return self.linear("classifier", pooled, ctx)

    def patches(self, images: Any) -> Any:
        """[N, C, H, W] -> [N·tokens, C·p·p], patches row by row, values in (c, y, x) order; no arithmetic."""
        c = self.cfg
        side = c.image // c.patch
        tiles = images.reshape(-1, c.channels, side, c.patch, side, c.patch).transpose(0, 2, 4, 1, 3, 5)
        return tiles.reshape(-1, c.channels * c.patch**2)
