r"""`freeze`: weights whose rounding oscillates too often stop moving.

With q_t = Q(W_t) the rounded weight after step t, d_t = sgn(q_t - q_(t-1)) and d the last direction that was not 0::

    o = 1 where d_t != 0, d != 0 and d_t != d, else 0                 an oscillation
    f <- m o + (1 - m) f                                              its frequency
    a <- m q_t + (1 - m) a                                            where the rounded value has been
    frozen where f > threshold and not frozen yet:   W = a from now on, rounded as any weight

State: rounded weights, directions, frequencies, averages, what is frozen (0 or 1) and where.
Defaults: m = .01, threshold .02 .. .01 annealed over the run in the source; constant here.
Source: Nagel et al., Overcoming Oscillations in Quantization-Aware Training, arXiv 2203.11086, algorithm 1 (from memory). Source level: memory.
Deviation: the source averages integers under a learned step, here values: a step that changes moves them too.
Pitfalls: the optimizer's moments of a frozen weight go on; a threshold above m needs more than one oscillation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lpref.ref.errors import SpecError
from lpref.ref.recipes.controllers.base import Kind, Seen, State

PARTS = ("rounded", "direction", "frequency", "average", "frozen", "value")


@dataclass(frozen=True)
class Freeze(Kind):
    """Freezing of oscillating weights."""

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})

    momentum: float = 0.01
    threshold: float = 0.02

    def __post_init__(self) -> None:
        problems = [f"{n}: {getattr(self, n)} is not within [0, 1]" for n in ("momentum", "threshold") if not 0 <= getattr(self, n) <= 1]
        if problems:
            raise SpecError(problems)

    def problems(self, recipe: Any) -> Iterator[str]:
        if recipe.linear.fprop.b.quantizer is None or recipe.linear.fprop.b.quantizer.scale.rule in ("learned", "double_rounding"):
            yield "kind: the forward weight has no quantizer of its own scale, so its rounded value cannot be followed"

    def start(self, weights: Mapping[str, Any], ops: Any) -> dict[str, Any]:
        return {name: {} for name in weights}

    def after(self, state: State, seen: Seen) -> tuple[State, Mapping[str, Any]]:
        new, written = {}, {}
        for name, w in seen.weights.items():
            new[name], written[name] = self.one(state[name], w, seen.quantizers[name], seen.ops)
        return new, written

    def one(self, kept: State, w: Any, q: Any, ops: Any) -> tuple[dict[str, Any], Any]:
        """(state, weight) of one weight after a step."""
        kind = w.dtype.type
        rounded, zero = ops.qdq(w, q, k_axis=1), ops.sub(w, w)
        if not kept:
            return dict(zip(PARTS, (rounded, zero, zero, rounded, zero, zero), strict=True)), w
        change, m, rest = ops.sub(rounded, kept["rounded"]), kind(self.momentum), kind(1.0 - self.momentum)
        down = ops.where(ops.greater(kind(0), change), kind(-1), zero)
        sign = ops.where(ops.greater(change, kind(0)), kind(1), down)
        turned = ops.where(ops.greater(kind(0), ops.mul(sign, kept["direction"])), kind(1), zero)
        frequency = ops.add(ops.mul(turned, m), ops.mul(kept["frequency"], rest))
        average = ops.add(ops.mul(rounded, m), ops.mul(kept["average"], rest))
        was = ops.greater(kept["frozen"], kind(0))
        now = ops.where(was, kept["frozen"], ops.where(ops.greater(frequency, kind(self.threshold)), kind(1), zero))
        value = ops.where(was, kept["value"], average)
        direction = ops.where(ops.equal(sign, kind(0)), kept["direction"], sign)
        state = dict(zip(PARTS, (rounded, direction, frequency, average, now, value), strict=True))
        return state, ops.where(ops.greater(now, kind(0)), value, w)
