"""The clock: seconds of one call, the median over rounds, on the host or by events of the device; and what is free of the device's memory."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

ROUNDS = 7


def seconds(call: Callable[[], Any], backend: Any, rounds: int = ROUNDS, least: float = 0.02) -> float:
    """Of one `call`, after two that are not timed; a round makes as many calls as take `least` seconds."""
    for _ in range(2):
        call()
    once = _round(call, 1, backend)
    count = max(1, min(1000, round(least / max(once, 1e-9))))
    return statistics.median(_round(call, count, backend) / count for _ in range(rounds))


def _round(call: Callable[[], Any], count: int, backend: Any) -> float:
    if backend.name == "cuda":
        return _device_round(call, count)
    started = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - started


def _device_round(call: Callable[[], Any], count: int) -> float:
    from lpref.accel.cuda.device import cupy

    cp = cupy()
    begin, end = cp.cuda.Event(), cp.cuda.Event()
    begin.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return float(cp.cuda.get_elapsed_time(begin, end)) / 1000


def peer_times(peer: Any, steps: int, queue: float = 2.0) -> tuple[float, float, float]:
    """(seconds of a step that is waited for, of one of a hundred or of `queue` seconds behind each other, the last loss) of a peer."""
    for _ in range(5):
        peer.run()
        peer.loss()
    started = time.perf_counter()
    for _ in range(steps):
        peer.run()
        peer.loss()
    each = (time.perf_counter() - started) / steps
    count = max(8, min(100, int(queue / each)))
    started = time.perf_counter()
    for _ in range(count):
        peer.run()
    loss = peer.loss()
    return each, (time.perf_counter() - started) / count, loss


def free_memory() -> int:
    """Bytes of the device that no process holds, after what this one no longer uses is given back by CuPy and by torch, where that is here."""
    from lpref.accel.cuda.device import cupy

    gc.collect()
    cupy().get_default_memory_pool().free_all_blocks()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return int(cupy().cuda.Device().mem_info[0])
