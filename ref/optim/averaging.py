r"""The running mean of weights over the end of a run, kept in float32 beside them (SWALP's hook; stochastic weight averaging).

With update number t (1-based) and the first averaged update t0 = floor(start T) + every, T the updates of the run::

    t = t0 + i every, i = 0, 1, ...:    n = i + 1,  a = 1 / n
    mean <- fl32(fl32(mean fl32(1 - a)) + fl32(w fl32(a)))          w the weights after the update, as they are stored

At n = 1 the mean is w. Between these updates it stays. The mean is for evaluation only: no step reads it.

Source: stevenygd/SWALP utils.py, moving_average, train.py (once an epoch from ``swa_start`` on); arXiv 1904.11943, algorithm 1.
Source level: read.
Pitfalls: the weights of a learning rate that still falls are no sample of one distribution: keep it constant while averaging.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.ref.errors import SpecError


@dataclass(frozen=True)
class Averaging:
    """When weights are averaged: behind the share `start` of the run, every so many updates."""

    start: float = 0.5
    every: int = 1

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.start < 1:
            problems.append(f"start: {self.start!r} is not a share of the run in [0, 1)")
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            problems.append(f"every: {self.every!r} is not a positive number of updates")
        if problems:
            raise SpecError(problems)

    def number(self, t: int, total: int) -> int:
        """n of update number `t` (1-based) in a run of `total` updates; 0 where it is not averaged.

        >>> [Averaging(start=0.5, every=2).number(t, 10) for t in range(5, 10)]
        [0, 0, 1, 0, 2]
        """
        past = t - math.floor(self.start * total)
        return past // self.every if past > 0 and past % self.every == 0 else 0

    def begun(self, updates: int, total: int) -> bool:
        """Whether a mean exists after so many updates."""
        return updates - math.floor(self.start * total) >= self.every


def averaged(mean: Any, w: Any, n: int, add: Any = np.add, mul: Any = np.multiply) -> Any:
    """The mean of n weights from that of n - 1 and the last one, float32.

    >>> averaged(np.float32([2]), np.float32([5]), 3).tolist()
    [3.0]
    """
    a = 1.0 / n
    return add(mul(mean, w.dtype.type(1.0 - a)), mul(w, w.dtype.type(a)))
