r"""`diversity`: the next precision when the gradients of successive epochs agree more and more (MuPPET).

At the end of every epoch (`every` steps) the gradient of its last step, $g^k_l$ of layer l, is kept. When there are `window` of them, in epoch j

.. math::
    \Delta s_j = \frac1{|L|} \sum_l \frac{\sum_k \|g^k_l\|^2}{\|\sum_k g^k_l\|^2}, \qquad
    p_j = \frac{\max_{i < j} \Delta s_i}{\Delta s_j}, \qquad T = \alpha + \beta e^{-\lambda j}

are taken, over the checks since the last change of level, and the gradients are forgotten: windows do not overlap. p > T is a violation; after
`violations` of them the next level is set, and everything of this level is forgotten. Levels only go up.

State: level, violations, largest diversity so far, epochs since the run's start, and the gradients of the window.
Defaults: alpha 1, beta 1.5, lambda 0.1 (policy.py), two violations and a window of three epochs (configs, patience and resolution).
Source: MuPPET, arXiv 2006.09049; ICIdsl/muppet a5cbb13 policy.py, training.py (epochs are counted from zero). Source level: read.
Laws: a huge alpha never switches: a static run. Equal gradients of k epochs have diversity 1 / k, orthogonal ones 1.
Pitfalls: a factor on all gradients of a layer changes nothing; a layer whose gradients add up to zero has no diversity and is left out, in the
code it makes the mean infinite or NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lpref.ref import elementary
from lpref.ref.recipes.controllers.base import Seen, State
from lpref.ref.recipes.controllers.levels import Levels


@dataclass(frozen=True)
class Diversity(Levels):
    """MuPPET. levels: one {path: value} per precision, coarse to fine; decay is lambda."""

    needs: ClassVar[frozenset[str]] = frozenset({"grads"})

    window: int = 3
    alpha: float = 1.0
    beta: float = 1.5
    decay: float = 0.1
    violations: int = 2

    def __post_init__(self) -> None:
        self.check({"window": 2, "violations": 1}, ("alpha", "beta", "decay"))

    def start(self, weights: Mapping[str, Any], ops: Any) -> dict[str, Any]:
        return {"level": 0, "steps": 0, "epochs": 0, "violations": 0, "largest": 0.0, "kept": []}

    def after(self, state: State, seen: Seen) -> tuple[State, Mapping[str, Any]]:
        """The diversity is taken where an epoch ends."""
        if self.is_last(state):
            return state, {}
        steps = state["steps"] + 1
        if steps < self.every:
            return {**state, "steps": steps}, {}
        kept = [*state["kept"], dict(seen.grads)]
        epochs, violations, largest = state["epochs"] + 1, state["violations"], state["largest"]
        if len(kept) == self.window:
            found, kept = diversity(kept, seen.ops), []
            violations += int(bool(found) and largest / found > self.threshold(epochs - 1))
            largest = max(largest, found)
        new = {**state, "steps": 0, "epochs": epochs, "violations": violations, "largest": largest, "kept": kept}
        if violations >= self.violations:
            new |= {"level": state["level"] + 1, "violations": 0, "largest": 0.0, "kept": []}
        return new, {}

    def threshold(self, epoch: int) -> float:
        """T of an epoch.

        >>> Diversity(levels=({},), alpha=1.0, beta=0.5).threshold(0)
        1.5
        """
        return self.alpha + self.beta * float(elementary.exp(np.float64(-self.decay * epoch)))



def diversity(kept: list[Mapping[str, Any]], ops: Any) -> float:
    """The mean of sum |g|^2 / |sum g|^2 over the layers that have a sum; 0 where none has. Norms by the defined sum of float32 squares."""
    ratios = []
    for name in kept[0]:
        total, squares = kept[0][name], square(kept[0][name], ops)
        for one in kept[1:]:
            total, squares = ops.add(total, one[name]), squares + square(one[name], ops)
        norm = square(total, ops)
        if norm > 0 and math.isfinite(squares):
            ratios.append(squares / norm)
    return math.fsum(ratios) / len(ratios) if ratios else 0.0


def square(x: Any, ops: Any) -> float:
    """|x|^2."""
    return float(ops.tree_sum(ops.mul(x, x).reshape(-1)).item())
