r"""`block_wise`: the blocks of a transformer are trained one after the other, then all together (EfficientQAT's two phases).

With L blocks and u = `until`, the share of the run that the blocks get, step t of T trains block

.. math:: i = \lfloor L t / (u T) \rfloor \quad (t < u T), \qquad \text{then none: } i = -1

The number is put into the loss hook `block_output` (``loss_hooks.N.parameters.block``), which then takes the squared error of that block's output for
the loss and lets nothing else be trained. u = 1: no phase of all blocks follows.

State: the number of blocks.
Source: arXiv 2407.11062, sec. 3.2 and 3.3; OpenGVLab/EfficientQAT quantize/block_ap.py, block_ap. Source level: read.
Deviation: equal shares of one run, where the source runs 2 epochs a block with a learning rate schedule of its own, and stops a block early.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lpref.ref.errors import SpecError
from lpref.ref.recipes.controllers.base import Clock, Influence, Kind, State


@dataclass(frozen=True)
class BlockWise(Kind):
    """until: share of the run in which single blocks are trained.  hook: number of the loss hook."""

    until: float = 0.5
    hook: int = 0

    def __post_init__(self) -> None:
        problems = [] if 0 < self.until <= 1 else [f"until: {self.until!r} is not within (0, 1]"]
        problems += [] if self.hook >= 0 else [f"hook: {self.hook} is negative"]
        if problems:
            raise SpecError(problems)

    def problems(self, recipe: Any) -> Iterator[str]:
        if self.hook >= len(recipe.loss_hooks) or recipe.loss_hooks[self.hook].kind != "block_output":
            yield f"hook: loss_hooks.{self.hook} is no block_output"
        elif "block" not in recipe.loss_hooks[self.hook].parameters:
            yield f"hook: loss_hooks.{self.hook}.parameters has no block; write block: -1"

    def start(self, weights: Mapping[str, Any], ops: Any) -> dict[str, Any]:
        return {"blocks": len({found[1] for name in weights if (found := re.match(r"h\.(\d+)\.", name))})}

    def all_changes(self) -> Iterator[Mapping[str, Any]]:
        yield {self.path: 0}

    def influence(self, state: State, clock: Clock) -> Influence:
        return Influence({self.path: self.active(state["blocks"], clock.step, clock.total)})

    def active(self, blocks: int, step: int, total: int) -> int:
        """The block of a step.

        >>> [BlockWise(0.5).active(2, t, 8) for t in range(6)]
        [0, 0, 1, 1, -1, -1]
        """
        share = step / (self.until * total)
        return int(share * blocks) if share < 1 else -1

    @property
    def path(self) -> str:
        """What it sets."""
        return f"loss_hooks.{self.hook}.parameters.block"
