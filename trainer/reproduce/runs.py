"""The runs of all experiments in one pool of processes: every arm with every seed, equal runs once, in the order of the experiments."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpref.ref.errors import LprefError
from lpref.trainer.environment import cores
from lpref.trainer.interrupt import Interrupted
from lpref.trainer.reproduce import figures
from lpref.trainer.reproduce.experiment import Experiment
from lpref.trainer.reproduce.ledger import Found, Ledger
from lpref.trainer.reproduce.measures import SHARED


@dataclass(frozen=True)
class Job:
    """A run: its key, and one of the experiments that need its figure."""

    key: str
    experiment: Experiment
    arm: str
    seed: int


@contextmanager
def pool(jobs: int) -> Iterator[Executor | None]:
    """`jobs` processes that share the CPUs of this one; None for 1: everything then runs here.

    What raises in the block, an interrupt too, takes the runs that wait with it; a process whose parent was killed ends at once.
    """
    if jobs == 1:
        yield None
        return
    before = os.environ.get("NUMBA_NUM_THREADS")
    os.environ["NUMBA_NUM_THREADS"] = before or str(max(1, cores() // jobs))
    try:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_end_with_parent) as executor:
            try:
                yield executor
            except BaseException:
                executor.shutdown(cancel_futures=True)
                raise
    finally:
        if before is None:
            del os.environ["NUMBA_NUM_THREADS"]


def _end_with_parent() -> None:
    """In a process of the pool: a thread that waits for the parent's end, without which the process would stay, with what it holds of a GPU."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def checked(experiments: Sequence[Experiment], backend: str | None, executor: Executor | None) -> list[dict[str, str]]:
    """`figures.check` of each."""
    run = map if executor is None else executor.map
    return list(run(figures.check, experiments, [backend] * len(experiments)))


def completed(jobs: Sequence[Job], ledger: Ledger, out: Path, backend: str | None, executor: Executor | None) -> Iterator[str]:
    """The keys of the jobs, each as soon as the ledger has its figure. Raises the first error of a run after all others have ended."""
    wanted: dict[str, Job] = {}
    for job in jobs:
        wanted.setdefault(job.key, job)
    yield from [key for key in wanted if key in ledger.found]
    missing = [job for key, job in wanted.items() if key not in ledger.found]
    failures: list[Exception] = []
    for job, outcome in _outcomes(missing, out, backend, executor):
        if isinstance(outcome, Exception):
            failures.append(outcome)
            continue
        ledger.put(job.key, outcome, job.experiment.name, job.arm, job.seed)
        yield job.key
    if failures:
        raise failures[0]


def _outcomes(jobs: Sequence[Job], out: Path, backend: str | None, executor: Executor | None) -> Iterator[tuple[Job, Found | Exception]]:
    """Each job with its figure, or with what it raised: one that cannot run loses no other's figure."""
    if executor is None:
        for job in jobs:
            try:
                outcome: Found | Exception = _run(job, out, backend)
            except Interrupted:
                raise
            except LprefError as error:
                outcome = error
            yield job, outcome
        return
    waiting: dict[Future[list[Found | Exception]], Sequence[Job]] = {
        executor.submit(_run_all, together, out, backend): together for together in _grouped(jobs)
    }
    for done in as_completed(waiting):
        failure = done.exception()
        if failure is None:
            yield from zip(waiting[done], done.result(), strict=True)
        elif isinstance(failure, Exception) and not isinstance(failure, Interrupted):
            yield from ((job, failure) for job in waiting[done])
        else:
            raise failure


def _grouped(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs that one process runs: those of a seed where their measurement shares its runs, each other one alone."""
    groups: dict[Any, list[Job]] = {}
    for job in jobs:
        shared = job.experiment.measure in SHARED
        groups.setdefault((job.experiment.name, job.seed) if shared else job.key, []).append(job)
    return list(groups.values())


def _run_all(jobs: Sequence[Job], out: Path, backend: str | None) -> list[Found | Exception]:
    """Each job's figure, or what of its experiment's own errors it raised."""
    return [outcome for _, outcome in _outcomes(jobs, out, backend, None)]


def _run(job: Job, out: Path, backend: str | None) -> Found:
    return figures.figure(job.experiment, job.arm, job.seed, out / job.experiment.name / f"{job.arm}-{job.seed}-{job.key[:8]}", backend)
