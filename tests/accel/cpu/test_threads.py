"""Parts cover the range once, in order; errors arrive; nesting and forking do not hang."""

from __future__ import annotations

import os
import time

import pytest

from lpref.accel.cpu import threads


@pytest.fixture(autouse=True)
def four(monkeypatch) -> None:
    monkeypatch.setattr(threads, "count", lambda: 4)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 1000])
@pytest.mark.parametrize(("align", "grain"), [(1, 1), (3, 2), (1024, 10)])
def test_parts_cover_the_range(n, align, grain) -> None:
    parts = threads.split(n, lambda start, stop: (start, stop), align, grain)
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(n))
    assert all(start % align == 0 for start, _ in parts)
    assert len(parts) <= 4


def test_an_error_of_any_part_is_raised_after_all_are_done() -> None:
    ended = []

    def work(start: int, stop: int) -> None:
        if start == 1:
            raise KeyError("one")
        time.sleep(0.02)
        ended.append(start)

    with pytest.raises(KeyError, match="one"):
        threads.split(4, work, 1, 1)
    assert sorted(ended) == [0, 2, 3]


def test_a_job_that_no_thread_has_begun_is_done_by_the_caller(monkeypatch) -> None:
    monkeypatch.setattr(threads, "_workers", [])
    monkeypatch.setattr(threads._Worker, "_work", lambda self: None)  # threads that never get the processor
    here = threads.threading.get_ident()
    assert threads.split(4, lambda start, stop: (start, threads.threading.get_ident()), 1, 1) == [(i, here) for i in range(4)]


def test_many_short_jobs_are_each_done_once() -> None:
    for _ in range(3000):
        assert threads.split(4, lambda start, stop: start, 1, 1) == [0, 1, 2, 3]


def test_nested_calls_run_alone() -> None:
    assert threads.split(4, lambda start, stop: threads.split(4, lambda a, b: (a, b), 1, 1), 1, 1)[1] == [(0, 4)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_starts_threads_of_its_own() -> None:
    threads.split(4, lambda start, stop: None, 1, 1)
    child = os.fork()
    if child == 0:
        os._exit(len(threads.split(4, lambda start, stop: start, 1, 1)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
