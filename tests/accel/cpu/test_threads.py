"""Splitting work over threads: every element once, nesting does not deadlock, errors come back."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lpref.accel.cpu import threads


@pytest.mark.parametrize("n", [0, 1, 1000, threads.GRAIN, 2 * threads.GRAIN + 17, 10**6])
def test_parts_cover_the_range_once_and_are_aligned(n: int) -> None:
    parts = threads.split(n, lambda a, b: (a, b))
    assert parts[0][0] == 0
    assert parts[-1][1] == n
    assert all(b == c for (_, b), (c, _) in pairwise(parts))
    assert all(a % 1024 == 0 for a, _ in parts)


def test_nested_splits_run_alone() -> None:
    n = 4 * threads.GRAIN
    nested = threads.split(n, lambda a, b: len(threads.split(n, lambda c, d: d - c)))
    assert all(count == 1 for count in nested[1:])


def test_an_error_in_a_part_is_raised() -> None:
    def work(a: int, b: int) -> None:
        if a > 0 or b == 4 * threads.GRAIN:
            raise ValueError("part")

    with pytest.raises(ValueError, match="part"):
        threads.split(4 * threads.GRAIN, work)
