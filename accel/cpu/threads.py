"""Splitting a range over threads: kernels are compiled `nogil`, so ordinary threads run them side by side.

The number of threads is NUMBA_NUM_THREADS where set, else the CPUs this process may use. Results never depend on it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")
GRAIN = 1 << 15
"""Elements below which a second thread costs more than it brings."""
_local = threading.local()


@cache
def count() -> int:
    """How many threads work on one array."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(os.environ.get("NUMBA_NUM_THREADS", usable)))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count(), "lpref-cpu", initializer=lambda: setattr(_local, "worker", True))


def split(n: int, work: Callable[[int, int], T], align: int = 1024, grain: int = GRAIN) -> list[T]:
    """work(start, stop) over parts of 0 .. n (multiples of `align` but the last); the results in order.

    One part runs in the caller; a worker that calls `split` again runs alone, so nesting cannot deadlock.
    """
    parts = 1 if getattr(_local, "worker", False) else max(1, min(count(), n // grain))
    size = -(-n // parts // align) * align if parts > 1 else n
    bounds = [(i, min(n, i + size)) for i in range(0, n, max(size, 1))] or [(0, 0)]
    futures = [_pool().submit(work, *b) for b in bounds[1:]]
    first = work(*bounds[0])
    return [first, *(f.result() for f in futures)]
