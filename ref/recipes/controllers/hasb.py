r"""`hasb`: in some passes every layer draws its own bit width (HASB, the mixed-precision training of Double Rounding).

With t_l the sensitivity of layer l (the trace of its Hessian), and the widths b of `widths`::

    t_l <  mean t    each width with the same probability
    t_l >= mean t    width b with probability b / sum of the widths

so that sensitive layers get many bits more often (`lpref.ref.analysis.bit_budget.roulette`). The draw is word ``site/hasb`` of the step (16
bits), with the pass in its stream. `set` holds paths of a layer's linear recipe, in whose values ``{bits}`` stands for the width. A layer that
`traces` does not name has the mean.
State: the layers.
Source: arXiv 2502.01199, sec. 3.4. Source level: read. The budgeted choice of widths after training is `lpref.ref.analysis.bit_budget`.
Deviation: traces are given; the paper measures them before training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from lpref.ref.analysis.bit_budget import roulette
from lpref.ref.errors import SpecError
from lpref.ref.random import WordAddress
from lpref.ref.recipes.controllers.base import NOTHING, Clock, Influence, Kind, State
from lpref.ref.recipes.phases import filled


@dataclass(frozen=True)
class Hasb(Kind):
    """Widths drawn per layer in the passes `passes`."""

    widths: tuple[int, ...] = (8, 6, 4, 2)
    passes: tuple[int, ...] = (0,)
    set: Mapping[str, Any] = field(default_factory=dict, hash=False)
    traces: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        whole = bool(self.widths) and all(isinstance(b, int) and b > 0 for b in self.widths)
        problems = [] if whole else [f"widths: {list(self.widths)} are no bit widths"]
        problems += [] if self.set else ["set: nothing; name the formats of a layer, such as fprop.b.quantizer.format: int{bits}"]
        odd = {site: t for site, t in self.traces.items() if isinstance(t, bool) or not isinstance(t, (int, float))}
        problems += [f"traces.{site}: {t!r} is no number" for site, t in odd.items()]
        if problems:
            raise SpecError(problems)

    def problems(self, recipe: Any) -> Iterator[str]:
        count = max(1, len(recipe.passes))
        yield from (f"parameters.passes: {i}, but the recipe has {count}" for i in self.passes if not 0 <= i < count)

    def all_changes(self) -> Iterator[Mapping[str, Any]]:
        yield from ({f"linear.{path}": value for path, value in filled(self.set, bits).items()} for bits in self.widths)

    def start(self, weights: Mapping[str, Any], ops: Any) -> dict[str, Any]:
        return {"sites": [name.removesuffix(".weight") for name in weights]}

    def influence(self, state: State, clock: Clock) -> Influence:
        if clock.pass_ not in self.passes:
            return NOTHING
        return Influence(layers={site: filled(self.set, self.width(site, clock)) for site in state["sites"]})

    def width(self, site: str, clock: Clock) -> int:
        """The width that a layer draws."""
        mean = sum(self.traces.values()) / len(self.traces) if self.traces else 0.0
        shares = roulette(self.traces.get(site, mean), mean, self.widths)
        word = int(WordAddress(clock.seed, clock.step, f"{site}/hasb" + (f"@{clock.pass_}" if clock.pass_ else "")).bits(1, 16)[0])
        left = Fraction(word, 2**16)
        for bits, share in shares.items():
            left -= share
            if left < 0:
                return bits
        return self.widths[-1]
