"""Splitting a range over threads of our own: kernels are compiled `nogil`, so ordinary threads run them side by side.

Numba's parallel transform compiles the body of a loop several times over, nine seconds instead of three for attention, and its
threads wait by spinning, beside those of BLAS. Parts share nothing that they write, so the number of threads changes no bit. It is
NUMBA_NUM_THREADS where set, else the CPUs that this process may use.

Waking a sleeping thread costs some 70 µs, as much as many a kernel. So a worker that has finished watches for its next part for about
`PATIENCE` calls of sched_yield before it sleeps, and the caller watches for the worker's end likewise; anything else that wants the
CPU gets it meanwhile. Both wait `GRACE` more calls once they see what they wait for: the other side then has left the interpreter.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from functools import cache, partial
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numba.core import types

T = TypeVar("T")
GRAIN = 1 << 15
"""Elements below which a second thread costs more than it brings."""
PATIENCE = 1000
GRACE = 12
GIVEN, DONE = 0, 8
"""Places of the tickets of the last part given and of the last one done: a cache line apart."""
_workers: list[_Worker] = []
_free = threading.Lock()
_yield: Any = types.ExternalFunction("sched_yield", types.int32()) if hasattr(os, "sched_yield") else None


@cache
def count() -> int:
    """How many threads work on one array."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(os.environ.get("NUMBA_NUM_THREADS", usable)))


def split(n: int, work: Callable[[int, int], T], align: int = 1024, grain: int = GRAIN) -> list[T]:
    """work(start, stop) over parts of 0 … n (multiples of `align` but the last); the results in order. Errors are raised here."""
    parts = 1 if _free.locked() else max(1, min(count(), n // grain))
    size = -(-n // parts // align) * align if parts > 1 else n
    bounds = [(start, min(n, start + size)) for start in range(0, n, max(size, 1))] or [(0, 0)]
    return run([partial(work, *part) for part in bounds])


def divide(kernel: Callable[..., None], tasks: int, *args: Any) -> None:
    """kernel(start, stop, *args) over parts of 0 … tasks."""
    split(tasks, lambda start, stop: kernel(start, stop, *args), align=1, grain=1)


def run(jobs: list[Callable[[], T]]) -> list[T]:
    """The results of independent jobs: the first runs in the caller, each other one in a worker. Errors are raised here.

    Where the workers are taken, by a job that calls `run` again or by another thread, the jobs run one after the other.
    """
    if len(jobs) == 1 or not _free.acquire(blocking=False):
        return [job() for job in jobs]
    try:
        while len(_workers) < len(jobs) - 1:
            _workers.append(_Worker())
        workers = _workers[: len(jobs) - 1]
        for worker, job in zip(workers, jobs[1:], strict=True):
            worker.give(job)
        try:
            first = jobs[0]()
        finally:  # the other parts write to the caller's arrays until they are done
            outcomes = [worker.take() for worker in workers]
    finally:
        _free.release()
    for _, error in outcomes:
        if error is not None:
            raise error
    return [first, *(result for result, _ in outcomes)]


@njit(cache=True, nogil=True)
def _watch(tickets, place, ticket, patience, grace):  # type: ignore[no-untyped-def]
    """Wait until tickets[place] has reached `ticket`, for at most `patience` calls of sched_yield."""
    for _ in range(patience):
        if tickets[place] >= ticket:
            for _ in range(grace):
                _yield()
            return
        _yield()


Outcome = tuple[Any, BaseException | None]


def _outcome(job: Callable[[], Any]) -> Outcome:
    try:
        return job(), None
    except BaseException as error:  # raised again by `run`, in the thread that called it
        return None, error


class _Worker:
    """A thread that runs one job at a time. Tickets and flags are written by threads that hold the interpreter, so none is missed."""

    def __init__(self) -> None:
        self.tickets = np.zeros(16, np.int64)
        self.asleep, self.awaited = False, False
        self.wake: SimpleQueue[None] = SimpleQueue()
        self.done: SimpleQueue[None] = SimpleQueue()
        self.jobs: deque[tuple[int, Callable[[], Any]]] = deque()
        self.outcome: Outcome = (None, None)
        threading.Thread(target=self._work, name="lpref-cpu", daemon=True).start()

    def give(self, job: Callable[[], Any]) -> None:
        """Start a job."""
        ticket = int(self.tickets[GIVEN]) + 1
        self.jobs.append((ticket, job))
        self.tickets[GIVEN] = ticket
        if self.asleep:
            self.wake.put(None)

    def take(self) -> Outcome:
        """Its result or error, once it has ended. A job that the thread has not begun, on a busy machine, is done here."""
        try:
            return _outcome(self.jobs.pop()[1])  # atomic: either this thread gets it or the other
        except IndexError:
            pass
        ticket = int(self.tickets[GIVEN])
        _patiently(self.tickets, DONE, ticket)
        self.awaited = True
        while self.tickets[DONE] < ticket:
            self.done.get()
        self.awaited = False
        outcome, self.outcome = self.outcome, (None, None)
        return outcome

    def _work(self) -> None:
        ticket = 0
        while True:
            _patiently(self.tickets, GIVEN, ticket + 1)
            self.asleep = True
            while self.tickets[GIVEN] <= ticket:
                self.wake.get()
            self.asleep = False
            given = int(self.tickets[GIVEN])
            try:
                ticket, job = self.jobs.pop()
            except IndexError:  # the caller was faster
                ticket = given
                continue
            self.outcome = _outcome(job)
            del job
            self.tickets[DONE] = ticket
            if self.awaited:
                self.done.put(None)


def _patiently(tickets: np.ndarray, place: int, ticket: int) -> None:
    if _yield is not None and tickets[place] < ticket:
        _watch(tickets, place, ticket, PATIENCE, GRACE)


def _after_fork() -> None:
    """A child process has none of its parent's threads."""
    global _free
    _free = threading.Lock()
    _workers.clear()


os.register_at_fork(after_in_child=_after_fork)
