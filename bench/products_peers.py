"""Products by cuBLASLt beside PyTorch's, in one process: 8192 x 8192 x 8192 in every unit, and the 24 bfloat16 products of a layer of two GPTs.

Each side's calls are captured in one CUDA graph that goes through several sets of operands, writes to one place and takes a millisecond or more, so
that the gaps between replays do not count. In each round the graphs are replayed in turn, each once before its time begins; medians of rounds count.
`bare`: the plan with its output where torch has one, in torch's type; `op`: `gemm` of the backend with `output="bfloat16"`, as a step asks for it
where the reader wants 16 bits (INT8: float32, as torch's side makes it). torch multiplies the same operands into a bfloat16 array that exists.
Used by products_device.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import cupy as cp
import numpy as np
import torch

import lpref
from lpref.accel.cuda import algorithms, epilogue
from lpref.accel.cuda.cublaslt import Product, Side
from lpref.accel.cuda.qtensor import CudaQTensor
from lpref.accel.cuda.quantize import constant
from lpref.ref.errors import BackendError
from lpref.ref.quantize import lookup

ROUNDS = 15
GRAPH = 5e11
"""Floating-point operations of a graph of small products."""
TOKENS = 16384
MODELS = {"nano": 384, "gpt2": 768}
BIG = 8192
LINEARS = {"qkv": (3, 1), "o": (1, 1), "fc": (4, 1), "proj": (1, 4)}
"""Outputs and inputs of a layer's four linears, in widths."""
TORCH = {"bfloat16": torch.bfloat16, "e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2, "int8": torch.int8}
Calls = Sequence[Callable[[], Any]]


def ours(calls: Calls) -> Callable[[], Any]:
    """The calls as one graph, captured from CuPy's stream after they ran once on it."""
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        for call in calls:
            call()
        stream.synchronize()
        stream.begin_capture()
        kept = None
        for call in calls:
            kept = None  # one result at a time, so that all go to one place, as torch's do
            kept = call()
        graph = stream.end_capture()
    return lambda: (graph.launch(cp.cuda.Stream.null), kept)


def theirs(calls: Calls) -> Callable[[], Any]:
    """The calls as one graph of torch's."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for call in calls:
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = [call() for call in calls]
    return lambda: (graph.replay(), kept)


def together(graphs: dict[str, Callable[[], Any]], calls: int, least: float = 2000.0, rounds: int = ROUNDS) -> dict[str, float]:
    """Microseconds of a call in each graph: medians of rounds in which every graph is replayed, one after the other, for at least `least` µs.

    A replay that is not timed goes ahead of each, behind which Python queues the others: else the time has the launch in it.
    """
    begin, end = cp.cuda.Event(), cp.cuda.Event()

    def timed(graph: Callable[[], Any], replays: int) -> float:
        graph()
        begin.record()
        for _ in range(replays):
            graph()
        end.record()
        end.synchronize()
        return float(cp.cuda.get_elapsed_time(begin, end)) * 1000.0 / replays

    replays = {name: max(1, min(20, int(least / max(min(timed(g, 1) for _ in range(3)), 1.0)))) for name, g in graphs.items()}
    times = [{name: timed(g, replays[name]) for name, g in graphs.items()} for _ in range(rounds)]
    return {name: float(np.median([r[name] for r in times])) / calls for name in graphs}


def turns_of(sizes: tuple[int, int, int], sets: int) -> int:
    """How often a graph goes through its sets of operands."""
    return max(3, round(GRAPH / (2 * math.prod(sizes) * sets)))


def shared(x: torch.Tensor) -> Any:
    """A tensor's memory as a CuPy array of bytes or 16-bit words."""
    return cp.asarray(x.view(torch.uint8 if x.element_size() == 1 else torch.int16 if x.element_size() == 2 else x.dtype))


def bare(sizes: tuple[int, int, int], left: Side, right: Side, out: str, fast: bool = False) -> Callable[..., Any]:
    """A plan's launch: (a, b, out, scale of a, scale of b) -> out."""
    made = Product(*sizes, left, right, out, fast_sums=fast)

    def launch(a: Any, b: Any, c: Any, *scales: Any) -> Any:
        algorithms.run(made, a.data.ptr, b.data.ptr, c, 0, *(s.data.ptr for s in scales))
        return c

    return launch


def entry(name: str, sizes: tuple[int, int, int], times: dict[str, float]) -> dict[str, Any]:
    """A row: microseconds, 10^12 floating-point operations a second, and torch's time over ours."""
    work = 2 * sizes[0] * sizes[1] * sizes[2]
    row: dict[str, Any] = {"name": name, "us": times, "TFLOP/s": {key: work / us / 1e6 for key, us in times.items()}}
    if "torch" in times:
        row["times_torch"] = {key: times["torch"] / us for key, us in times.items() if key != "torch"}
    print(f"{name:34s}" + "".join(f" {key} {us:.1f} us {work / us / 1e6:.0f} T" for key, us in times.items()), flush=True)
    return row


def codes(name: str, x: torch.Tensor, axis: int) -> CudaQTensor:
    """bfloat16 values as an operand."""
    return CudaQTensor(shared(x).view(np.uint16), (), cp.asarray(np.float32(1)), axis, tuple(x.shape), lookup(name), {})


def block_cases(few: bool = False, sets: int = 3) -> list[dict[str, Any]]:
    """fprop, dgrad and wgrad of four linears in two models."""
    gemm, rows = lpref.backend("cuda", "fast").gemm, []
    for model, width in MODELS.items():
        for linear, (wide, deep) in LINEARS.items():
            outs, ins = wide * width, deep * width
            x, w, dy = ([torch.randn(*s, device="cuda", dtype=torch.bfloat16) for _ in range(sets)]
                        for s in ((TOKENS, ins), (outs, ins), (TOKENS, outs)))  # fmt: skip
            for kind, a, b, axes in (("fprop", x, w, (1, 1)), ("dgrad", dy, w, (1, 0)), ("wgrad", dy, x, (0, 0))):
                rows.append(one_case(f"{model} {linear} {kind}", a, b, axes, gemm, few))
    return rows


def one_case(name: str, a: list[torch.Tensor], b: list[torch.Tensor], axes: tuple[int, int], gemm: Any, few: bool = False) -> dict[str, Any]:
    """A product of bfloat16 matrices whose k is their axis `axes`."""
    m, n, k = a[0].shape[1 - axes[0]], b[0].shape[1 - axes[1]], a[0].shape[axes[0]]
    left, right = (Side("bfloat16", bool(axis), int(t[0].shape[1])) for axis, t in zip(axes, (a, b), strict=True))
    pairs = [(shared(x), shared(y)) for x, y in zip(a, b, strict=True)]
    out = torch.empty(m, n, device="cuda", dtype=torch.bfloat16)
    held = cp.empty((m, n), np.uint16)
    made = [tuple(codes("bf16", t, axis) for t, axis in zip(pair, axes, strict=True)) for pair in zip(a, b, strict=True)]
    turns = turns_of((m, n, k), len(pairs))

    def torch_call(x: torch.Tensor, y: torch.Tensor) -> Any:
        return torch.mm(x if axes[0] else x.t(), y.t() if axes[1] else y, out=out)

    graphs = {"torch": theirs([lambda p=p: torch_call(*p) for p in zip(a, b, strict=True)] * turns)}
    if not few:
        run = bare((m, n, k), left, right, "bfloat16")
        graphs["bare"] = ours([lambda p=p: run(*p, held) for p in pairs] * turns)
    graphs["op"] = ours([lambda p=p: gemm(*p, output="bfloat16") for p in made] * turns)
    return entry(name, (m, n, k), together(graphs, turns * len(pairs)))


def drawn(kind: str, rows: int) -> torch.Tensor:
    """[rows, BIG] normal numbers in a format; int8 uniform."""
    if kind == "int8":
        return torch.randint(-127, 128, (rows, BIG), device="cuda", dtype=torch.int8)
    return torch.randn(rows, BIG, device="cuda").to(TORCH[kind])


def big_cases(few: bool = False) -> list[dict[str, Any]]:
    """BIG x BIG x BIG in every unit; few: those that have a bar, through the op."""
    sizes, rows, gemm = (BIG, BIG, BIG), [], lpref.backend("cuda", "fast").gemm
    out = cp.empty((BIG, BIG), np.uint16)
    a, b = [drawn("bfloat16", BIG)], [drawn("bfloat16", BIG)]
    rows.append(one_case(f"{BIG}^3 bf16", a, b, (1, 1), gemm, few))
    one, vector = torch.ones((), device="cuda"), torch.rand(BIG, device="cuda") + 0.5
    grid = torch.rand(BIG // 128, BIG, device="cuda") + 0.5
    square = torch.rand(BIG // 128, BIG // 128, device="cuda") + 0.5
    scales = {"scalar": (one, one), "vector": (vector, vector), "vector128": (grid, grid), "vector128 block128": (grid, square)}
    shapes = {"scalar": ((), ()), "vector": ((BIG, 1), (1, BIG))}
    for pair in (("e4m3", "e4m3"), ("e4m3", "e5m2"), ("e5m2", "e4m3")):
        x, y = (drawn(kind, BIG) for kind in pair)
        sides = (shared(x), shared(y))
        for name, given in scales.items():
            held = [shared(s) for s in given]
            modes = (name.split() * 2)[:2]
            for fast in (False, True):
                if (fast and "128" in name) or (pair != ("e4m3", "e4m3") and name != "scalar"):
                    continue
                if few and (pair != ("e4m3", "e4m3") or name == "vector128" or (fast and name != "scalar")):
                    continue
                left, right = (Side(kind, True, BIG, 0, mode) for kind, mode in zip(pair, modes, strict=True))
                graphs: dict[str, Any] = {}
                with_torch = peer(graphs, x, y, given, shapes.get(name), fast)
                run, arguments = bare(sizes, left, right, "bfloat16", fast), (*sides, out, *held)
                try:
                    if fast or not few:
                        graphs["bare"] = ours([lambda run=run, arguments=arguments: run(*arguments)] * 2)
                except BackendError as error:
                    print(name, pair, fast, error)
                if not fast:
                    pair_of = [quantized(n, c, m) for n, c, m in zip(pair, sides, modes, strict=True)]
                    graphs["op"] = ours([lambda pair_of=pair_of: gemm(*pair_of, output="bfloat16")] * 2)
                if graphs:
                    title = f"{BIG}^3 {pair[0]} x {pair[1]}, {name}{', fast accumulation' if fast else ''}"
                    rows.append(entry(title, sizes, together(graphs, 2)) | {"torch": with_torch})
    return [*rows, int8_case(sizes, gemm)]


QUANTIZERS = {"scalar": ("fp8_tensor", 1, 1), "vector": ("fp8_row", BIG, 1), "vector128": ("fp8_tile1x128", BIG, BIG // 128),
              "block128": ("fp8_block128", BIG // 128, BIG // 128), "int8": ("int8_row", BIG, 1)}  # fmt: skip
"""Scale mode -> quantizer, and the grid of its scales."""


def quantized(kind: str, held: Any, mode: str) -> CudaQTensor:
    """An operand of these codes, with scales as the library's own quantizers leave them."""
    name, high, wide = QUANTIZERS[mode]
    q, scales = lookup(name if kind == "int8" else f"{name}:format={kind}"), cp.full((high, wide), np.float32(0.75)).view(np.uint32)
    return CudaQTensor(held, (scales,), constant(1.0), 1, (BIG, BIG), q, {})


def peer(graphs: dict[str, Any], x: torch.Tensor, y: torch.Tensor, given: tuple[Any, Any], shapes: Any, fast: bool) -> str:
    """Add torch._scaled_mm, where it takes these scales; says what became of it."""
    if shapes is None:
        left = given[0].t()
        right = given[1] if given[1].shape[1] == BIG else given[1].t()
    else:
        left, right = (s.reshape(shape) for s, shape in zip(given, shapes, strict=True))
    options = {"scale_a": left, "scale_b": right, "out_dtype": torch.bfloat16, "use_fast_accum": fast}
    try:
        graphs["torch"] = theirs([lambda: torch._scaled_mm(x, y.t(), **options)] * 2)
    except (RuntimeError, ValueError) as error:
        return str(error).splitlines()[0][:160]
    return "torch._scaled_mm"


def int8_case(sizes: tuple[int, int, int], gemm: Any) -> dict[str, Any]:
    """int8 with scales of rows and columns: torch._int_mm and two multiplications, against the plan with its epilogue, and alone."""
    x, y, row, column = drawn("int8", BIG), drawn("int8", BIG), torch.rand(BIG, 1, device="cuda"), torch.rand(1, BIG, device="cuda")
    side, held = Side("int8", True, BIG), cp.empty((BIG, BIG), np.float32)
    run, factors = bare(sizes, side, side, "int32"), [([cp.asarray(np.float32(1))], shared(s), 1) for s in (row, column)]

    places, pair_of = (shared(x), shared(y), held), [quantized("int8", shared(t), "int8") for t in (x, y)]

    def scaled() -> Any:
        run(*places)
        epilogue.finish(held, factors, True)
        return held

    graphs = {
        "torch": theirs([lambda: (torch._int_mm(x, y.t()) * row).mul_(column)] * 2),
        "torch alone": theirs([lambda: torch._int_mm(x, y.t())] * 2),
        "bare": ours([scaled] * 2),
        "alone": ours([lambda: run(*places)] * 2),
        "op": ours([lambda: gemm(*pair_of)] * 2),
    }
    return entry(f"{BIG}^3 int8, rows and columns", sizes, together(graphs, 2))
