"""Groups of parameters: which of them are trained, and at which multiple of the learning rate.

A group matches names (a glob over ``h.0.attn.qkv.w_step``, …) and roles; the first that matches decides. A rate of 0 leaves parameters and their
optimizer state as they are, and keeps their gradients out of the global norm; decay groups are the optimizer's. Phases may change a group
(``groups.0.rate``), so that a run first trains one thing and then another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from lpref.ref.errors import SpecError


@dataclass(frozen=True)
class Group:
    """Parameters by name and role, and their rate: a factor of the learning rate, 0 for what is not trained."""

    name: str = "*"
    role: tuple[str, ...] = ()
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate >= 0):
            raise SpecError([f"rate: {self.rate!r} is not a number >= 0"])

    def matches(self, name: str, role: str) -> bool:
        """Whether the parameter is of the group."""
        return fnmatchcase(name, self.name) and (not self.role or role in self.role)


def rates(groups: Sequence[Group], roles: Mapping[str, str]) -> dict[str, float]:
    """Parameter -> rate, of those whose rate is not 1.

    >>> rates([Group("*_step", rate=0.0)], {"a.weight": "qkv", "a.x_step": "quantizer_step"})
    {'a.x_step': 0.0}
    """
    found = {name: next((g.rate for g in groups if g.matches(name, role)), 1.0) for name, role in roles.items()}
    return {name: rate for name, rate in found.items() if rate != 1.0}


@dataclass(frozen=True)
class Grouped:
    """An optimizer that updates parameters at their own multiples of the learning rate."""

    inner: Any
    rates: Mapping[str, float]

    @property
    def rule(self) -> Any:
        """The inner optimizer's rule."""
        return self.inner.rule

    def update(
        self, params: Mapping[str, Any], grads: Mapping[str, Any], state: Mapping[str, Any], ctx: Any, backend: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(new params, new state): one update of the inner optimizer for each rate."""
        lr = self.rule.lr if ctx.lr is None else ctx.lr
        new_params: dict[str, Any] = {}
        new_state: dict[str, Any] = {}
        for rate in dict.fromkeys(self.rates.get(name, 1.0) for name in params):
            own = [name for name in params if self.rates.get(name, 1.0) == rate]
            if rate == 0.0:
                new_params |= {name: params[name] for name in own}
                new_state |= {key: value for key, value in state.items() if any(key.startswith(f"{name}/") for name in own)}
                continue
            here = ctx if rate == 1.0 else replace(ctx, lr=lr * rate)
            made, kept = self.inner.update({n: params[n] for n in own}, {n: grads[n] for n in own}, state, here, backend)
            new_params |= made
            new_state |= kept
        return {name: new_params[name] for name in params}, new_state
