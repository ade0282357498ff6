"""A whole transformer block in float64 beside torch: loss, gradients, Hessian-vector product."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.autodiff import Tensor, grad, hvp
from lpref.autodiff import functional as F
from lpref.ref.nn import rope_tables

pytestmark = pytest.mark.peer
torch = pytest.importorskip("torch")

N, T, D, H, HKV, V, FF = 2, 5, 16, 4, 2, 11, 12
SHAPES = {
    "table": (V, D), "n1": (D,), "qkv": (D + 2 * HKV * (D // H), D), "out": (D, D), "n2": (D,), "n2b": (D,),
    "up": (2 * FF, D), "down": (D, FF), "head": (V, D), "bias": (V,),
}  # fmt: skip


def values():
    rng = np.random.default_rng(5)
    params = {k: rng.standard_normal(s) * 0.4 for k, s in SHAPES.items()}
    return params, rng.integers(0, V, (N, T)), rng.integers(0, V, (N, T))


def heads(t, first, count):
    d = D // H
    return t[..., first * d : (first + count) * d].reshape(N, T, count, d).transpose(0, 2, 1, 3)


def ours(p, ids, targets):
    cos, sin = rope_tables(T, D // H, dtype=np.float64)
    x = F.embedding(p["table"], ids)
    qkv = F.linear(F.rmsnorm(x, p["n1"], 1e-5), p["qkv"])
    q, k, v = F.rope(heads(qkv, 0, H), cos, sin), F.rope(heads(qkv, H, HKV), cos, sin), heads(qkv, H + HKV, HKV)
    x = x + F.linear(F.attention(q, k, v, causal=True).transpose(0, 2, 1, 3).reshape(N, T, D), p["out"])
    x = x + F.linear(F.swiglu_packed(F.linear(F.layernorm(x, p["n2"], p["n2b"], 1e-5), p["up"])), p["down"])
    return F.softmax_cross_entropy(F.linear(F.gelu(x), p["head"], bias=p["bias"]), targets)


def theirs(p, ids, targets):
    f = torch.nn.functional
    cos, sin = map(torch.from_numpy, rope_tables(T, D // H, dtype=np.float64))

    def split(t, first, count):
        d = D // H
        return t[..., first * d : (first + count) * d].reshape(N, T, count, d).transpose(1, 2)

    def rotate(t):
        a, b = t.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    x = p["table"][torch.from_numpy(ids)]
    qkv = f.linear(f.rms_norm(x, (D,), p["n1"], 1e-5), p["qkv"])
    q, k, v = rotate(split(qkv, 0, H)), rotate(split(qkv, H, HKV)), split(qkv, H + HKV, HKV)
    k, v = (t.repeat_interleave(H // HKV, 1) for t in (k, v))
    scores = (q @ k.transpose(-1, -2)) * (D // H) ** -0.5
    scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -torch.inf)
    x = x + f.linear((scores.softmax(-1) @ v).transpose(1, 2).reshape(N, T, D), p["out"])
    g, u = f.linear(f.layer_norm(x, (D,), p["n2"], p["n2b"], 1e-5), p["up"]).chunk(2, -1)
    x = x + f.linear(f.silu(g) * u, p["down"])
    logits = f.linear(f.gelu(x, approximate="tanh"), p["head"], p["bias"])
    return f.cross_entropy(logits.reshape(-1, V), torch.from_numpy(targets).reshape(-1))


# Both are float64 with elementary functions to 1e-13; a chain of 12 layers of sums of ≤ 24 terms of size ≤ 8.
BOUND = 12 * 24 * 8 * 1e-13


def test_loss_gradients_and_hessian_product(B) -> None:
    params, ids, targets = values()
    a = {k: Tensor(v, B, True) for k, v in params.items()}
    b = {k: torch.tensor(v, requires_grad=True) for k, v in params.items()}
    loss, peer = ours(a, ids, targets), theirs(b, ids, targets)
    assert abs(loss.item() - peer.item()) <= BOUND
    want = torch.autograd.grad(peer, list(b.values()), create_graph=True)
    for (name, got), w in zip(grad(loss, a).items(), want, strict=True):
        np.testing.assert_allclose(got.data, w.detach().numpy(), rtol=0, atol=BOUND, err_msg=name)
    rng = np.random.default_rng(6)
    v = {k: rng.standard_normal(s) for k, s in SHAPES.items()}
    dot = sum((w * torch.from_numpy(v[k])).sum() for k, w in zip(b, want, strict=True))
    want = torch.autograd.grad(dot, list(b.values()))
    got = hvp(lambda p: ours(p, ids, targets), a, {k: Tensor(d, B) for k, d in v.items()})
    for (name, h), w in zip(got.items(), want, strict=True):
        np.testing.assert_allclose(
            h.data, w.numpy(), rtol=0, atol=BOUND * sum(d.size for d in v.values()) ** 0.5, err_msg=name
        )
