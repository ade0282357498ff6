"""The fused operations of the cpu backend beside eager torch, forward and backward, at the shapes of the default model.

The two sides take turns in one process with the same number of threads; a figure is time / torch's time, each the best of its rounds.
torch's backward runs through autograd, as in an eager step. The kernels are those that tests/accel/test_kernels.py proves.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

THREADS = int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count() or 1))
TOKENS, WIDTH, FFN, VOCAB = 2048, 128, 352, 256
BATCH, HEADS, LENGTH, HEAD = 16, 4, 128, 32


def timed(sides: list[Callable[[], Any]], rounds: int = 30, warm: int = 3) -> list[float]:
    """Best seconds of each side."""
    kept: list[list[float]] = [[] for _ in sides]
    for turn in range(warm + rounds):
        for side, times in zip(sides, kept, strict=True):
            started = time.perf_counter()
            side()
            if turn >= warm:
                times.append(time.perf_counter() - started)
    return [min(times) for times in kept]


def pairs(B: Any, torch: Any) -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """(name, ours forward and backward, torch's forward and backward)."""
    source, f = np.random.default_rng(0), torch.nn.functional
    draw = lambda *shape: source.standard_normal(shape).astype(np.float32)  # noqa: E731

    def leaf(x: np.ndarray) -> Any:
        return torch.tensor(x, requires_grad=True)

    def both(run: Callable[..., Any], leaves: list[Any], dy: np.ndarray | None) -> Callable[[], None]:
        gradient = None if dy is None else torch.tensor(dy)

        def call() -> None:
            torch.autograd.grad(run(*leaves), leaves, gradient)

        return call

    x, w, b, dy = draw(TOKENS, WIDTH), draw(WIDTH), draw(WIDTH), draw(TOKENS, WIDTH)

    def rmsnorm() -> None:
        _, rstd = B.rmsnorm(x, w, 1e-5)
        B.rmsnorm_backward(dy, x, w, rstd)

    yield "rmsnorm", rmsnorm, both(lambda x, w: f.rms_norm(x, (WIDTH,), w, 1e-5), [leaf(x), leaf(w)], dy)

    def layernorm() -> None:
        _, mean, rstd = B.layernorm(x, w, b, 1e-5)
        B.layernorm_backward(dy, x, w, mean, rstd)

    yield "layernorm", layernorm, both(lambda x, w, b: f.layer_norm(x, (WIDTH,), w, b, 1e-5), [leaf(x), leaf(w), leaf(b)], dy)
    gu, dh = draw(TOKENS, 2 * FFN), draw(TOKENS, FFN)

    def swiglu() -> None:
        B.swiglu_packed(gu)
        B.swiglu_packed_backward(dh, gu)

    yield "swiglu", swiglu, both(lambda x: f.silu(x[:, :FFN]) * x[:, FFN:], [leaf(gu)], dh)

    def gelu() -> None:
        B.gelu(dh)
        B.gelu_backward(dh, dh)

    yield "gelu", gelu, both(lambda x: f.gelu(x, approximate="tanh"), [leaf(dh)], dh)
    logits, targets = draw(TOKENS, VOCAB), source.integers(0, VOCAB, TOKENS)
    labels = torch.tensor(targets)

    def entropy() -> None:
        _, probs = B.softmax_cross_entropy(logits, targets)
        B.softmax_cross_entropy_backward(1.0, probs, targets)

    yield "softmax cross-entropy", entropy, both(lambda z: f.cross_entropy(z, labels), [leaf(logits)], None)
    table = draw(VOCAB, WIDTH)

    def embedding() -> None:
        B.embedding(table, targets)
        B.embedding_backward(dy, targets, VOCAB)

    yield "embedding", embedding, both(lambda t: f.embedding(labels, t), [leaf(table)], dy)
    q, k, v, do = (draw(BATCH, HEADS, LENGTH, HEAD) for _ in range(4))

    def attention() -> None:
        o, probs = B.attention(q, k, v, True)
        B.attention_backward(do, q, k, v, o, probs, True)

    yield "attention", attention, both(lambda *a: f.scaled_dot_product_attention(*a, is_causal=True), [leaf(q), leaf(k), leaf(v)], do)
    cos, sin = draw(LENGTH, HEAD // 2), draw(LENGTH, HEAD // 2)
    c, s = torch.tensor(np.hstack([cos, cos])), torch.tensor(np.hstack([sin, sin]))

    def rope() -> None:
        B.rope(q, cos, sin)
        B.rope_backward(do, cos, sin)

    half = HEAD // 2
    yield "rope", rope, both(lambda x: x * c + torch.cat([-x[..., half:], x[..., :half]], -1) * s, [leaf(q)], do)
    from lpref.ref.optim import adamw_coefficients

    p, g, m, n = (draw(900_000) for _ in range(4))
    n, coefficients = np.abs(n), adamw_coefficients(10, 1e-3, 0.9, 0.95, 1e-8, 0.1)
    parameter = torch.nn.Parameter(torch.tensor(p))
    parameter.grad = torch.tensor(g)
    theirs = torch.optim.AdamW([parameter], fused=True)

    def adamw() -> None:
        delta, _, _ = B.adamw_update(p, g, m, n, coefficients)
        p + delta

    yield "adamw, 0.9 M (torch fused)", adamw, theirs.step
    yield "global norm, 0.9 M", lambda: B.global_norm([g]), lambda: torch.nn.utils.get_total_norm([parameter.grad])
    a, bt = draw(TOKENS, WIDTH), draw(WIDTH, 2 * FFN)
    ta, tb = torch.tensor(a), torch.tensor(bt)
    yield "matmul 2048 x 128 x 704", lambda: B.matmul(a, bt), lambda: ta @ tb


def rows() -> list[dict[str, Any]]:
    try:
        import torch
    except ImportError:
        return [{"name": "fused operations / torch", "value": None, "unit": "x", "note": "torch is not installed"}]
    import lpref

    torch.set_num_threads(THREADS)
    out = []
    for grade in ("fast", "exact"):
        for name, ours, theirs in pairs(lpref.backend("cpu", grade), torch):
            if grade == "exact" and not name.startswith("matmul"):
                continue  # the same kernel in both grades
            mine, peer = timed([ours, theirs])
            note = f"{mine * 1e3:.3f} ms, torch {peer * 1e3:.3f} ms"
            out.append({"name": f"{name}, {grade}: time / torch", "value": mine / peer, "unit": "x", "note": note})
    return out


if __name__ == "__main__":
    for row in rows():
        print(f"{row['name']:52} {row['value']:6.2f} {row['unit']}   {row.get('note', '')}")
