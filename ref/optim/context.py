"""What an optimizer is told about the step that it is in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OptimContext:
    """Counters, seed and learning rate of one call of `Optimizer.update`."""

    step: int
    """Batches seen before this one: addresses the random words of stochastically rounded storage."""
    update: int
    """Updates applied before this one (skipped steps do not count): this is update number t = update + 1."""
    seed: int = 0
    lr: float | None = None
    """Learning rate of this update, `schedule(update)`; None uses the rule's own `lr`."""
    peak: float | None = None
    """Largest learning rate of the schedule: what an update in integers measures `lr` by."""
    total: int | None = None
    """Updates of the whole run: shares of it (averaging) are shares of this."""
