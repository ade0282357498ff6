r"""`plateau`: the next precision when the loss stands still (PFQ of FracTrain).

Every `every` steps ("an epoch") the mean loss $L$ of those steps is taken; the last `keep` of them are held. With S the mean of the first
`warm` epochs (so far), a turning point is reached when `keep` are there and

.. math:: |L_i - L_{now}| / S \le \theta \quad \text{for each of the others}

Then the next level is set, the losses are forgotten, and $\theta \leftarrow$ decay $\theta$ at the first `decays` turning points. Levels only go
up; the last one stays. One level: nothing ever changes (a static run).

State: level, theta, losses held, sums of the current epoch and of S.
Defaults: five epochs, threshold 0.15, decay 0.4 (script); README: 0.05, 0.3. decays 2: the script decays at the first two of three points.
Source: arXiv 2012.13113; RICE-EIC/FracTrain fractrain_cifar/train_pfq.py, `loss_diff_indicator` and lines 375-403. Source level: read.
Pitfalls: the comparison is `>`, so a difference of exactly theta is standing still; S stops changing after `warm` epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lpref.ref.recipes.controllers.base import Seen, State
from lpref.ref.recipes.controllers.levels import Levels


@dataclass(frozen=True)
class Plateau(Levels):
    """PFQ. levels: one {path: value} per precision, coarse to fine."""

    keep: int = 5
    threshold: float = 0.15
    decay: float = 0.4
    decays: int = 2
    warm: int = 10

    def __post_init__(self) -> None:
        self.check({"keep": 2, "warm": 1}, ("threshold", "decay", "decays"))

    def start(self, weights: Mapping[str, Any], ops: Any) -> dict[str, Any]:
        return {
            "level": 0,
            "threshold": self.threshold,
            "losses": [],
            "sum": 0.0,
            "steps": 0,
            "scale": 0.0,
            "epochs": 0,
        }

    def after(self, state: State, seen: Seen) -> tuple[State, Mapping[str, Any]]:
        """A turning point is looked for where an epoch ends."""
        total, steps = state["sum"] + seen.loss, state["steps"] + 1
        if steps < self.every:
            return {**state, "sum": total, "steps": steps}, {}
        loss, epochs = total / steps, state["epochs"] + 1
        scale = state["scale"] + loss if epochs <= self.warm else state["scale"]
        held = [*state["losses"], loss][-self.keep :]
        new = {**state, "sum": 0.0, "steps": 0, "epochs": epochs, "scale": scale, "losses": held}
        if not self.is_last(state) and self.stands_still(held, scale / min(epochs, self.warm), state["threshold"]):
            level = state["level"] + 1
            new |= {
                "level": level,
                "losses": [],
                "threshold": state["threshold"] * (self.decay if level <= self.decays else 1.0),
            }
        return new, {}

    def stands_still(self, losses: list[float], scale: float, threshold: float) -> bool:
        """Whether there are `keep` epoch losses that differ from the last by at most threshold times scale."""
        if len(losses) < self.keep:
            return False
        return all(not abs(one - losses[-1]) / scale > threshold for one in losses[:-1])
