"""The GPT of `lpref.models` in torch, field for field: the peer of the training-step benchmarks. Needs torch; nothing else imports this page.

RMSNorm or LayerNorm before each part, rotary (in halves) or learned positions, causal attention, SwiGLU or GELU (tanh), biases or none, an untied
head. `load` takes the arrays of a `lpref.models.gpt.GPT`, so that both models are the same function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from lpref.models.gpt import GPTConfig
from lpref.ref.errors import SpecError


def norm(c: GPTConfig) -> nn.Module:
    return nn.RMSNorm(c.d_model, eps=c.norm_eps) if c.norm == "rmsnorm" else nn.LayerNorm(c.d_model, eps=c.norm_eps)


class Attention(nn.Module):
    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.heads = c.heads
        self.qkv = nn.Linear(c.d_model, 3 * c.d_model, bias=c.bias)
        self.out = nn.Linear(c.d_model, c.d_model, bias=c.bias)

    def forward(self, x: torch.Tensor, cos: torch.Tensor | None, sin: torch.Tensor | None) -> torch.Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if cos is not None and sin is not None:
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(b, t, d))


class MLP(nn.Module):
    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.gated = c.activation == "swiglu"
        self.up = nn.Linear(c.d_model, (1 + self.gated) * c.ffn, bias=c.bias)
        self.down = nn.Linear(c.ffn, c.d_model, bias=c.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.up(x)
        if not self.gated:
            return self.down(F.gelu(h, approximate="tanh"))
        gate, up = h.chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = norm(c), Attention(c), norm(c), MLP(c)

    def forward(self, x: torch.Tensor, cos: torch.Tensor | None, sin: torch.Tensor | None) -> torch.Tensor:
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class GPT(nn.Module):
    """Mean cross-entropy of targets [B, T] after inputs [B, T].

    Raises: SpecError for what this page does not have: grouped keys, tied heads, other activations and places of norms.
    """

    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        if c.tied or c.kv_heads not in (None, c.heads) or c.activation not in ("swiglu", "gelu") or c.norm_place != "pre":
            raise SpecError(["the torch peer has untied heads, one key head a query head, swiglu or gelu, norms before"], where="torch_gpt")
        self.wte, self.h = nn.Embedding(c.vocab, c.d_model), nn.ModuleList(Block(c) for _ in range(c.layers))
        self.wpe = nn.Embedding(c.context, c.d_model) if c.positions == "learned" else None
        self.norm, self.head = norm(c), nn.Linear(c.d_model, c.vocab, bias=False)
        angles = torch.arange(c.context)[:, None] * c.rope_base ** (-torch.arange(c.head_dim // 2) / (c.head_dim // 2))
        self.register_buffer("cos", angles.cos() if self.wpe is None else None, persistent=False)
        self.register_buffer("sin", angles.sin() if self.wpe is None else None, persistent=False)

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take these weights, which have the same names."""
        self.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.wte(inputs)
        if self.wpe is not None:
            x = x + self.wpe.weight[: inputs.shape[1]]
        for block in self.h:
            x = block(x, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1).float(), targets.flatten())


def adamw(model: GPT, settings: Mapping[str, Any], **how: Any) -> torch.optim.Optimizer:
    """AdamW in float32 with these settings; the decay is on matrices only, as in lpref."""
    betas = settings.get("betas", (0.9, 0.95))
    decay = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": settings.get("weight_decay", 0.1)}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.get("lr", 1e-3), betas=tuple(betas), **how)
