r"""The pre-norm transformer block that GPT and ViT share.

.. math::
    x \leftarrow x + W_o\,\mathrm{attention}(W_{qkv}\,\mathrm{norm}(x)), \qquad x \leftarrow x + W_d\,\phi(W_u\,\mathrm{norm}(x))

The residual stream is kept as a matrix [B·T, D]. The rows of W_qkv are query heads, then key heads, then value heads; with SwiGLU the rows
of W_u are the gate, then the up projection. Query heads share key heads in groups of `heads / kv_heads` (arXiv:2305.13245).
With `experts` E > 0 the MLP is a shared one and E routed ones, of which a token takes the one of the largest router score (the first of equals):

.. math::
    \mathrm{mlp}(h) = \mathrm{shared}(h) + p_e\,\mathrm{expert}_e(h), \qquad p = \mathrm{softmax}(W_r h), \quad e = \arg\max p

Initialisation: normal with `init_std`; the two projections into the residual stream are divided by sqrt(2 layers)
(Radford et al. 2019, section 2.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.models.config import complain, one_of, positive
from lpref.models.experts import routed
from lpref.models.gating import gated
from lpref.models.model import Model
from lpref.models.parameters import LinearSite, ParameterSpec, linear_parameters, norm_parameters
from lpref.models.residual import Stream, Sum, summed
from lpref.ref.recipes import Context


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """A stack of transformer blocks."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    layers: int = 4
    d_model: int = 128
    heads: int = 4
    kv_heads: int | None = None
    """Key and value heads; None: as many as `heads`."""
    ffn: int = 352
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_eps: float = 1e-5
    activation: Literal["swiglu", "gelu", "gelu_erf"] = "swiglu"
    bias: bool = False
    """Biases of the linear layers inside the blocks."""
    init_std: float = 0.06
    experts: int = 0
    """Routed experts of each MLP beside a shared one (arXiv:2506.14435, top-1 routing of arXiv:2101.03961); 0: one MLP, no router."""
    norm_place: Literal["pre", "res_post"] = "pre"
    """Where a branch has its norm: on its input, or (Res-Post-LayerNorm, arXiv:2111.09883) on its output."""

    @property
    def kv(self) -> int:
        """Key and value heads."""
        return self.kv_heads or self.heads

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.d_model // self.heads

    def problems(self) -> list[str]:
        """What is wrong with the fields."""
        found = positive(self, "layers", "d_model", "heads", "ffn")
        if not isinstance(self.experts, int) or self.experts < 0:
            found.append(f"experts: {self.experts!r} is not a number of experts")
        if not found and self.d_model % self.heads:
            found.append(f"heads: {self.heads} heads do not divide d_model {self.d_model}")
        if not found and (self.kv < 1 or self.heads % self.kv):
            found.append(f"kv_heads: {self.kv} key heads do not divide {self.heads} query heads")
        found += [*one_of(self, "norm", ("rmsnorm", "layernorm")), *one_of(self, "norm_place", ("pre", "res_post"))]
        return found + one_of(self, "activation", ("swiglu", "gelu", "gelu_erf"))


def check(cfg: TransformerConfig, kind: str) -> None:
    """Raise every problem of a configuration at once."""
    complain(cfg.problems(), kind)


class Transformer(Model):
    """Blocks h.0, h.1, … of a model whose `cfg` is a TransformerConfig; `tokens` rows for one sample."""

    cfg: TransformerConfig

    def block_sites(self, tokens: int) -> Iterator[LinearSite]:
        """The linear sites of every block."""
        c = self.cfg
        up = 2 * c.ffn if c.activation == "swiglu" else c.ffn
        for i in range(c.layers):
            yield LinearSite(f"h.{i}.attn.qkv", "qkv", i, c.layers, (c.heads + 2 * c.kv) * c.head_dim, c.d_model, tokens)
            yield LinearSite(f"h.{i}.attn.out", "attn_out", i, c.layers, c.d_model, c.d_model, tokens)
            if c.experts:
                yield LinearSite(f"h.{i}.mlp.router", "router", i, c.layers, c.experts, c.d_model, tokens)
            for name in self.mlps(i):
                yield LinearSite(f"{name}.up", "mlp_up", i, c.layers, up, c.d_model, tokens)
                yield LinearSite(f"{name}.down", "mlp_down", i, c.layers, c.d_model, c.ffn, tokens)

    def mlps(self, i: int) -> list[str]:
        """The MLPs of block i: one, or the shared one and the routed ones."""
        count = self.cfg.experts
        return [f"h.{i}.mlp.shared", *(f"h.{i}.mlp.expert.{e}" for e in range(count))] if count else [f"h.{i}.mlp"]

    def gated_blocks(self) -> dict[str, int]:
        return {f"h.{i}": self.cfg.d_model for i in range(self.cfg.layers)}

    def block_parameters(self) -> Iterator[ParameterSpec]:
        """Norms and linear layers of every block."""
        c = self.cfg
        sites = {site.name: site for site in self.block_sites(1)}
        into_residual = c.init_std / math.sqrt(2 * c.layers)
        for i in range(c.layers):
            yield from norm_parameters(f"h.{i}.norm1", c.d_model, c.norm)
            yield from linear_parameters(sites[f"h.{i}.attn.qkv"], c.init_std, c.bias)
            yield from linear_parameters(sites[f"h.{i}.attn.out"], into_residual, c.bias)
            yield from norm_parameters(f"h.{i}.norm2", c.d_model, c.norm)
            if c.experts:
                yield from linear_parameters(sites[f"h.{i}.mlp.router"], c.init_std)
            for name in self.mlps(i):
                yield from linear_parameters(sites[f"{name}.up"], c.init_std, c.bias)
                yield from linear_parameters(sites[f"{name}.down"], into_residual, c.bias)

    def block(self, i: int, x: Stream, batch: int, ctx: Context, causal: bool, rotary: tuple | None = None) -> Stream:
        """Block i on x [batch·T, D]; `rotary` is (cos, sin) of T positions. Under a gate each sample has the precision that it picks."""
        if self.gating is None or self.recipes is None:
            return self.one_block(i, x, batch, ctx, causal, rotary)
        whole = summed(x)
        pooled = F.mean(whole.reshape(batch, -1, self.cfg.d_model), axis=1)
        return gated(self, f"h.{i}", pooled, ctx, lambda at: summed(self.one_block(i, whole, batch, at, causal, rotary)))

    def one_block(self, i: int, x: Stream, batch: int, ctx: Context, causal: bool, rotary: tuple | None) -> Stream:
        """Block i at the precision in force."""
        attn, mlp = f"h.{i}.attn", f"h.{i}.mlp"
        first, last = ("", "") if self.cfg.experts else ("up", "down")
        x = self.branch(attn, f"h.{i}.norm1", 2 * i, x, ctx, lambda h: self.attend(attn, h, batch, causal, rotary, ctx), ("qkv", "out"))
        return self.branch(mlp, f"h.{i}.norm2", 2 * i + 1, x, ctx, lambda h: self.feed(mlp, h, ctx), (first, last))

    def stream(self, inputs: np.ndarray, ctx: Context) -> tuple[Stream, Callable[[int, Stream], Stream]]:
        """(the residual stream before the first block, block number and stream -> the stream behind that block)."""
        raise NotImplementedError

    def through_blocks(self, x: Stream, block: Callable[[int, Stream], Stream]) -> Stream:
        """The residual stream behind the last block."""
        for i in range(self.cfg.layers):
            x = block(i, x)
        return x

    def branch(
        self, name: str, norm: str, number: int, x: Stream, ctx: Context, f: Callable[[Tensor], Tensor], ends: tuple[str, str]
    ) -> Stream:
        """The residual stream x with the branch f, which has a norm before or behind it. ends: the one layer that reads what f gets, and the one
        that makes what f gives, if they are such."""
        first, last = (f"{name}.{end}" if end else "" for end in ends)
        if self.cfg.norm_place == "pre":
            x, h = self.normed(norm, name, number, x, ctx, self.read_in(first, ctx) if first else "float32")
            return self.join(name, x, f(h), number, ctx, self.read_in(last, ctx, gradient=True) if last else "float32")
        x, h = self.split(name, summed(x), number, ctx)
        return summed(self.join(name, x, self.norm(norm, f(h), ctx), number, ctx))

    def normed(self, norm: str, name: str, number: int, x: Stream, ctx: Context, store: str) -> tuple[Tensor, Tensor]:
        """The residual stream, and the norm of what branch `name` takes from it: in one op with the addition where the recipe allows."""
        if isinstance(x, Sum) and not {"norm", "residual_split"} & set(self.operations):
            return self.add_norm(norm, x, store)
        x, h = self.split(name, summed(x), number, ctx)
        return x, self.norm(norm, h, ctx, store)

    def last_norm(self, x: Stream, ctx: Context, store: str = "float32") -> Tensor:
        """The norm behind the last block."""
        if isinstance(x, Sum) and "norm" not in self.operations:
            return self.add_norm("norm", x, store)[1]
        return self.norm("norm", summed(x), ctx, store)

    def add_norm(self, name: str, x: Sum, store: str) -> tuple[Tensor, Tensor]:
        """(the sum, its norm)."""
        weight, eps = self.params[f"{name}.weight"], self.cfg.norm_eps
        if self.cfg.norm == "rmsnorm":
            return F.add_rmsnorm(x.x, x.h, weight, eps, store, x.back)
        return F.add_layernorm(x.x, x.h, weight, self.params[f"{name}.bias"], eps, store, x.back)

    def attend(self, name: str, h: Tensor, batch: int, causal: bool, rotary: tuple | None, ctx: Context) -> Tensor:
        """Projections, attention, projection."""
        qkv = self.linear(f"{name}.qkv", h, ctx)
        return self.linear(f"{name}.out", self.heads(name, qkv, batch, causal, rotary, ctx), ctx)

    def feed(self, name: str, h: Tensor, ctx: Context) -> Tensor:
        """The MLP, or its shared expert and the routed ones."""
        if not self.cfg.experts:
            return self.one_mlp(name, h, ctx)
        y, gate = routed(self, name, h, ctx)
        return self.one_mlp(f"{name}.shared", h, ctx) + y * gate

    def one_mlp(self, name: str, h: Tensor, ctx: Context) -> Tensor:
        """The two layers of an MLP and what is between them."""
        return self.linear(f"{name}.down", self.activate(name, self.linear(f"{name}.up", h, ctx), ctx), ctx)

    def split(self, name: str, x: Tensor, branch: int, ctx: Context) -> tuple[Tensor, Tensor]:
        """The residual stream, and what its branch (counted from 0) takes from it."""
        return F.residual_split(
            x, self.under("residual_split", f"{name}.split", ctx, branch=branch, branches=2 * self.cfg.layers)
        )

    def join(self, name: str, x: Tensor, h: Tensor, branch: int, ctx: Context, back: str = "float32") -> Stream:
        """The residual stream with its branch, added where the recipe has something to do to the addition; back: as in `Sum`."""
        under = self.under("residual_add", f"{name}.add", ctx, branch=branch, branches=2 * self.cfg.layers)
        return Sum(x, h, back) if under is None else F.residual_add(x, h, under)

    def heads(self, name: str, qkv: Tensor, batch: int, causal: bool, rotary: tuple | None, ctx: Context) -> Tensor:
        """Attention of the packed projections [B·T, (H + 2 Hkv) d] -> [B·T, H d]."""
        c = self.cfg
        scale, tokens = 1.0 / math.sqrt(c.head_dim), qkv.shape[0] // batch
        under = self.under("attention", f"{name}.heads", ctx, tokens=tokens, causal=causal)
        operands = "float32" if under is None else under.recipe.operands
        back = self.read_in(f"{name}.qkv", ctx, gradient=True) if under is None or under.bare else "float32"
        return F.attention_packed(
            qkv, batch=batch, heads=c.heads, kv_heads=c.kv, rotary=rotary, causal=causal, scale=scale, operands=operands, under=under, back=back
        )

    def activate(self, name: str, h: Tensor, ctx: Context) -> Tensor:
        """The block's nonlinearity on the output of `mlp.up`."""
        kind = self.cfg.activation
        under = self.under("activation", f"{name}.activation", ctx, gated=kind == "swiglu")
        kept = ("float32", "float32")
        if under is None:
            kept = (self.read_in(f"{name}.down", ctx, alone=kind != "swiglu"), self.read_in(f"{name}.up", ctx, gradient=True))
        if kind != "swiglu":
            return F.gelu(h, "tanh" if kind == "gelu" else "erf", under, *kept)
        if not {"silu", "mul"} & set(self.operations):
            return F.swiglu_packed(h, under, *kept)
        gate, up = h[:, : self.cfg.ffn], h[:, self.cfg.ffn :]
        return F.product(
            F.silu(gate, self.under("silu", f"{name}.silu", ctx)), up, self.under("mul", f"{name}.mul", ctx)
        )

    def operation_sites(self) -> Iterator[tuple[str, str]]:
        """The operations of the blocks, the last norm, the tables and the loss."""
        for i in range(self.cfg.layers):
            yield from (("norm", f"h.{i}.norm1"), ("norm", f"h.{i}.norm2"), ("attention", f"h.{i}.attn.heads"))
            yield from ((kind, f"{name}.{kind}") for name in self.mlps(i) for kind in ("activation", "silu", "mul"))
            for branch in ("attn", "mlp"):
                yield from (("residual_split", f"h.{i}.{branch}.split"), ("residual_add", f"h.{i}.{branch}.add"))
        yield from (("norm", "norm"), ("embedding", "wte"), ("embedding", "wpe"), ("loss", "loss"))
