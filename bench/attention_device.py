"""Causal attention of grade fast on the GPU beside torch's: microseconds of a forward, and of a forward and its backward, by replays of CUDA graphs.

Run: PYTHONPATH=src python bench/attention_device.py OUT.json. Ours writes float32. `bfloat16`: of bfloat16 arrays, within the bound of one term
(lpref.ref.attention.fused); `mixed`: of the same arrays, within that of three terms, as recipes want it; `float32`: of float32 arrays, within
that of three; `packed`: as `mixed`, of packed projections, gradients stored as bfloat16, `rotated`: their queries and keys rotated too. torch's
read and write bfloat16, unrotated: FlashAttention-2 and cuDNN, of scaled_dot_product_attention. Each graph holds several calls in a
row; medians of replays, in one process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cupy as cp
import ml_dtypes
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from where import about

import lpref
from lpref.ref.nn.rope import rope_tables

SHAPES = [(32, 4, 128, 32), (64, 6, 256, 64), (16, 12, 1024, 64), (4, 16, 4096, 128)]
"""B, H, T, D"""
CALLS, WARM, ROUNDS = 4, 4, 15
FAST = lpref.backend("cuda", "fast")
OURS = {"bfloat16": (ml_dtypes.bfloat16, "bfloat16"), "mixed": (ml_dtypes.bfloat16, "float32"), "float32": (np.float32, "float32")}
"""Name -> dtype of the arrays, what operands may be rounded to"""
PEERS = {"torch FA2": SDPBackend.FLASH_ATTENTION, "torch cuDNN": SDPBackend.CUDNN_ATTENTION}


def ours(function: Callable[[], Any]) -> float:
    """Median microseconds of a call."""
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        for _ in range(3):
            function()
        stream.synchronize()
        stream.begin_capture()
        for _ in range(CALLS):
            function()
        graph = stream.end_capture()
    times = []
    for _ in range(WARM + ROUNDS):
        begin, end = cp.cuda.Event(), cp.cuda.Event()
        begin.record(stream)
        graph.launch(stream)
        end.record(stream)
        end.synchronize()
        times.append(cp.cuda.get_elapsed_time(begin, end) * 1000 / CALLS)
    return float(np.median(times[WARM:]))


def theirs(function: Callable[[], Any]) -> float:
    """Median microseconds of a call."""
    for _ in range(3):
        function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            function()
    times = []
    for _ in range(WARM + ROUNDS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / CALLS)
    return float(np.median(times[WARM:]))


def packed(q: Any, k: Any, v: Any, do: Any, tables: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A forward of the three beside each other, as bfloat16, and a forward and its backward."""
    B, H, T, _ = q.shape
    qkv, d = (x.transpose(0, 2, 1, 3).reshape(B * T, -1).astype(ml_dtypes.bfloat16) for x in (cp.concatenate([q, k, v], axis=1), do))
    options = (B, H, H, tables, True)

    def whole() -> None:
        o, saved = FAST.attention_packed(qkv, *options)
        FAST.attention_packed_backward(d, qkv, o, saved, *options, store="bfloat16")

    return lambda: FAST.attention_packed(qkv, *options), whole


def both(q: Any, k: Any, v: Any, do: Any, operands: str) -> None:
    """A forward and its backward."""
    o, saved = FAST.attention(q, k, v, True, None, operands)
    FAST.attention_backward(do, q, k, v, o, saved, True, None, operands)


def measured(shape: tuple[int, int, int, int], draw: Callable[..., Any]) -> dict[str, dict[str, float]]:
    """Who -> {forward, both}."""
    drawn = [draw(*shape) for _ in range(4)]
    found = {}
    for name, (kind, operands) in OURS.items():
        q, k, v, do = (a.astype(kind) for a in drawn)
        forward = ours(lambda a=(q, k, v), operands=operands: FAST.attention(*a, True, None, operands))
        found[name] = {"forward": forward, "both": ours(lambda a=(q, k, v, do), operands=operands: both(*a, operands))}
    for name, tables in (("packed", None), ("rotated", tuple(cp.asarray(t) for t in rope_tables(*shape[2:])))):
        runs = packed(*drawn, tables)
        found[name] = dict(zip(("forward", "both"), map(ours, runs), strict=True))
    x, y, z, g = (torch.from_dlpack(a).to(torch.bfloat16) for a in drawn)
    leaves = [a.requires_grad_(True) for a in (x, y, z)]
    for name, kind in PEERS.items():
        with sdpa_kernel(kind):
            forward = theirs(lambda: torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=True).detach())
            whole = theirs(lambda: torch.autograd.grad(torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=True), leaves, g))
            found[name] = {"forward": forward, "both": whole}
    return found


def write(rows: list[dict[str, Any]], path: str) -> None:
    """The rows, and what they were measured on."""
    Path(path).write_text(json.dumps({"about": about(), "rows": rows}, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    source = cp.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        found = measured(shape, lambda *s: source.standard_normal(s, dtype=cp.float32))
        row: dict[str, Any] = {"shape": shape, "us": {who: {k: round(t, 1) for k, t in times.items()} for who, times in found.items()}}
        for name in (*OURS, "packed", "rotated"):
            row[f"FA2 / {name}"] = {k: round(found["torch FA2"][k] / found[name][k], 3) for k in ("forward", "both")}
        rows.append(row)
        print(json.dumps(row), flush=True)
    write(rows, sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
