"""The ops of a training step that are no matrix product, on the GPU: time by CUDA events, least bytes, share of the copy bandwidth of the same run.

Run: PYTHONPATH=src python bench/nn_device.py OUT.json. Shapes are those of a GPT-2-sized step (16384 tokens of 768, vocabulary 50257 for 4096 of
them), and small ones for the time that Python takes; the kernels are those that tests/gpu proves. Each call allocates its results from CuPy's
pool, as a step does.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cupy as cp
import numpy as np
from where import about

from lpref.accel.cuda import activation, elementwise, embedding, hadamard, image, loss, norm, optim, reduce, rope
from lpref.ref.optim import adamw_coefficients

TOKENS, WIDTH, FFN, VOCAB, PARAMETERS = 16384, 768, 2048, 50257, 64 << 20
ROUNDS, CALLS = 7, 10


def milliseconds(function: Callable[[], Any]) -> float:
    """Median over rounds of the time of a call, several queued at once behind a copy that lets Python run ahead, after two that are not timed."""
    for _ in range(2):
        function()
    times, ahead = [], cp.empty(1 << 29, np.uint32)
    for _ in range(ROUNDS):
        begin, end = cp.cuda.Event(), cp.cuda.Event()
        cp.cuda.runtime.memcpyAsync(ahead.data.ptr, ahead.data.ptr + 2 * ahead.size, 2 * ahead.size, 3, 0)
        begin.record()
        for _ in range(CALLS):
            function()
        end.record()
        end.synchronize()
        times.append(cp.cuda.get_elapsed_time(begin, end) / CALLS)
    return float(np.median(times))


def cases(draw: Callable[..., Any]) -> dict[str, tuple[float, Callable[[], Any]]]:
    """Op -> (bytes that it has to move, the call)."""
    x, dy, w, r = draw(TOKENS, WIDTH), draw(TOKENS, WIDTH), draw(WIDTH), draw(TOKENS)
    gu, du = draw(TOKENS, 2 * FFN), draw(TOKENS, FFN)
    p, g, m, v = (draw(PARAMETERS) for _ in range(4))
    v = elementwise.abs(v)
    k = adamw_coefficients(3, 1e-3, 0.9, 0.95, 1e-8, 0.1)
    heads, turn = draw(16, 12, 1024, 64), draw(1024, 32)
    logits = draw(4096, VOCAB)
    ids = np.minimum(np.random.default_rng(1).geometric(1e-3, TOKENS), VOCAB) - 1
    targets, pictures = ids[:4096], draw(128, 64, 32, 32)
    signs = np.sign(np.random.default_rng(2).standard_normal(16)).astype(np.float32)
    probs = loss.softmax_cross_entropy(logits, targets)[1]
    n = x.nbytes
    return {
        "add": (3 * n, lambda: elementwise.add(x, dy)), "add row": (2 * n, lambda: elementwise.add(x, w)), "exp": (2 * n, lambda: elementwise.exp(x)),
        "tree_sum rows": (n, lambda: reduce.tree_sum(x)), "tree_sum columns": (n, lambda: reduce.tree_sum(x, 0)), "amax": (n, lambda: reduce.amax(x)),
        "rmsnorm": (2 * n, lambda: norm.rmsnorm(x, w, 1e-5)), "rmsnorm_backward": (3 * n, lambda: norm.rmsnorm_backward(dy, x, w, r)),
        "layernorm": (2 * n, lambda: norm.layernorm(x, w, w, 1e-5)), "layernorm_backward": (3 * n, lambda: norm.layernorm_backward(dy, x, w, r, r)),
        "gelu": (2 * n, lambda: activation.gelu(x)), "gelu_backward": (3 * n, lambda: activation.gelu_backward(dy, x)),
        "swiglu_packed": (gu.nbytes + du.nbytes, lambda: activation.swiglu_packed(gu)),
        "swiglu_packed_backward": (2 * gu.nbytes + du.nbytes, lambda: activation.swiglu_packed_backward(du, gu)),
        "rope": (2 * heads.nbytes, lambda: rope.rope(heads, turn, turn)),
        "hadamard 16, last axis": (2 * n, lambda: hadamard.hadamard(x, 16, 1, signs)),
        "hadamard 16, first axis": (2 * n, lambda: hadamard.hadamard(x, 16, 0, signs)),
        "hadamard 256, last axis": (2 * n, lambda: hadamard.hadamard(x, 256, 1)),
        "softmax_cross_entropy": (logits.nbytes, lambda: loss.softmax_cross_entropy(logits, targets)),
        "softmax_cross_entropy_backward": (2 * logits.nbytes, lambda: loss.softmax_cross_entropy_backward(1.0, probs, targets)),
        "embedding": (2 * n, lambda: embedding.embedding(x, ids % TOKENS)),
        "embedding_backward": (n + VOCAB * WIDTH * 4, lambda: embedding.embedding_backward(x, ids, VOCAB)),
        "im2col": (10 * pictures.nbytes, lambda: image.im2col(pictures, 3, 3, 1, 1)),
        "adamw_update": (7 * p.nbytes, lambda: optim.adamw_update(p, g, m, v, k)),
        "global_norm of 12 arrays": (p.nbytes, lambda: optim.global_norm([p[: PARAMETERS // 12]] * 12)),
        "all_finite": (p.nbytes, lambda: optim.all_finite([p])),
    }  # fmt: skip


def host_time(function: Callable[[], Any], calls: int = 300) -> float:
    """Microseconds of Python for a call: the fastest of rounds that only queue."""
    found = []
    for _ in range(5):
        cp.cuda.Device().synchronize()
        begin = time.perf_counter()
        for _ in range(calls):
            function()
        found.append((time.perf_counter() - begin) / calls * 1e6)
    return min(found)


def small(draw: Callable[..., Any]) -> dict[str, Callable[[], Any]]:
    """Calls whose kernels take a few microseconds."""
    x, dy, w, r, ids = draw(256, 128), draw(256, 128), draw(128), draw(256), np.arange(256)
    return {
        "add": lambda: elementwise.add(x, dy), "tree_sum": lambda: reduce.tree_sum(x), "rmsnorm": lambda: norm.rmsnorm(x, w, 1e-5),
        "rmsnorm_backward": lambda: norm.rmsnorm_backward(dy, x, w, r), "swiglu_packed": lambda: activation.swiglu_packed(x),
        "embedding": lambda: embedding.embedding(x, ids), "embedding_backward": lambda: embedding.embedding_backward(x, ids, 256),
        "softmax_cross_entropy": lambda: loss.softmax_cross_entropy(x, ids % 128), "hadamard 16": lambda: hadamard.hadamard(x, 16, 0, np.ones(16)),
        "global_norm of 40 arrays": lambda: optim.global_norm([w] * 40), "all_finite": lambda: optim.all_finite([w]),
    }  # fmt: skip


def write(rows: list[dict[str, Any]], **more: Any) -> None:
    """The rows, and what they were measured on (and `more` of that), into the file that the command line names."""
    Path(sys.argv[1]).write_text(json.dumps({"about": about(**more), "rows": rows}, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    source = cp.random.default_rng(1)
    made = cases(lambda *shape: source.standard_normal(shape, dtype=cp.float32))
    big = cp.empty(1 << 29, np.uint32)
    half = big.size // 2
    copy = milliseconds(lambda: cp.cuda.runtime.memcpyAsync(big.data.ptr, big.data.ptr + 4 * half, 4 * half, 3, 0))
    bandwidth = 8 * half / copy / 1e9
    rows: list[dict[str, Any]] = [{"name": "copy", "ms": copy, "TB/s": bandwidth}]
    for name, (size, function) in made.items():
        ms = milliseconds(function)
        rows.append({"name": name, "us": 1000 * ms, "TB/s": size / ms / 1e9, "share_of_copy_%": 100 * size / ms / 1e9 / bandwidth})
        print(f"{name:32s} {1000 * ms:9.1f} us {size / ms / 1e9:6.3f} TB/s {100 * size / ms / 1e9 / bandwidth:5.1f} % of copy", flush=True)
    for name, function in small(lambda *shape: source.standard_normal(shape, dtype=cp.float32)).items():
        function()
        rows.append({"name": f"call: {name}", "host_us": host_time(function)})
        print(f"call: {name:26s} {rows[-1]['host_us']:9.1f} us of Python", flush=True)
    write(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
