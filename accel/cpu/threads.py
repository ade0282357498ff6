"""Splitting a range over threads of our own: kernels are compiled `nogil`, so ordinary threads run them side by side.

Numba's parallel transform compiles the body of a loop several times over, nine seconds instead of three for attention, and its
threads wait by spinning, beside those of BLAS. Handing a part to a thread here costs some 30 µs. Parts share nothing that they
write, so the number of threads changes no bit. It is NUMBA_NUM_THREADS where set, else the CPUs that this process may use.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
GRAIN = 1 << 15
"""Elements below which a second thread costs more than it brings."""
_jobs: SimpleQueue[Any] = SimpleQueue()
_workers: list[threading.Thread] = []
_local = threading.local()


@cache
def count() -> int:
    """How many threads work on one array."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(os.environ.get("NUMBA_NUM_THREADS", usable)))


def split(n: int, work: Callable[[int, int], T], align: int = 1024, grain: int = GRAIN) -> list[T]:
    """work(start, stop) over parts of 0 … n (multiples of `align` but the last); the results in order. Errors are raised here.

    One part runs in the caller; a worker that calls `split` again runs alone, so nesting cannot deadlock.
    """
    parts = 1 if getattr(_local, "worker", False) else max(1, min(count(), n // grain))
    size = -(-n // parts // align) * align if parts > 1 else n
    bounds = [(start, min(n, start + size)) for start in range(0, n, max(size, 1))] or [(0, 0)]
    while len(_workers) < len(bounds) - 1:
        _workers.append(threading.Thread(target=_work, name="lpref-cpu", daemon=True))
        _workers[-1].start()
    results: list[Any] = [None] * len(bounds)
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for part in range(1, len(bounds)):
        _jobs.put((work, bounds[part], results, part, done))
    try:
        results[0] = work(*bounds[0])
    finally:  # the other parts write to the caller's arrays until they are done
        errors = [done.get() for _ in bounds[1:]]
    for error in errors:
        if error is not None:
            raise error
    return results


def divide(kernel: Callable[..., None], tasks: int, *args: Any) -> None:
    """kernel(start, stop, *args) over parts of 0 … tasks."""
    split(tasks, lambda start, stop: kernel(start, stop, *args), align=1, grain=1)


def _work() -> None:
    _local.worker = True
    while True:
        work, bounds, results, part, done = _jobs.get()
        try:
            results[part] = work(*bounds)
        except BaseException as error:  # raised again by `split`, in the thread that called it
            done.put(error)
        else:
            done.put(None)
        del work, results, done


def _after_fork() -> None:
    """A child process has none of its parent's threads."""
    global _jobs
    _jobs = SimpleQueue()
    _workers.clear()


os.register_at_fork(after_in_child=_after_fork)
