"""How far a long proof is."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """done of total inputs after `seconds`, at `rate` inputs per second; `estimate`: the first word, before anything was tried."""

    target: str
    case: str
    done: int
    total: int
    seconds: float
    rate: float
    estimate: bool = False

    @property
    def left(self) -> float:
        """Seconds to go at this rate."""
        return (self.total - self.done) / self.rate if self.rate else float("inf")

    def __str__(self) -> str:
        head = f"{self.target} {self.case}"
        if self.estimate:
            resumed = f", {self.done / self.total:.0%} done before" if self.done else ""
            return f"{head}: {self.total} inputs at {self.rate / 1e6:.0f} Melem/s, at least {self.left:.0f} s{resumed}"
        return f"{head}: {self.done / self.total:5.1%}  {self.rate / 1e6:.0f} Melem/s, {self.left:.0f} s left"


def to_stderr(progress: Progress) -> None:
    """One line each; on a terminal drawn in place."""
    end = "\r" if sys.stderr.isatty() and not progress.estimate else "\n"
    print(progress, file=sys.stderr, end=end, flush=True)
