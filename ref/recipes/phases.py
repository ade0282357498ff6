r"""What a recipe changes while it runs: phases (pure functions of the step), passes within a step, controllers with a memory.

    Phase        fields that differ during a part of the run, with or without a cycle of bit widths
    Cycle        bits as a function of the step: b_t = rint(low + (high - low) / 2 * (1 + cos(pi (t mod T) / T + pi)))
    Pass         one of several forward and backward passes of a step
    Controller   a stateful observer; what its kinds do is in `lpref.ref.recipes.controllers`
    LossHook     a term of the loss

The cycle rises from `low` on half a cosine and falls back at once: CPT, arXiv 2101.09868; RICE-EIC/CPT cpt_cifar/train.py,
`cyclic_adjust_precision` (read). T is the integer quotient of the run's steps by `cycles`; rint rounds ties to even, as np.rint there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lpref.ref import elementary
from lpref.ref.errors import SpecError

BITS = "{bits}"


@dataclass(frozen=True)
class Cycle:
    """Bit widths that go through `cycles` cycles over the run's steps, from `low` up to `high`; the text ``{bits}`` in `set` stands for them."""

    low: int
    high: int
    cycles: int = 32

    def __post_init__(self) -> None:
        problems = [f"{name}: {value} is not a positive integer" for name, value in vars(self).items() if value < 1]
        if self.low > self.high:
            problems.append(f"low: {self.low} bits are more than high: {self.high}")
        if problems:
            raise SpecError(problems)

    def bits(self, step: int, total: int) -> int:
        """The bits of a step of a run of `total` steps; a run of fewer steps than cycles has a step a cycle.

        >>> [Cycle(3, 8, 2).bits(t, 16) for t in range(9)]
        [3, 3, 4, 5, 6, 6, 7, 8, 3]
        """
        period = max(1, total // self.cycles)
        angle = math.pi * ((step % period) / period) + math.pi
        return int(np.rint(self.low + 0.5 * (self.high - self.low) * (1.0 + float(elementary.cos(np.float64(angle))))))


@dataclass(frozen=True)
class Phase:
    """Fields that differ while start <= t < stop; t counts steps, updates, or is the fraction of the run's steps."""

    set: Mapping[str, Any] = field(hash=False)
    start: float = 0.0
    stop: float | None = None
    unit: Literal["step", "update", "fraction"] = "step"
    cycle: Cycle | None = None

    def __post_init__(self) -> None:
        if self.cycle is not None and not any(isinstance(v, str) and BITS in v for v in self.set.values()):
            raise SpecError([f"set: no value has {BITS}, so the cycle changes nothing"])

    def during(self, t: float) -> bool:
        """Whether the phase is on at `t`, counted in its unit."""
        return self.start <= t and (self.stop is None or t < self.stop)

    def changes(self, step: int, total: int) -> dict[str, Any]:
        """Path -> value at a step; a cycle's bits are filled in."""
        return dict(self.set) if self.cycle is None else filled(self.set, self.cycle.bits(step, total))

    def all_changes(self) -> list[dict[str, Any]]:
        """What `changes` may give, for validation."""
        if self.cycle is None:
            return [dict(self.set)]
        return [filled(self.set, bits) for bits in range(self.cycle.low, self.cycle.high + 1)]


def filled(changes: Mapping[str, Any], bits: int) -> dict[str, Any]:
    """`changes` with every ``{bits}`` replaced.

    >>> filled({"linear.fprop.a.quantizer.format": "int{bits}"}, 4)
    {'linear.fprop.a.quantizer.format': 'int4'}
    """
    return {
        path: value.replace(BITS, str(bits)) if isinstance(value, str) else value for path, value in changes.items()
    }


@dataclass(frozen=True)
class Controller:
    """A named, stateful observer that changes fields of the recipe or of the optimizer between steps.

    `parameters` are the fields of its kind's dataclass, `lpref.ref.recipes.controllers.KINDS`.
    """

    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class LossHook:
    """A term added to the loss: distillation, a regularizer of the weights, a price of bits."""

    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Displaced:
    r"""Where the weights of a pass are: at $w + (\rho / \lVert g \rVert - \alpha) g$, g the gradient of the pass `of` by all parameters but those
    of quantizers, in one norm; a constant. Its gradient is added to those of the other passes.

    $\alpha = 0$: the perturbed point of sharpness-aware minimization (arXiv 2010.01412); with $\alpha$, SAGM's (arXiv 2304.00502), whose gradient is
    that of both passes. A zero gradient displaces nothing.
    """

    of: str
    rho: float = 0.05
    alpha: float = 0.0

    def __post_init__(self) -> None:
        problems = [f"{n}: {getattr(self, n)!r} is not a number >= 0" for n in ("rho", "alpha") if not 0 <= getattr(self, n) < math.inf]
        if problems:
            raise SpecError(problems)


@dataclass(frozen=True)
class Pass:
    """One of several forward and backward passes of a step over the same batch, with the fields that differ in it.

    update   each: the weights are updated after this pass, and the next one sees them; summed: the gradients of the passes are added
             and applied once. All passes of a recipe say the same.
    displaced  the weights of this pass are not those of the step, which a `summed` pass may ask for
    """

    name: str
    set: Mapping[str, Any] = field(default_factory=dict, hash=False)
    update: Literal["each", "summed"] = "summed"
    displaced: Displaced | None = None
