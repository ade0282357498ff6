"""GPT: a causal transformer over tokens. The defaults are Llama's layer (RMSNorm, rotary positions, SwiGLU); GPT-2 is
`norm="layernorm", activation="gelu", positions="learned", bias=True, tied=True`.

Source: Touvron et al., arXiv:2302.13971, section 2.2 (Llama); Radford et al. 2019 (GPT-2); Su et al., arXiv:2104.09864 (rotary positions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from lpref.autodiff import Tensor
from lpref.models.config import complain, one_of, positive
from lpref.models.parameters import LinearSite, ParameterSpec, linear_parameters, norm_parameters
from lpref.models.residual import Stream
from lpref.models.transformer import Transformer, TransformerConfig
from lpref.ref.backend import HOST, Arrays
from lpref.ref.errors import ShapeError
from lpref.ref.nn import rope_tables
from lpref.ref.recipes import Context


@dataclass(frozen=True, kw_only=True)
class GPTConfig(TransformerConfig):
    """A causal language model."""

    vocab: int = 256
    context: int = 128
    """Longest sequence."""
    positions: Literal["rope", "learned"] = "rope"
    rope_base: float = 10000.0
    tied: bool = False
    """The head's weight is the embedding table."""
    embedding_std: float | None = None
    """Standard deviation of the first embeddings; None: `init_std`."""

    def __post_init__(self) -> None:
        found = self.problems() + positive(self, "vocab", "context") + one_of(self, "positions", ("rope", "learned"))
        if not found and self.positions == "rope" and self.head_dim % 2:
            found.append(f"heads: rotary positions need an even head dimension, got {self.head_dim}")
        complain(found, "gpt")


def default_config() -> GPTConfig:
    """The model of the default run: bytes, 4 layers of width 128, 869 504 parameters.

    >>> default_config().head_dim
    32
    """
    return GPTConfig()


class GPT(Transformer):
    """logits [B, T, vocab] of token ids [B, T], T <= context."""

    kind = "gpt"
    last = "head"
    cfg: GPTConfig

    def declare(self) -> list[ParameterSpec]:
        c = self.cfg
        std = c.init_std if c.embedding_std is None else c.embedding_std
        specs = [ParameterSpec("wte.weight", (c.vocab, c.d_model), "embedding", std)]
        if c.positions == "learned":
            specs.append(ParameterSpec("wpe.weight", (c.context, c.d_model), "embedding", std))
        specs += [*self.block_parameters(), *norm_parameters("norm", c.d_model, c.norm)]
        return specs if c.tied else [*specs, *linear_parameters(self._head(), c.init_std)]

    def linear_sites(self) -> list[LinearSite]:
        return [*self.block_sites(self.cfg.context), self._head()]

    def _head(self) -> LinearSite:
        c = self.cfg
        return LinearSite("head", "head", -1, c.layers, c.vocab, c.d_model, c.context, "wte.weight" if c.tied else "")

    def stream(self, inputs: np.ndarray, ctx: Context) -> tuple[Stream, Callable[[int, Stream], Stream]]:
        c = self.cfg
        self.routes = []
        if inputs.ndim != 2 or not 1 <= inputs.shape[1] <= c.context:
            raise ShapeError(f"token ids are {inputs.shape}; needed [B, T] with 1 <= T <= {c.context}", where="gpt")
        batch, tokens = inputs.shape
        x = self.embed("wte", inputs.reshape(-1), ctx)
        rotary = None
        if c.positions == "rope":
            rotary = self._rotary(tokens, x.dtype)
        else:
            x = x + self.embed("wpe", np.tile(np.arange(tokens), batch), ctx)
        return x, lambda i, x: self.block(i, x, batch, ctx, causal=True, rotary=rotary)

    def logits(self, inputs: np.ndarray, ctx: Context) -> Tensor:
        x = self.through_blocks(*self.stream(inputs, ctx))
        return self.linear("head", self.last_norm(x, ctx, self.read_in("head", ctx)), ctx).reshape(*inputs.shape, self.cfg.vocab)

    def _rotary(self, tokens: int, dtype: np.dtype) -> tuple[Any, Any]:
        """cos and sin of the first positions."""
        arrays = HOST if self.backend is None else self.backend.arrays
        cos, sin = rotary_tables(self.cfg.context, self.cfg.head_dim, self.cfg.rope_base, np.dtype(dtype).name, arrays)
        return cos[:tokens], sin[:tokens]


@lru_cache(maxsize=16)
def rotary_tables(context: int, head_dim: int, base: float, dtype: str, arrays: Arrays = HOST) -> tuple[Any, Any]:
    """cos and sin [context, head_dim / 2] as arrays of a backend, made once; read-only in host memory."""
    cos, sin = rope_tables(context, head_dim, base, np.dtype(dtype).type)
    for table in (cos, sin):
        table.setflags(write=False)
    return arrays.make(cos), arrays.make(sin)
