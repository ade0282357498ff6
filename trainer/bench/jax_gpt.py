"""The GPT of `lpref.models` in JAX and its training step, one jitted call: the peer of the training-step benchmarks. Needs jax; nothing else
imports this page.

The same function as `torch_gpt` and the same step as `torch_steps`: float32 weights, operands of products in bfloat16 (on the CPU float32),
norms, loss, clipping and AdamW in float32. Weights and moments are donated to the step, so that they change in place. Attention on a GPU is cuDNN's
(way `jax`) or what XLA makes of its definition (way `jax_xla`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else jax takes three quarters of a GPU that lpref and torch use beside it

import jax
import jax.numpy as jnp

from lpref.models.gpt import GPTConfig
from lpref.ref.errors import SpecError
from lpref.trainer.spec import TrainSpec

WAYS = {"jax": "cudnn", "jax_xla": "xla"}
"""Name -> implementation of `jax.nn.dot_product_attention`."""
Weights = dict[str, Any]


def config_of(spec: TrainSpec) -> GPTConfig:
    """The spec's model. Raises: SpecError for what this page does not have: grouped keys, tied heads, other activations and places of norms."""
    c = GPTConfig(**{name: value for name, value in spec.model.items() if name != "kind"})
    if c.tied or c.kv_heads not in (None, c.heads) or c.activation not in ("swiglu", "gelu") or c.norm_place != "pre":
        raise SpecError(["the jax peer has untied heads, one key head a query head, swiglu or gelu, norms before"], where="jax_gpt")
    return c


def start(c: GPTConfig) -> Weights:
    """First weights by the names of `lpref.models.gpt.GPT`, with its standard deviations but for the depth's scaling; norms 1, biases 0."""
    from lpref.models.gpt import GPT

    draw, found = np.random.default_rng(0), {}
    for spec in GPT(c).declare():
        ones = "norm" in spec.name and spec.name.endswith("weight")
        drawn = draw.standard_normal(spec.shape, np.float32) * np.float32(c.init_std)
        found[spec.name] = jnp.asarray(drawn if len(spec.shape) > 1 else np.full(spec.shape, float(ones), np.float32))
    return found


def norm(w: Weights, name: str, x: Any, c: GPTConfig) -> Any:
    x = x.astype(jnp.float32)
    if c.norm == "rmsnorm":
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + c.norm_eps) * w[f"{name}.weight"]
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + c.norm_eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(w: Weights, name: str, x: Any, dtype: Any) -> Any:
    y = x.astype(dtype) @ w[f"{name}.weight"].astype(dtype).T
    return y + w[f"{name}.bias"].astype(dtype) if f"{name}.bias" in w else y


def rotate(x: Any, c: GPTConfig) -> Any:
    """Rotary positions in halves; x [B, T, heads, D]."""
    half = c.head_dim // 2
    angles = np.arange(x.shape[1])[:, None, None] * c.rope_base ** (-np.arange(half) / half)
    cos, sin = jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)
    a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)


def block(w: Weights, at: str, x: Any, c: GPTConfig, dtype: Any, attention: str) -> Any:
    """One layer; x [B, T, width] of float32."""
    b, t, d = x.shape
    qkv = linear(w, f"{at}.attn.qkv", norm(w, f"{at}.norm1", x, c), dtype).reshape(b, t, 3, c.heads, d // c.heads)
    q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    if c.positions == "rope":
        q, k = rotate(q, c), rotate(k, c)
    mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=attention)
    x = x + linear(w, f"{at}.attn.out", mixed.reshape(b, t, d), dtype)
    h = linear(w, f"{at}.mlp.up", norm(w, f"{at}.norm2", x, c), dtype)
    if c.activation == "swiglu":
        gate, up = jnp.split(h, 2, -1)
        return x + linear(w, f"{at}.mlp.down", jax.nn.silu(gate) * up, dtype)
    return x + linear(w, f"{at}.mlp.down", jax.nn.gelu(h, approximate=True), dtype)


def loss(w: Weights, inputs: Any, targets: Any, c: GPTConfig, dtype: Any = jnp.float32, attention: str = "xla") -> Any:
    """Mean cross-entropy of targets [B, T] after inputs [B, T]."""
    x = w["wte.weight"][inputs]
    if c.positions == "learned":
        x = x + w["wpe.weight"][: inputs.shape[1]]
    for i in range(c.layers):
        x = block(w, f"h.{i}", x, c, dtype, attention)
    logits = linear(w, "head", norm(w, "norm", x, c), dtype).astype(jnp.float32)
    picked = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return (jax.nn.logsumexp(logits, -1) - picked).mean()


def adamw(w: Weights, g: Weights, m: Weights, v: Weights, t: Any, settings: Mapping[str, Any]) -> tuple[Weights, Weights, Weights]:
    """AdamW of step t (from 1) in float32; the decay is on matrices only, as in lpref."""
    (b1, b2), lr, decay = settings.get("betas", (0.9, 0.95)), settings.get("lr", 1e-3), settings.get("weight_decay", 0.1)
    m = {n: b1 * m[n] + (1 - b1) * g[n] for n in w}
    v = {n: b2 * v[n] + (1 - b2) * g[n] * g[n] for n in w}
    c1, c2 = 1 - b1**t, 1 - b2**t
    moved = {n: m[n] / c1 / (jnp.sqrt(v[n] / c2) + settings.get("eps", 1e-8)) for n in w}
    return {n: a - lr * (moved[n] + (decay * a if a.ndim > 1 else 0.0)) for n, a in w.items()}, m, v


def step(held: tuple[Any, ...], tokens: Any, c: GPTConfig, dtype: Any, attention: str, clip: float | None, settings: Any) -> tuple[Any, Any]:
    """(weights, moments and the step's number, the loss) of one training step."""
    w, m, v, t = held
    value, g = jax.value_and_grad(loss)(w, tokens[:, :-1], tokens[:, 1:], c, dtype, attention)
    if clip is not None:
        length = jnp.sqrt(sum((a * a).sum() for a in g.values()))
        g = {n: a * jnp.minimum(1.0, clip / (length + 1e-6)) for n, a in g.items()}
    return (*adamw(w, g, m, v, t, settings), t + 1.0), value


class Step:
    """`run()` starts a step on the next tokens, `loss()` waits for the last one and reads its loss."""

    def __init__(self, spec: TrainSpec, way: str = "jax_xla", place: str = "cuda") -> None:
        c = config_of(spec)
        dtype = jnp.bfloat16 if place == "cuda" else jnp.float32
        one = partial(step, c=c, dtype=dtype, attention=WAYS[way], clip=spec.train.clip, settings=dict(spec.optimizer))
        self.call = jax.jit(one, donate_argnums=0)
        weights = start(c)
        self.parameters = sum(a.size for a in weights.values())
        self.held: Any = (weights, *({n: jnp.zeros_like(a) for n, a in weights.items()} for _ in range(2)), jnp.float32(1))
        shape = (8, spec.train.batch, c.context + 1)
        self.tokens = list(jnp.asarray(np.random.default_rng(1).integers(0, c.vocab, shape), jnp.int32))
        self.count, self.last = 0, jnp.zeros(())

    def run(self) -> None:
        self.held, self.last = self.call(self.held, self.tokens[self.count % len(self.tokens)])
        self.count += 1

    def loss(self) -> float:
        return float(self.last)


def peer_row(spec: TrainSpec, way: str, steps: int) -> dict[str, Any]:
    """The figures of one way, as those of `lpref.trainer.bench.torch_steps.peer_row`."""
    from lpref.trainer.bench.timing import peer_times

    peer = Step(spec, way)
    each, queued, value = peer_times(peer, steps)
    tokens = peer.tokens[0][:, 1:].size
    peak = jax.local_devices()[0].memory_stats()
    return {
        "name": spec.name, "recipe": f"jax {jax.__version__} {way}", "backend": "cuda", "numerics": "bfloat16", "parameters": peer.parameters,
        "ms": 1000 * each, "queued ms": 1000 * queued, "tokens/s": tokens / queued, "loss": value,
        "peak GiB": peak["peak_bytes_in_use"] / 2**30 if peak else None,
    }  # fmt: skip
