"""What a suite found: one `Outcome` per class of inputs, together a `SuiteReport`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """One class of inputs: how many were tried, how many differ, how many the definition refuses, the smallest failure."""

    name: str
    cases: int
    failures: int
    refused: int = 0
    counterexample: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing differed."""
        return self.failures == 0

    def __str__(self) -> str:
        refused = f", {self.refused} left out: the definition refuses them" if self.refused else ""
        failed = f"\n      {self.counterexample}" if self.failures else ""
        count = f"{self.failures} of {self.cases} differ" if self.failures else f"{self.cases} cases"
        return f"  {'passed' if self.passed else 'FAILED'}  {self.name}: {count}{refused}{failed}"


@dataclass(frozen=True)
class SuiteReport:
    """What was tested and how it went; prints as a table, true when passed."""

    title: str
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether every class passed."""
        return all(o.passed for o in self.outcomes)

    @property
    def cases(self) -> int:
        """The number of inputs compared."""
        return sum(o.cases for o in self.outcomes)

    @property
    def counterexample(self) -> str:
        """The first failing class's smallest failure; empty when passed."""
        return next((o.counterexample for o in self.outcomes if not o.passed), "")

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        head = f"{self.title}: {'passed' if self.passed else 'failed'}, {self.cases} cases"
        return "\n".join([head, *map(str, self.outcomes)])
