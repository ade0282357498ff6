"""Casts on the CPU: float32 to codes, against ml_dtypes, gfloat, torch and a plain copy, all in this run.

Figures are Melem/s of the best of several rounds; the peers take turns with ours, so that a busy machine slows both. Nothing is
timed before its codes equal `lpref.ref` on a sample with ties, subnormals, overflows and specials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lpref.accel.cast_plan import plan
from lpref.accel.cpu import cast, threads
from lpref.ref.formats import FORMATS, format
from lpref.ref.random import WordAddress
from lpref.ref.rounding import default_word_bits, overflow
from lpref.ref.rounding import rounding as rounding_of

N = 1 << 24
ROUNDS = 7
MAIN = ("e4m3", "e5m2", "e2m1", "bfloat16", "int8", "nf4")
"""These have peers; the other formats of the registry are timed alone."""
ML_DTYPES = {"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2", "e2m1": "float4_e2m1fn", "bfloat16": "bfloat16"}
GFLOAT = {"e4m3": "format_info_ocp_e4m3", "e5m2": "format_info_ocp_e5m2", "e2m1": "format_info_ocp_e2m1"}
ADDRESS = WordAddress(1, 2, "bench/casts/x/round")


def refuse_what_differs(name: str, rounding: str, stride: int = 2**13) -> None:
    """Raise unless our codes are the definition's on every stride-th float32 and its neighbours."""
    bits = np.arange(0, 2**32, stride, dtype=np.uint64)
    x = np.concatenate([bits - 1, bits, bits + 1]).astype(np.uint32).view(np.float32)
    x = x if format(name).has_nan else x[~np.isnan(x)]
    stochastic = rounding == "stochastic"
    words = ADDRESS.bits(x.size, default_word_bits(format(name))) if stochastic else None
    ours = cast.encode(x, name, rounding, words=ADDRESS if stochastic else None)
    if not np.array_equal(ours, format(name).encode(x, rounding, words=words)):
        raise AssertionError(f"{name} {rounding}: the fast cast differs from the reference")


def speeds(runs: dict[str, tuple[int, Callable[[], Any]]], rounds: int = ROUNDS) -> dict[str, float]:
    """Name -> Melem/s, best of `rounds`, taking turns. A run is (elements, function)."""
    best = dict.fromkeys(runs, float("inf"))
    for _, run in runs.values():
        run()
    for _ in range(rounds):
        for name, (_, run) in runs.items():
            began = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - began)
    return {name: elements / best[name] / 1e6 for name, (elements, _) in runs.items()}


def copies(size: int) -> Callable[[], Any]:
    """A copy that moves `size` bytes (half read, half written) with as many threads as our casts."""
    source, target = np.zeros(size // 2, np.uint8), np.empty(size // 2, np.uint8)
    return lambda: threads.split(source.size, lambda a, b: np.copyto(target[a:b], source[a:b]))


def rows() -> Iterator[dict[str, Any]]:
    x = np.random.default_rng(0).normal(size=N).astype(np.float32)
    for name in MAIN:
        yield from of_format(name, x)
    for name in FORMATS:
        if name not in MAIN:
            yield from speed_rows(name, x[: N // 4])


def speed_rows(name: str, x: np.ndarray) -> Iterator[dict[str, Any]]:
    """The rates of one format alone, nearest and stochastic with its words."""
    f, out = format(name), np.empty(x.shape, format(name).code_dtype)
    runs: dict[str, tuple[int, Callable[[], Any]]] = {}
    for rounding in ("nearest_even", "stochastic"):
        if plan(f, rounding_of(rounding), overflow("saturate")).kind != "definition":
            refuse_what_differs(name, rounding, 2**17)
            words = ADDRESS if rounding == "stochastic" else None
            runs[rounding] = (x.size, lambda r=rounding, w=words: cast.encode(x, f, r, words=w, out=out))  # type: ignore[misc]
    for rounding, rate in speeds(runs, 3).items():
        what = "" if rounding == "nearest_even" else " stochastic, words included"
        yield {"name": f"float32 -> {name}{what}", "value": rate, "unit": "Melem/s", "bar": 150}


def of_format(name: str, x: np.ndarray) -> Iterator[dict[str, Any]]:
    """The rows of one format: ours, ours stochastic with its words, and their ratios to the peers."""
    f, out = format(name), np.empty(x.shape, format(name).code_dtype)
    runs: dict[str, tuple[int, Callable[[], Any]]] = {
        "ours": (x.size, lambda: cast.encode(x, f, out=out)),
        "stochastic": (x.size, lambda: cast.encode(x, f, "stochastic", words=ADDRESS, out=out)),
    }
    refuse_what_differs(name, "nearest_even")
    refuse_what_differs(name, "stochastic")
    runs |= peers(name, x)
    if name == "bfloat16":
        runs["copy"] = (x.size, copies(6 * x.size))
    found = speeds(runs)
    label = f"float32 -> {name}"
    yield {"name": label, "value": found["ours"], "unit": "Melem/s", "bar": 150, "note": f"{threads.count()} threads"}
    bars = {"ml_dtypes": 3.0 if name in GFLOAT else None, "gfloat": 20.0, "torch": None, "copy": 0.85}
    for peer, bar in bars.items():
        if peer in found:
            note = f"{peer} {found[peer]:.1f} Melem/s"
            row = {"name": f"{label}, ratio to {peer}", "value": found["ours"] / found[peer], "unit": "x", "note": note}
            yield row if bar is None else row | {"bar": bar}
    share = {"value": found["stochastic"] / found["ours"], "unit": "x", "note": f"{found['stochastic']:.0f} Melem/s"}
    table = {} if name == "nf4" else {"bar": 0.4}  # one look-up is too fast for that: its words alone take longer
    yield {"name": f"{label} stochastic, share of nearest", **share, **table}


def peers(name: str, x: np.ndarray) -> dict[str, tuple[int, Callable[[], Any]]]:
    """What of ml_dtypes, torch and gfloat is installed and knows the format. gfloat gets a thousandth of the elements."""
    found: dict[str, tuple[int, Callable[[], Any]]] = {}
    import ml_dtypes

    if name in ML_DTYPES:
        dtype = getattr(ml_dtypes, ML_DTYPES[name])
        found["ml_dtypes"] = (x.size, lambda: x.astype(dtype))
    try:
        import torch
    except ImportError:
        torch = None
    if torch is not None and hasattr(torch, ML_DTYPES.get(name, "")):
        tensor, kind = torch.from_numpy(x), getattr(torch, ML_DTYPES[name])
        found["torch"] = (x.size, lambda: tensor.to(kind))
    try:
        import gfloat
        from gfloat import formats
    except ImportError:
        return found
    if name in GFLOAT:
        few, info = x[: x.size // 1024].astype(np.float64), getattr(formats, GFLOAT[name])
        found["gfloat"] = (few.size, lambda: gfloat.round_ndarray(info, few, gfloat.RoundMode.TiesToEven, True))
    return found


if __name__ == "__main__":
    import sys

    from run import main

    sys.exit(main(["casts", *sys.argv[1:]]))
