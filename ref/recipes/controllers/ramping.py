r"""`ramping`: weights whose rounding oscillates are updated less often (Q-Ramping of TetraJet).

In the last `window` steps of every `every` steps, per element of every quantized weight, Q its quantizer::

    moved     += |W_t - W_(t-1)|          rounded   += |Q(W_t) - Q(W_(t-1))|
    period     = 1 + beta floor(rounded / (alpha (moved + 1e-8)))          at the window's end, at most `every`

and the optimizer is `lpref.ref.optim.ramped.Ramped` with these periods until the next window ends. Before the first one all periods are 1.

State: step in the cycle, last weights and their rounded values, both sums, periods.
Defaults: alpha 16, beta 5 (script; the argument's default is 4), window 30, once an epoch.
Source: arXiv 2502.20853; thu-ml/TetraJet-MXFP4Training quantization/Qoptimizers/Qengine_DeiT.py, `BSRamping_calib_update_period`. Source level: read.
Deviation: there the window is thirty extra steps on other data with plain AdamW, after which model and optimizer are put back; here it is the
run's own steps, under the periods in force. The quotient is floored once, by the rounding to integers below the exact one of float32.
Pitfalls: a weight that does not move at all has period 1; a period near `every` all but freezes an element.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lpref.ref.errors import SpecError
from lpref.ref.optim.ramped import Ramped
from lpref.ref.recipes.controllers.base import Clock, Kind, Seen, State

EPS = 1e-8


@dataclass(frozen=True)
class Ramping(Kind):
    """Q-Ramping."""

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})

    alpha: float = 16.0
    beta: float = 5.0
    window: int = 30
    every: int = 300

    def __post_init__(self) -> None:
        problems = [f"{n}: {getattr(self, n)} is not a positive number" for n in ("alpha", "beta") if not getattr(self, n) > 0]
        if not 1 <= self.window <= self.every:
            problems.append(f"window: {self.window} steps are not within the {self.every} of a cycle")
        if problems:
            raise SpecError(problems)

    def problems(self, recipe: Any) -> Iterator[str]:
        if recipe.linear.fprop.b.quantizer is None:
            yield "kind: the forward weight is not quantized, so nothing oscillates"

    def start(self, weights: Mapping[str, Any], ops: Any) -> dict[str, Any]:
        periods = {n: ops.add(ops.sub(w, w), w.dtype.type(1)) for n, w in weights.items()}
        return {"steps": 0, "last": {}, "rounded": {}, "moved": {}, "flips": {}, "periods": periods}

    def after(self, state: State, seen: Seen) -> tuple[State, Mapping[str, Any]]:
        """The sums of a window from its second step on; periods where it ends."""
        ops, steps = seen.ops, state["steps"] + 1
        if steps < self.every - self.window:
            return {**state, "steps": steps}, {}
        rounded = {n: ops.qdq(w, seen.quantizers[n], k_axis=1) for n, w in seen.weights.items() if seen.quantizers[n] is not None}
        last = {n: seen.weights[n] for n in rounded}
        if not state["last"]:
            return {**state, "steps": steps, "last": last, "rounded": rounded}, {}
        sums = {}
        for key, new, old in (("moved", last, state["last"]), ("flips", rounded, state["rounded"])):
            parts = {n: ops.abs(ops.sub(new[n], old[n])) for n in old if n in new}
            sums[key] = {n: ops.add(state[key][n], x) if n in state[key] else x for n, x in parts.items()}
        if steps < self.every:
            return {**state, "steps": steps, "last": last, "rounded": rounded, **sums}, {}
        periods = {**state["periods"], **{n: self.period(sums["flips"][n], sums["moved"][n], ops) for n in sums["flips"]}}
        return {"steps": 0, "last": {}, "rounded": {}, "moved": {}, "flips": {}, "periods": periods}, {}

    def period(self, flips: Any, moved: Any, ops: Any) -> Any:
        """1 + beta floor(flips / (alpha (moved + eps))), at most `every`, elementwise."""
        kind = flips.dtype.type
        ratio = ops.div(ops.div(flips, kind(self.alpha)), ops.add(moved, kind(EPS)))
        nearest = ops.rint(ratio)
        whole = ops.where(ops.greater(nearest, ratio), ops.sub(nearest, kind(1)), nearest)
        return ops.minimum(ops.add(ops.mul(whole, kind(self.beta)), kind(1)), kind(self.every))

    def around(self, state: State, optimizer: Any, clock: Clock) -> Any:
        return Ramped(optimizer, state["periods"])
