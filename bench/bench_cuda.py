"""Quantizers and casts on the GPU: time by CUDA events, bytes, and the share of the copy bandwidth measured in the same run.

Run: PYTHONPATH=src python bench/bench_cuda.py OUT.json [--torch]. Sources are bfloat16, 2^30 elements (larger than any cache); bytes are the
least that the operation moves (reads of x, codes, scales). Nothing is timed before its codes equal `lpref.ref` on a part of the data.
--torch adds the same operation as a function compiled by torch, without counts of lost elements.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cupy as cp
import ml_dtypes
import numpy as np

from lpref.accel.cuda import nvrtc, quantize
from lpref.ref import quantize as ref
from lpref.ref.quantize import lookup
from lpref.ref.random import WordAddress

ROWS, COLUMNS = 1 << 17, 1 << 13
WORDS = WordAddress(1, 2, "bench/cuda/x/round")
# name -> (bytes an element, bar in % of the copy bandwidth, is amax given)
CASES: dict[str, tuple[float, float | None, bool]] = {
    "fp8_tensor": (5, 92, False),
    "fp8_tensor, amax given": (3, None, True),
    "mxfp8_e4m3": (3 + 1 / 32, 92, False),
    "mxfp8_e5m2": (3 + 1 / 32, None, False),
    "mxfp6_e2m3": (2.75 + 1 / 32, None, False),
    "mxfp4": (2.5 + 1 / 32, None, False),
    "nvfp4": (4.5 + 1 / 16, 90, False),
    "nvfp4, amax given": (2.5 + 1 / 16, None, True),
    "nvfp4_2d": (4.5 + 1 / 256, None, False),
    "int8_row": (3, 92, False),
    "fp8_row": (3, None, False),
    "fp8_tile1x128": (3 + 4 / 128, None, False),
    "fp8_block128": (5, None, False),
    "fp8_tensor:rounding=stochastic": (5, 80, False),
    "mxfp8_e4m3:rounding=stochastic": (3 + 1 / 32, 80, False),
    "nvfp4:rounding=stochastic": (4.5 + 1 / 16, 80, False),
    "int8_row:rounding=stochastic": (3, 80, False),
}


def milliseconds(function: Callable[[], Any], rounds: int = 9, calls: int = 8) -> float:
    """Median over rounds of the time of a call, `calls` queued at once (so that Python runs ahead of the device), after three that are not timed."""
    for _ in range(3):
        function()
    times = []
    for _ in range(rounds):
        begin, end = cp.cuda.Event(), cp.cuda.Event()
        begin.record()
        for _ in range(calls):
            function()
        end.record()
        end.synchronize()
        times.append(cp.cuda.get_elapsed_time(begin, end) / calls)
    return float(np.median(times))


def data() -> Any:
    """bfloat16 [ROWS, COLUMNS]: normal numbers, rows of different size (by up to 16)."""
    part = cp.random.default_rng(1).standard_normal((ROWS // 64, COLUMNS), dtype=cp.float32)
    part *= cp.exp2(cp.arange(ROWS // 64, dtype=cp.float32) % 5 - 2)[:, None]
    out = cp.empty((ROWS, COLUMNS), ml_dtypes.bfloat16)
    for i in range(64):
        out[i * (ROWS // 64) : (i + 1) * (ROWS // 64)] = part.astype(ml_dtypes.bfloat16)
    return out


def refuse_what_differs(x: Any, name: str) -> None:
    part = x[:256]
    got, want = quantize.quantize(part, name, words=WORDS).host(), ref.quantize(cp.asnumpy(part), name, words=WORDS)
    same = np.array_equal(got.codes, want.codes) and np.array_equal(got.scales[0], want.scales[0])
    if not same or repr(dict(got.observed)) != repr(dict(want.observed)):
        raise AssertionError(f"{name}: the kernel differs from the reference")


def main() -> int:
    x = data()
    n, properties = x.size, cp.cuda.runtime.getDeviceProperties(0)
    target = cp.empty_like(x)
    copy = milliseconds(lambda: cp.cuda.runtime.memcpyAsync(target.data.ptr, x.data.ptr, x.nbytes, 3, 0))
    bandwidth = 2 * x.nbytes / copy / 1e9
    rows = [{"name": "copy", "ms": copy, "TB/s": bandwidth}]
    print(f"copy {copy:.3f} ms, {bandwidth:.3f} TB/s", flush=True)
    for label, (size, bar, given) in CASES.items():
        name = label.partition(",")[0]
        refuse_what_differs(x, name)
        q, amax = lookup(name), cp.asarray(np.float32(64)) if given else None
        ms = milliseconds(lambda q=q, amax=amax: quantize.quantize(x, q, amax=amax, words=WORDS))
        share = 100 * size * n / ms / 1e9 / bandwidth
        rows.append({"name": label, "bytes_per_element": size, "ms": ms, "TB/s": size * n / ms / 1e9, "share_of_copy_%": share, "bar_%": bar})
        print(f"{label:34s} {ms:8.3f} ms {size * n / ms / 1e9:6.3f} TB/s {share:5.1f} % of copy, bar {bar}", flush=True)
    if "--torch" in sys.argv:
        rows += torch_rows(x, bandwidth)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    about = {
        "device": properties["name"].decode(), "driver": cp.cuda.runtime.driverGetVersion(), "nvrtc": ".".join(map(str, nvrtc.version())),
        "cupy": cp.__version__, "numpy": np.__version__, "elements": n, "source": "bfloat16", "commit": commit,
    }  # fmt: skip
    Path(sys.argv[1]).write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


def torch_rows(x: Any, bandwidth: float) -> list[dict[str, Any]]:
    """The same quantizers written in torch and compiled."""
    import torch

    def fp8_tensor(t: Any) -> Any:
        s = 448.0 / t.abs().amax().float()
        return (t.float() * s).clamp(-448, 448).to(torch.float8_e4m3fn), 1 / s

    def mxfp8(t: Any) -> Any:
        b = t.float().unflatten(-1, (-1, 32))
        e = ((b.abs().amax(-1).view(torch.int32) >> 23) - 8).clamp(0, 254)
        u = b * ((254 - e) << 23).view(torch.float32)[..., None]
        return u.clamp(-448, 448).to(torch.float8_e4m3fn).flatten(-2), e.to(torch.uint8)

    def int8_row(t: Any) -> Any:
        s = t.abs().amax(-1, keepdim=True).float() / 127
        return (t.float() / s).round().clamp(-127, 127).to(torch.int8), s

    def nvfp4(t: Any) -> Any:
        b = t.float().unflatten(-1, (-1, 16))
        scale = 2688 / t.abs().amax().float()
        d = (b.abs().amax(-1) * (scale / 6)).clamp(max=448).to(torch.float8_e4m3fn)
        u = b * (1 / (d.float() / scale)).clamp(max=3e38)[..., None]
        a = u.abs()
        code = (a > 0.25).to(torch.uint8) + (a >= 0.75) + (a > 1.25) + (a >= 1.75) + (a > 2.5) + (a >= 3.5) + (a > 5) + (u < 0) * 8
        code = code.to(torch.uint8).flatten(-2)
        return code[..., ::2] | code[..., 1::2] << 4, d

    t, rows = torch.from_dlpack(x.view(cp.uint16)).view(torch.bfloat16), []
    for name, function in (("fp8_tensor", fp8_tensor), ("mxfp8_e4m3", mxfp8), ("int8_row", int8_row), ("nvfp4", nvfp4)):
        compiled, size = torch.compile(function), CASES[name][0]
        torch.cuda.synchronize()
        for _ in range(3):
            compiled(t)
        times = []
        for _ in range(9):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            for _ in range(8):
                compiled(t)
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 8)
        ms = float(np.median(times))
        share = 100 * size * t.numel() / ms / 1e9 / bandwidth
        rows.append({"name": f"torch.compile {torch.__version__}: {name}", "ms": ms, "share_of_copy_%": share})
        print(f"torch.compile {name:20s} {ms:8.3f} ms {share:5.1f} % of copy", flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
