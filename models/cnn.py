"""CNN: a small residual network with group normalisation.

A stem convolution, then stages of residual blocks (two 3x3 convolutions; the first block of every later stage halves the image and has a
1x1 convolution on its shortcut), mean over the pixels, linear classifier.
Source: He et al., arXiv:1512.03385, section 3.3 (blocks); Wu & He, arXiv:1803.08494 (group normalisation).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.models.config import complain, one_of, positive
from lpref.models.gating import gated
from lpref.models.model import Model
from lpref.models.parameters import LinearSite, ParameterSpec, linear_parameters, norm_parameters
from lpref.ref.errors import ShapeError, SpecError
from lpref.ref.nn.range_norm import check_chunks, constant
from lpref.ref.recipes import Context


@dataclass(frozen=True, kw_only=True)
class CNNConfig:
    """A classifier of square images."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    image: int = 8
    channels: int = 1
    classes: int = 10
    widths: Sequence[int] = (16, 32)
    """Channels of each stage."""
    blocks: int = 1
    """Residual blocks in each stage."""
    groups: int = 4
    """Groups of a normalisation."""
    norm_eps: float = 1e-5
    norm: Literal["group", "range"] = "group"
    """range: Range batch normalization (`lpref.ref.nn.range_norm`) in the place of group normalization."""
    range_chunks: int = 16
    """Chunks of a channel's values whose extremes it averages."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        found = positive(self, "image", "channels", "classes", "blocks", "groups", "range_chunks") + one_of(self, "norm", ("group", "range"))
        if not self.widths:
            found.append("widths: needs at least one stage")
        if not found:
            found += [f"widths: {w!r} channels do not split into {self.groups} groups" for w in self.widths if w < 1 or w % self.groups]
        complain(found, "cnn")


@dataclass(frozen=True)
class Convolution:
    """One convolution: `kernel` x `kernel`, zero padding kernel // 2."""

    name: str
    channels_in: int
    channels_out: int
    kernel: int
    stride: int
    size: int
    """Height and width of its output."""


class CNN(Model):
    """logits [N, classes] of images [N, C, H, W]. Convolutions: normal, variance 2/k (arXiv:1502.01852)."""

    kind = "cnn"
    cfg: CNNConfig

    def convolutions(self) -> Iterator[Convolution]:
        """All convolutions in the order of the forward pass."""
        c, size, width = self.cfg, self.cfg.image, self.cfg.widths[0]
        yield Convolution("stem", c.channels, width, 3, 1, size)
        for s, wide in enumerate(c.widths):
            for b in range(c.blocks):
                stride = 2 if s > 0 and b == 0 else 1
                size = (size - 1) // stride + 1
                yield Convolution(f"stage.{s}.{b}.conv1", width, wide, 3, stride, size)
                yield Convolution(f"stage.{s}.{b}.conv2", wide, wide, 3, 1, size)
                if stride != 1 or width != wide:
                    yield Convolution(f"stage.{s}.{b}.shortcut", width, wide, 1, stride, size)
                width = wide

    def linear_sites(self) -> list[LinearSite]:
        convolutions = list(self.convolutions())
        count = len(convolutions) + 1
        sites = [
            LinearSite(v.name, "conv", i, count, v.channels_out, v.channels_in * v.kernel**2, v.size**2)
            for i, v in enumerate(convolutions)
        ]
        return [*sites, LinearSite("classifier", "classifier", count - 1, count, self.cfg.classes, self.cfg.widths[-1], 1)]

    def declare(self) -> list[ParameterSpec]:
        specs: list[ParameterSpec] = []
        for site in self.linear_sites():
            last = site.role == "classifier"
            specs += linear_parameters(site, (1.0 if last else 2.0) ** 0.5 * site.k**-0.5, bias=last)
            if not last:
                specs += norm_parameters(f"{site.name}.norm", site.n, "groupnorm")
        return specs

    def logits(self, inputs: np.ndarray, ctx: Context) -> Tensor:
        c = self.cfg
        if inputs.ndim != 4 or inputs.shape[1:] != (c.channels, c.image, c.image):
            raise ShapeError(f"images are {inputs.shape}; needed [N, {c.channels}, {c.image}, {c.image}]", where="cnn")
        convolutions = {v.name: v for v in self.convolutions()}
        x = self.relu("stem", self.normed(convolutions["stem"], Tensor(self.array(inputs), self.backend), ctx), ctx)
        for s in range(len(c.widths)):
            for b in range(c.blocks):
                x = self.block(f"stage.{s}.{b}", s * c.blocks + b, x, convolutions, ctx)
        n, channels = x.shape[:2]
        return self.linear("classifier", F.mean(x.reshape(n, channels, -1), axis=2), ctx)

    def block(self, name: str, index: int, x: Tensor, convolutions: Mapping[str, Convolution], ctx: Context) -> Tensor:
        """A residual block; under a gate each image has the precision that it picks."""
        if self.gating is None or self.recipes is None:
            return self.one_block(name, index, x, convolutions, ctx)
        pooled = F.mean(x.reshape(*x.shape[:2], -1), axis=2)
        return gated(self, name, pooled, ctx, lambda at: self.one_block(name, index, x, convolutions, at))

    def one_block(self, name: str, index: int, x: Tensor, convolutions: Mapping[str, Convolution], ctx: Context) -> Tensor:
        """A residual block at the precision in force."""
        sizes = {"branch": index, "branches": len(self.cfg.widths) * self.cfg.blocks}
        x, y = F.residual_split(x, self.under("residual_split", f"{name}.split", ctx, **sizes))
        y = self.relu(f"{name}.conv1", self.normed(convolutions[f"{name}.conv1"], y, ctx), ctx)
        y = self.normed(convolutions[f"{name}.conv2"], y, ctx)
        short = convolutions.get(f"{name}.shortcut")
        x = x if short is None else self.normed(short, x, ctx)
        return self.relu(name, F.residual_add(x, y, self.under("residual_add", f"{name}.add", ctx, **sizes)), ctx)

    def gated_blocks(self) -> dict[str, int]:
        return {v.name.removesuffix(".conv1"): v.channels_in for v in self.convolutions() if v.name.endswith(".conv1")}

    def normed(self, v: Convolution, x: Tensor, ctx: Context) -> Tensor:
        """The convolution followed by its normalisation."""
        normal = self.range_norm if self.cfg.norm == "range" else self.group_norm
        return normal(f"{v.name}.norm", self.conv(v.name, x, v.kernel, v.stride, ctx), ctx)

    def relu(self, name: str, x: Tensor, ctx: Context) -> Tensor:
        """ReLU behind a convolution, or behind the sum of a block."""
        return F.relu(x, self.under("activation", f"{name}.activation", ctx))

    def operation_sites(self) -> Iterator[tuple[str, str]]:
        convolutions = [v.name for v in self.convolutions()]
        blocks = [name.removesuffix(".conv1") for name in convolutions if name.endswith(".conv1")]
        yield from (("norm", f"{name}.norm") for name in convolutions)
        yield from (("activation", f"{name}.activation") for name in ["stem", *blocks, *(f"{b}.conv1" for b in blocks)])
        kinds = ("residual_split", "residual_add")
        yield from ((kind, f"{name}.{kind.removeprefix('residual_')}") for name in blocks for kind in kinds)
        yield ("loss", "loss")

    def range_norm(self, name: str, x: Tensor, ctx: Context) -> Tensor:
        """Each channel to mean 0 and a range-estimated deviation of 1 over the batch at hand (at evaluation too), then a scale and a shift."""
        if self.under("norm", name, ctx) is not None:
            raise SpecError(["operations.norm: range normalization has no form under a recipe"], where=name, remedy="use model.norm=group")
        shape, chunks = (1, x.shape[1], 1, 1), self.cfg.range_chunks
        rows = x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
        check_chunks(rows.shape[1], chunks)
        cut = rows.reshape(x.shape[1], chunks, -1)
        spread = F.mean(F.max(cut, 2), 1) + F.mean(F.max(-cut, 2), 1)
        inverse = 1.0 / (spread * constant(cut.shape[2]) + self.cfg.norm_eps)
        weight, bias = (self.params[f"{name}.{part}"].reshape(*shape) for part in ("weight", "bias"))
        return (x - F.mean(rows, 1).reshape(*shape)) * inverse.reshape(*shape) * weight + bias

    def group_norm(self, name: str, x: Tensor, ctx: Context) -> Tensor:
        """Each group of channels of each image to mean 0 and variance 1, then a scale and a shift for each channel."""
        n, channels, height, width = x.shape
        values = channels // self.cfg.groups * height * width
        ones, zeros = (self.array(make(values, x.dtype)) for make in (np.ones, np.zeros))
        flat = x.reshape(n * self.cfg.groups, values)
        under = self.under("norm", name, ctx)
        normal = F.layernorm(flat, Tensor(ones, self.backend), Tensor(zeros, self.backend), self.cfg.norm_eps, under)
        weight, bias = (self.params[f"{name}.{part}"].reshape(1, channels, 1, 1) for part in ("weight", "bias"))
        return normal.reshape(n, channels, height, width) * weight + bias
