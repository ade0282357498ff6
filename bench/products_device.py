"""Matrix products, operands and attention on the GPU: beside PyTorch's products (products_peers.py), and in both grades by CUDA events.

Run: PYTHONPATH=src python bench/products_device.py OUT.json [peers] [few] (needs PyTorch; peers: nothing but what is beside it; few: of that what
has a bar, through the op). Shapes of `cases` are the
products of one layer of three GPTs (4096 tokens of 128, 16384 of 384 and of 768): forward and the weight's gradient, whose sums are as long as the
tokens are many. A product of codes includes reading them; `operand` makes one operand from float32, along either axis. Each call allocates its
results from CuPy's pool, as a step does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cupy as cp
from nn_device import milliseconds, write
from products_peers import big_cases, block_cases

import lpref
from lpref.accel.cuda import cublaslt
from lpref.ref.quantize import lookup
from lpref.ref.random import WordAddress

SHAPES = ((4096, 352, 128), (128, 128, 4096), (16384, 384, 384), (384, 384, 16384), (16384, 3072, 768), (768, 3072, 16384))
QUANTIZERS = ("bf16", "nvfp4", "mxfp8_e4m3", "fp8_tensor", "fp8_block128", "int8_row")
HEADS = ((32, 4, 128, 32), (64, 6, 256, 64), (16, 12, 1024, 64))
GRADES = ("exact", "fast")


def cases(draw: Callable[..., Any]) -> dict[str, tuple[float, Callable[[], Any]]]:
    """Name -> (multiplications, the call)."""
    backends, found = {g: lpref.backend("cuda", g) for g in GRADES}, {}
    exact = backends["exact"]
    for m, n, k in SHAPES:
        a, b = draw(m, k), draw(n, k)
        for grade, backend in backends.items():
            found[f"matmul {m} x {n} x {k}, {grade}"] = (m * n * k, lambda a=a, b=b, f=backend.matmul: f(a, b.T))
            for name in QUANTIZERS:
                q = replace(lookup(name), tail="pad_zero")
                sides = [exact.operand(x, q, k_axis=1) for x in (a, b)]
                found[f"gemm {name} {m} x {n} x {k}, {grade}"] = (m * n * k, lambda s=sides, f=backend.gemm: f(*s))
    x = draw(16384, 768)
    for name in (*QUANTIZERS, "nvfp4_2d", "nvfp4:rounding=stochastic", "mxfp4:rounding=stochastic"):
        for axis in (1, 0):
            options = {"quantizer": lookup(name), "k_axis": axis, "words": WordAddress(1, 2, "bench")}
            found[f"operand {name} 16384 x 768, axis {axis}"] = (0, lambda o=options: exact.operand(x, **o))
    for shape in HEADS:
        q, k, v, do = (draw(*shape) for _ in range(4))
        o, p = exact.attention(q, k, v, True)
        each = shape[0] * shape[1] * shape[2] ** 2 * shape[3] / 2
        found[f"attention {shape}"] = (2 * each, lambda args=(q, k, v): exact.attention(*args, True))
        found[f"attention_backward {shape}"] = (5 * each, lambda args=(do, q, k, v, o, p): exact.attention_backward(*args, True))
    return found


def graded() -> list[dict[str, Any]]:
    """A row for each of `cases`."""
    source = cp.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    for name, (products, function) in cases(lambda *shape: source.standard_normal(shape, dtype=cp.float32)).items():
        ms = milliseconds(function)
        rows.append({"name": name, "us": 1000 * ms, "T_products/s": products / ms / 1e9})
        print(f"{name:50s} {1000 * ms:9.1f} us {products / ms / 1e9:8.2f} T/s", flush=True)
    return rows


def main() -> int:
    few = "few" in sys.argv[2:]
    versions = {"cublasLt": cublaslt.version()}
    big = big_cases(few) if few else []
    write(big, **versions)
    rows, only = block_cases(few), few or "peers" in sys.argv[2:]
    for key in ("bare", "op"):
        ratios = [row["times_torch"][key] for row in rows if key in row.get("times_torch", {})]
        if len(ratios) < 24:
            continue
        whole = sum(row["us"]["torch"] for row in rows if "us" in row) / sum(row["us"][key] for row in rows if "us" in row)
        rows.append({"name": f"24 products of layers, {key}", "times_torch": {"sum": whole, "least": min(ratios)}})
        print(rows[-1]["name"], f"{whole:.3f} times torch, each at least {min(ratios):.3f}", flush=True)
    write([*rows, *big], **versions)
    rows += big or big_cases()
    write(rows if only else [*rows, *graded()], **versions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
