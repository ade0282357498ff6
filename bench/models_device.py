"""cuBLASLt's products against the accumulation models of `lpref.ref.linalg`, bit for bit, on the GPU of this machine, split-K excluded.

Run: PYTHONPATH=src python bench/models_device.py OUT.json. The model is the backend's own kernel, which tests/gpu/test_models.py holds against the
definition. Every algorithm that the library proposes for a shape is launched; operands are codes of all magnitudes, normal numbers, neighbours that
cancel but for the last bit, numbers near both ends of the range, with infinities, NaN and zeros of both signs. A row: unit, shape, kind, output,
algorithms with outputs compared and outputs that differ. Rows of operands or outputs that are no multiple of 16 bytes (`aligned` false) get
kernels of older units, and algorithms without a tile use no matrix unit; what differs there is compared with `OTHERS`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cupy as cp
import numpy as np

import lpref
from lpref.accel.cuda import algorithms, cublaslt
from lpref.accel.cuda.cublaslt import Plan, Product, Side
from lpref.accel.cuda.qtensor import CudaQTensor
from lpref.ref.linalg import accumulator
from lpref.ref.quantize import Blocks, Quantizer, Scale, lookup

EXACT = lpref.backend("cuda", "exact")
CASES = {
    "bf16": ("hopper_bf16", (("bfloat16", "bfloat16"),), ("float32", "bfloat16"), False),
    "fp16": ("hopper_fp16", (("binary16", "binary16"),), ("float32", "binary16"), False),
    "fp8_fast": ("hopper_fp8_fast", (("e4m3", "e4m3"), ("e4m3", "e5m2"), ("e5m2", "e4m3")), ("float32", "bfloat16"), True),
    "fp8_promote128": ("hopper_fp8_promote128", (("e4m3", "e4m3"), ("e4m3", "e5m2"), ("e5m2", "e4m3")), ("float32", "bfloat16"), False),
    "int8": ("", (("int8", "int8"),), ("int32",), False),
}  # fmt: skip
"""Case -> model, pairs of formats, outputs, fast accumulation."""
KINDS = ("normal", "codes", "cancel", "ends", "special")
SMALL = ((1, 64, 96, 128), (1, 256, 512, 1024), (1, 131, 144, 304), (3, 80, 64, 160))
"""Matrices, M, N, K."""
LARGE = (*SMALL, (1, 2048, 2048, 64), (1, 2048, 1024, 512), (1, 384, 1152, 16384), (1, 4096, 96, 2048), (1, 1037, 1168, 1168), (6, 200, 144, 320),
         (1, 17, 4096, 4096), (1, 2048, 2048, 192))  # fmt: skip
RAGGED = ((1, 33, 57, 35), (1, 33, 57, 2048), (1, 64, 64, 100), (1, 130, 67, 515))
"""Rows that are no multiple of 16 bytes: kernels of older units, another model."""
LAYOUTS = {"bf16": ((True, True), (True, False), (False, False), (False, True)), "fp16": ((True, True), (False, False))}
ENTRIES = ("id", "tile", "stages", "cluster", "custom", "split")
"""Of an algorithm's configuration, in the order in which they are written."""
OTHERS = {
    "steps of 8": ({"products": 8}, 0), "steps of 8, rest of 32 first": ({"products": 8}, 32), "steps of 8, rest of 64 first": ({"products": 8}, 64),
    "steps of 16, rest of 32 first": ({}, 32), "steps of 16, rest of 64 first": ({}, 64),
}  # fmt: skip
"""Other models of a 16-bit unit: what is changed, and, if not 0, of how many elements of k those are the rest that come first."""
WORDS = {"float32": np.uint32, "int32": np.int32}
EXPONENTS = {"bfloat16": (8, 7), "binary16": (5, 10), "e4m3": (4, 3), "e5m2": (5, 2)}


def draw(kind: str, name: str, shape: tuple[int, ...], source: Any) -> Any:
    """Codes [.., K] of a format, made of integers."""
    if name == "int8":
        low = {"ends": 120, "cancel": -1}.get(kind, -127)
        return source.integers(low, 2 if kind == "cancel" else 128, shape).astype(np.int8)
    wide, bits = EXPONENTS[name]
    top, middle = 2**wide - 1 - (name != "e4m3"), 2 ** (wide - 1) - 1
    reach = {"bfloat16": {"codes": 24, "normal": 3, "cancel": 6, "special": 8}}.get(name, {}).get(kind, 2 if kind == "normal" else 2**wide)
    low, high = max(middle - reach, 0), min(middle + reach, top)
    if kind == "ends":  # products near the ends: of 2^-149 and 2^128 in bfloat16, of the format elsewhere
        low, high = ((middle - 76, middle - 60) if int(source.integers(0, 2)) else (middle + 58, middle + 66)) if name == "bfloat16" else (0, 1)
    e, m, s = source.integers(low, high + 1, shape), source.integers(0, 2**bits, shape), source.integers(0, 2, shape)
    codes = s << (wide + bits) | e << bits | m
    if name == "e4m3":
        codes = cp.where(codes & 0x7F == 0x7F, codes - 1, codes)
    if kind == "cancel":
        flip = 1 << (wide + bits) | (source.integers(0, 4, codes[..., ::2].shape) == 0).astype(codes.dtype)
        codes[..., 1::2] = codes[..., : codes.shape[-1] // 2 * 2 : 2] ^ flip[..., : codes.shape[-1] // 2]
    if kind == "special":
        infinity = (2**wide - 1) << bits
        odd = cp.asarray([0, 0, 0x7F, 0x7F] if name == "e4m3" else [0, 0, infinity, infinity | 1])
        pick = odd[source.integers(0, 4, shape)] | source.integers(0, 2, shape) << (wide + bits)
        codes = cp.where(source.integers(0, 400, shape) == 0, pick, codes)
    return codes.astype(np.uint16 if wide + bits == 15 else np.uint8)


def paired(codes: Any) -> Any:
    """Neighbours along k made equal."""
    codes[..., 1::2] = codes[..., : codes.shape[-1] // 2 * 2 : 2]
    return codes


@cache
def quantizer(name: str) -> Quantizer:
    """A cast without scales."""
    return Quantizer(name, Blocks(), Scale("none"))


def rest_first(codes: Any, tile: int, step: int) -> Any:
    """Zeros put behind the K mod `tile` first elements of k, so that these fill their own steps."""
    rest = codes.shape[-1] % tile if tile else 0
    parts = [codes[..., :rest], cp.zeros((*codes.shape[:-1], -rest % step), codes.dtype), codes[..., rest:]]
    return cp.concatenate(parts, axis=-1)


def wanted(model: Any, a: Any, b: Any, names: tuple[str, str]) -> Any:
    """The model's result [.., M, N], float32, or int32 of integers."""
    if not model:
        return cp.matmul(a.astype(np.float64), b.astype(np.float64).transpose(0, 2, 1)).astype(np.int64).astype(np.int32)
    one = cp.asarray(np.float32(1))
    made = [[CudaQTensor(x[i], (), one, 1, x[i].shape, quantizer(n), {}) for i in range(x.shape[0])] for x, n in zip((a, b), names, strict=True)]
    return cp.stack([EXACT.gemm(x, y, model) for x, y in zip(*made, strict=True)])


def rounded(want: Any, out: str) -> Any:
    """The bits of the model's result in the output's format: rounded once, to nearest even."""
    if out in WORDS:
        return want.view(WORDS[out])
    flat = want.reshape(-1, want.shape[-1])
    return EXACT.operand(flat, lookup({"bfloat16": "bf16", "binary16": "fp16"}[out]), k_axis=1).codes.reshape(want.shape)


def differing(got: Any, want: Any, out: str) -> Any:
    """Where bits differ; NaN is NaN."""
    infinity = {"float32": 0x7F800000, "bfloat16": 0x7F80, "binary16": 0x7C00}.get(out)
    if infinity is None:
        return got != want
    mask = 2 * infinity - 1 if out == "float32" else 0x7FFF
    mask = 0x7FFFFFFF if out == "float32" else mask
    return (got != want) & ~(((got & mask) > infinity) & ((want & mask) > infinity))


def compared(case: str, shapes: Any = LARGE, kinds: tuple[str, ...] = KINDS, seed: int = 1) -> list[dict[str, Any]]:
    """A row for each output, kind, shape and algorithm."""
    model, pairs, outs, fast = CASES[case]
    source, rows = cp.random.default_rng(seed), []
    for number, shape in enumerate(shapes):
        for place, kind in enumerate(kinds):
            names = pairs[(number + place) % len(pairs)]
            count, m, n, k = shape
            a, b = draw(kind, names[0], (count, m, k), source), draw(kind, names[1], (count, n, k), source)
            b = paired(b) if kind == "cancel" and case != "int8" else b
            want = wanted(model, a, b, names)
            along = LAYOUTS.get(case, ((True, True),))
            for out in outs:
                rows += against(case, names, kind, along[(number + place) % len(along)], fast, (a, b), rounded(want, out), out)
                explain(rows, model, (a, b), names, out)
    return rows


def explain(rows: list[dict[str, Any]], model: str, operands: Any, names: tuple[str, str], out: str) -> None:
    """Add to the rows that just differed how many of their outputs differ from other models; forget what the device gave."""
    made: dict[str, Any] = {}
    for row in rows:
        got = row.pop("got", None)
        if got is None or not row["differ"] or out != "float32":
            continue
        if not made:
            whole = accumulator(model)
            for name, (changed, tile) in OTHERS.items():
                sides = [rest_first(x, tile, changed.get("products", 16)) for x in operands]
                made[name] = wanted(replace(whole, core=replace(whole.core, **changed)), *sides, names).view(np.uint32)
            made["fused"] = wanted("fused", *operands, names).view(np.uint32)
        row["others"] = {name: int(cp.count_nonzero(differing(got, other, out))) for name, other in made.items()}


def against(
    case: str, names: tuple[str, str], kind: str, along: tuple[bool, bool], fast: bool, operands: Any, want: Any, out: str
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each algorithm that the library proposes for this product."""
    (count, m, n), k = want.shape, operands[0].shape[2]
    lying = [x if flat else cp.ascontiguousarray(x.transpose(0, 2, 1)) for x, flat in zip(operands, along, strict=True)]
    sides = [Side(name, flat, int(x.shape[2]), int(x.shape[1] * x.shape[2])) for name, flat, x in zip(names, along, lying, strict=True)]
    widths = [x.shape[2] * x.itemsize for x in lying] + [n * want.itemsize]
    plan = Plan(Product(m, n, k, sides[0], sides[1], out, count, fast_sums=fast, split=False), 0)
    stream = cp.cuda.get_current_stream().ptr
    rows = []
    for one in plan.candidates(algorithms.WORKSPACE):
        got = cp.full(want.shape, 0xFF if want.itemsize == 4 else 0xFFF1, want.dtype)
        plan.take(bytes(one.algorithm), one.workspace)
        status = plan.launch(lying[0].data.ptr, lying[1].data.ptr, got.data.ptr, algorithms.workspace(0, stream), stream)
        entries = cublaslt.configuration(bytes(one.algorithm))
        row = {"case": case, "operands": names, "kind": kind, "shape": (count, m, n, k), "k_side_by_side": along, "out": out}
        row["aligned"] = all(w % 16 == 0 for w in widths)
        row["algorithm"] = " ".join(str(entries[key]) for key in ENTRIES)
        bad = differing(got, want, out)
        amount = 0 if status else int(cp.count_nonzero(bad))
        rows.append(row | {"of": 0 if status else int(want.size), "differ": amount})
        if amount:
            rows[-1] |= {"first": first(bad, got, want), "got": got}
        if status:
            rows[-1]["status"] = status
    return rows


def merged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each product: its kinds, and its algorithms with outputs compared and those that differ."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        product = {key: row[key] for key in ("case", "operands", "shape", "k_side_by_side", "out", "aligned")}
        held = found.setdefault(json.dumps(product), product | {"kinds": [], "algorithms": {}})
        if row["kind"] not in held["kinds"]:
            held["kinds"].append(row["kind"])
        counts = held["algorithms"].setdefault(row["algorithm"], [0, 0])
        counts[:] = [counts[0] + row["of"], counts[1] + row["differ"]]
    return list(found.values())


def first(bad: Any, got: Any, want: Any) -> dict[str, Any]:
    """The first output that differs: where, and both bits."""
    at = int(cp.argmax(bad.reshape(-1)))
    place = [int(v) for v in np.unravel_index(at, want.shape)]
    return {"at": place, "got": hex(int(got.reshape(-1)[at])), "model": hex(int(want.reshape(-1)[at]))}


def summary(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row for each case, output, alignment and kernel: launches, outputs, those that differ, and from what else."""
    keys = sorted({(r["case"], r["out"], not r["aligned"], int(r["algorithm"].split()[0])) for r in rows})
    for case, out, ragged, number in keys:
        part = [r for r in rows if (r["case"], r["out"], not r["aligned"], int(r["algorithm"].split()[0])) == (case, out, ragged, number)]
        others: dict[str, int] = {}
        for name, amount in ((name, amount) for r in part for name, amount in r.get("others", {}).items()):
            others[name] = others.get(name, 0) + amount
        line = {"case": case, "model": CASES[case][0] or "exact int32", "out": out, "aligned": not ragged, "kernel": number, "launches": len(part)}
        line |= {"outputs": sum(r["of"] for r in part), "differ": sum(r["differ"] for r in part)}
        yield line | ({"differ from": others} if others else {})


def main(place: str) -> int:
    start, rows = time.time(), []
    for case in CASES:
        rows += compared(case)
        if case in ("bf16", "fp16"):
            rows += compared(case, RAGGED, seed=2)
    table, wrong = list(summary(rows)), [r for r in rows if r["differ"]]
    for line in table:
        print(line, flush=True)
    about = {"device": cp.cuda.runtime.getDeviceProperties(0)["name"].decode(), "driver": cp.cuda.runtime.driverGetVersion(),
             "cublasLt": cublaslt.version(), "cupy": cp.__version__, "seconds": round(time.time() - start, 1)}  # fmt: skip
    print(about)
    head = json.dumps({"about": about, "algorithm": ENTRIES, "summary": table, "first_that_differ": wrong[:: max(1, len(wrong) // 12)]}, indent=1)
    lines = ",\n".join(json.dumps(row) for row in merged(rows))
    Path(place).write_text(f'{head[:-2]},\n"rows": [\n{lines}\n]}}\n', encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
