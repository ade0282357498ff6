"""The clock: seconds of one call, the median over rounds, on the host or by events of the device."""

from __future__ import annotations

import statistics
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
