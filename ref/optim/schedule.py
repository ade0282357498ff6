r"""Learning-rate schedules: pure functions of the number of updates already applied, in float64, evaluated on the host.

The learning rate of update number t (1-based) is f(t - 1), as in torch's LambdaLR and optax. All kinds start with a linear warm-up,
:math:`f(i) = \eta (i+1)/W` for i < W; then, with :math:`x = (i - W)/(N - W)` the fraction of the rest and r = `final_ratio`,

    constant   f = lr
    linear     f = lr (1 - (1-r) x)
    cosine     f = lr (r + (1-r) (1 + cos(pi x))/2)
    wsd        f = lr until the last `decay_fraction` of all N updates, then linear to r lr     (warm-up, stable, decay)

After update N the last value stays. The cosine is :func:`lpref.ref.elementary.cos`, so every platform gets the same bits.
Source: Loshchilov & Hutter, arXiv:1608.03983 (cosine); Hu et al., arXiv:2404.06395 (warm-up, stable, decay). Source level: secondary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lpref.ref import elementary
from lpref.ref.errors import SpecError, UnknownNameError


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule; call it with the number of updates already applied.

    >>> f = Schedule("linear", lr=1.0, warmup=2, steps=6, final_ratio=0.0)
    >>> [f(i) for i in range(8)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: Literal["constant", "linear", "cosine", "wsd"] = "constant"
    lr: float = 1e-3
    """Peak learning rate."""
    warmup: int = 0
    """Updates of linear warm-up, W."""
    steps: int = 0
    """Updates of the whole run, N; not used by `constant`."""
    final_ratio: float = 0.0
    """Learning rate after N updates, as a share of `lr`."""
    decay_fraction: float = 0.2
    """Share of the N updates in which `wsd` decays."""

    def __post_init__(self) -> None:
        problems = []
        if self.kind not in SHAPES:
            raise UnknownNameError("schedule", self.kind, SHAPES)
        if self.warmup < 0:
            problems.append(f"warmup: {self.warmup} is negative")
        if self.kind != "constant" and self.steps <= self.warmup:
            problems.append(f"steps: {self.steps} updates leave none after a warm-up of {self.warmup}")
        if not 0.0 <= self.decay_fraction <= 1.0:
            problems.append(f"decay_fraction: {self.decay_fraction} is not within 0 and 1")
        if problems:
            raise SpecError(problems, where=f"schedule {self.kind}")

    def __call__(self, applied: int) -> float:
        """The learning rate of the next update, when `applied` updates have been applied."""
        if applied < self.warmup:
            return self.lr * (applied + 1) / self.warmup
        return self.lr * SHAPES[self.kind](self, min(applied, self.steps) if self.kind != "constant" else applied)


def _constant(s: Schedule, i: int) -> float:
    return 1.0


def _linear(s: Schedule, i: int) -> float:
    return 1.0 - (1.0 - s.final_ratio) * ((i - s.warmup) / (s.steps - s.warmup))


def _cosine(s: Schedule, i: int) -> float:
    cosine = float(elementary.cos(np.asarray([math.pi * ((i - s.warmup) / (s.steps - s.warmup))], np.float64))[0])
    return s.final_ratio + (1.0 - s.final_ratio) * ((1.0 + cosine) * 0.5)


def _wsd(s: Schedule, i: int) -> float:
    decay = s.decay_fraction * s.steps
    left = s.steps - i
    return 1.0 if left >= decay else s.final_ratio + (1.0 - s.final_ratio) * (left / decay)


SHAPES: dict[str, Callable[[Schedule, int], float]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "wsd": _wsd,
}
"""Factor on the peak learning rate after the warm-up, by kind."""


def schedule(kind: str = "constant", **fields: float) -> Schedule:
    """A schedule by name; an unknown field is an error that names the nearest one."""
    known = {name for name in Schedule.__dataclass_fields__ if name != "kind"}
    for name in fields:
        if name not in known:
            raise UnknownNameError("schedule field", name, known, where=f"schedule {kind}")
    return Schedule(kind, **fields)  # type: ignore[arg-type]


def as_mapping(s: Schedule) -> Mapping[str, object]:
    """The schedule's fields, for a resolved spec."""
    return {name: getattr(s, name) for name in Schedule.__dataclass_fields__}
