"""What the tests of planted mistakes share: the pairs of subject and mistake, and the two judgements of `run_suite`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lpref.conformance import SuiteReport, run_suite

SECONDS = 30.0
"""How long the kit may take to catch a mistake: of processor time, so that a busy machine does not count."""

Subjects = Mapping[str, tuple[Callable[..., Any], Any, tuple[str, ...]]]


def pairs(subjects: Subjects) -> list[tuple[str, str]]:
    """(subject, mistake) for every mistake of every subject."""
    return [(subject, flaw) for subject, (_, _, flaws) in subjects.items() for flaw in flaws]


def accepted(implementation: Callable[..., Any], **against: Any) -> SuiteReport:
    """The report on an implementation without a mistake, which must pass."""
    report = run_suite(implementation, **against)
    assert report.passed, report
    return report


def caught(implementation: Callable[..., Any], says: str, **against: Any) -> None:
    """The kit refuses the implementation in time, and its first counter-example says so in these words."""
    with in_time():
        report = run_suite(implementation, **against)
    assert not report.passed
    assert says in report.counterexample, report


@contextmanager
def in_time() -> Iterator[None]:
    """The block takes less than `SECONDS`."""
    start = time.process_time()
    yield
    assert time.process_time() - start < SECONDS
