"""Hypothesis on behalf of `run_suite`: derandomized, so that two runs try the same examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lpref.conformance import check
from lpref.conformance.report import Outcome
from lpref.ref.errors import LprefError


def search(strategy: st.SearchStrategy[np.ndarray], compare: Callable[[np.ndarray], Outcome], examples: int) -> Outcome:
    """One outcome for all examples: passed, or the shrunk failure."""
    failed: list[Outcome] = []

    @settings(max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def run(x: np.ndarray) -> None:
        outcome = compare(x)
        if not outcome.passed:
            failed.append(outcome)
            raise check.Mismatch(outcome.counterexample, index=())

    try:
        run()
    except LprefError:
        if not failed:
            raise
        return failed[-1]  # the last failure is the shrunk one
    return Outcome("Hypothesis", examples, 0)
