r"""`ScaleRates`: an optimizer whose learned quantizer parameters have a learning rate that their own gradients lower (ALRS of Double Rounding).

Over the L learned parameters s_i of the pass that has just run (those that have a gradient)::

    lr_b = max(0, eta (lr - (1/L) sum_i min(max |clip(ds_i, +-1)|, 1)))

All other parameters have lr. A learned parameter whose gradient is zero everywhere (another width's) stays, with its moments.
Source: arXiv 2502.01199, eq. 6 and 7 (the paper; its code is not public). Source level: read.
Deviation: as published lr_b is negative where gradients are large; the maximum with 0 is ours. Gradients are those after global clipping.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

Array = Any


@dataclass(frozen=True)
class ScaleRates:
    """`inner` with eta for the parameters `scales`."""

    inner: Any
    scales: frozenset[str]
    eta: float

    @property
    def rule(self) -> Any:
        """The inner optimizer's rule."""
        return self.inner.rule

    def update(
        self, params: Mapping[str, Array], grads: Mapping[str, Array], state: Mapping[str, Array], ctx: Any, backend: Any = None
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """(new params, new state)."""
        largest = {name: float(backend.amax(grads[name]).item()) for name in params if name in self.scales}
        live = [name for name, size in largest.items() if size > 0]
        lr = self.rule.lr if ctx.lr is None else ctx.lr
        own = replace(ctx, lr=scale_rate(lr, self.eta, [largest[name] for name in live]))
        new_params, new_state = dict(params), dict(state)
        for names, here in (([name for name in params if name not in self.scales], ctx), (live, own)):
            made, kept = self.inner.update({n: params[n] for n in names}, {n: grads[n] for n in names}, state, here, backend)
            new_params |= made
            new_state |= kept
        return new_params, new_state


def scale_rate(lr: float, eta: float, largest: list[float]) -> float:
    """lr_b from the largest magnitudes of the gradients.

    >>> scale_rate(0.5, 0.1, [0.25, 7.0]), round(scale_rate(0.5, 0.1, [0.25, 0.25]), 6)
    (0.0, 0.025)
    """
    mean = sum(min(size, 1.0) for size in largest) / max(len(largest), 1)
    return max(0.0, eta * (lr - mean))
