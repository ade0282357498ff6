r"""`ema`: a moving average of every quantized weight, the companion by which a guided weight slot rounds (Q-EMA of TetraJet).

.. math:: \bar W \leftarrow \mathrm{decay}\; \bar W + (1 - \mathrm{decay})\; W, \qquad \bar W_0 = W_0

after every step, float32: two products and their sum. The weight slot reads it after `start` updates; before that it rounds as it is.
State: the averages, and the number of updates.
Defaults: decay .9983 (DeiT-T), .9972 (S), .999 (B); start 10.
Source: arXiv 2502.20853; thu-ml/TetraJet-MXFP4Training quantization/QLinear.py (`ema_step >= 10`, `mul_(decay).add_(weight, alpha=1 - decay)`).
Source level: read.
Pitfalls: the average follows the weight after the optimizer's step, so the first forward that reads it has seen `start` steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lpref.ref.errors import SpecError
from lpref.ref.recipes.controllers.base import NOTHING, Clock, Influence, Kind, Seen, State


@dataclass(frozen=True)
class Ema(Kind):
    """Q-EMA's average; warm: updates before a slot reads it."""

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})

    decay: float = 0.9983
    warm: int = 10

    def __post_init__(self) -> None:
        problems = [] if 0 <= self.decay <= 1 else [f"decay: {self.decay} is not within [0, 1]"]
        problems += [] if self.warm >= 0 else [f"warm: {self.warm} is negative"]
        if problems:
            raise SpecError(problems)

    def problems(self, recipe: Any) -> Iterator[str]:
        if not any(linear.fprop.b.guided for linear in (recipe.linear, *recipe.variants.values())):
            yield "kind: no weight slot is guided, so nothing reads the average; write fprop.b: {guided: true}"

    def start(self, weights: Mapping[str, Any], ops: Any) -> dict[str, Any]:
        return {"average": {name: w.copy() for name, w in weights.items()}, "updates": 0}

    def after(self, state: State, seen: Seen) -> tuple[State, Mapping[str, Any]]:
        ops, average = seen.ops, {}
        for name, w in seen.weights.items():
            keep, add = w.dtype.type(self.decay), w.dtype.type(1.0 - self.decay)
            average[name] = ops.add(ops.mul(state["average"][name], keep), ops.mul(w, add))
        return {"average": average, "updates": state["updates"] + 1}, {}

    def influence(self, state: State, clock: Clock) -> Influence:
        return Influence(companions=state["average"]) if state["updates"] >= self.warm else NOTHING
