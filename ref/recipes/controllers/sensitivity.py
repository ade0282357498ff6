r"""`sensitivity`: bits of saved activations from what each of them does to the gradient (GACT's automatic precision).

Every `every` steps, before the step, for each saved tensor l in turn, all others at the bits that they have: three backward passes of the coming
batch, of the whole model's gradient: g0 with l in `low` bits, g1 the same with other random words for l, g2 with l in `high` bits. Then

.. math:: c_l = \max(\lVert g_0 - g_1 \rVert^2,\; 2 \lVert g_0 - g_2 \rVert^2,\; 2 \lVert g_1 - g_2 \rVert^2)

(10^10 where that is not finite or larger), and the widths b_l of `widths` with the least sum of c_l / (2^(b_l) - 1)^2 under an average of `bits`
bits an element (`lpref.ref.analysis.bit_budget.descent`). A tensor is what a linear layer saves of its input by a quantizer of its own, or what
an operation saves (all its inputs together).

State: bits of every tensor, sensitivities; empty before the first probe, when the recipe's formats hold.
Source: arXiv 2206.11357, sec. 4; LiuXiaoxuanPKU/GACT-ICML gact/autoprec.py AutoPrecision.iterate. Source level: read.
Deviation: the source's widths go up to 32 bits; here up to 8. Formats are uint1, uint2, uint4, uint8.
Pitfalls: a probe of L tensors costs 3 L backward passes; the gradient of a probe is that of the coming step's batch and scaled loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lpref.ref.analysis.bit_budget import descent
from lpref.ref.errors import SpecError
from lpref.ref.recipes.controllers.base import NOTHING, Clock, Influence, Kind, Probe, Seen, State

LARGEST = 1e10
SAVED = "/save/x"


@dataclass(frozen=True)
class Sensitivity(Kind):
    """every: steps between probes.  bits: average of an element.  low, high: widths of the probes.  widths: what a tensor may get."""

    every: int = 1000
    bits: float = 4.0
    low: int = 1
    high: int = 8
    widths: tuple[int, ...] = (1, 2, 4, 8)

    def __post_init__(self) -> None:
        problems = [] if self.every >= 1 else [f"every: {self.every} is not a positive number of steps"]
        bad = [b for b in (*self.widths, self.low, self.high) if b not in (1, 2, 4, 8)]
        problems += [f"widths: {b} is none of 1, 2, 4, 8" for b in bad] or ([] if self.widths else ["widths: none"])
        if not problems and self.bits < min(self.widths):
            problems.append(f"bits: an average of {self.bits:g} is below the narrowest width, {min(self.widths)}")
        if problems:
            raise SpecError(problems)

    def problems(self, recipe: Any) -> Iterator[str]:
        linear = any(one.what == "codes" and one.quantizer is not None for one in recipe.linear.save.values())
        if not linear and all(one.saved is None for one in recipe.operations.values()):
            yield "kind: nothing is saved by a quantizer of its own, so no bits are to be given"

    def start(self, weights: Mapping[str, Any], ops: Any) -> dict[str, Any]:
        return {"bits": {}, "sensitivity": {}}

    def after(self, state: State, seen: Seen) -> tuple[State, Mapping[str, Any]]:
        return state, {}

    def probes(self, state: State, clock: Clock) -> bool:
        return clock.step % self.every == 0 and clock.pass_ == 0

    def probed(self, state: State, run: Any, ops: Any) -> State:
        """run.kinds: operation site -> its kind."""
        found = {key: self.measured(key, state["bits"], run, ops) for key in run.sizes}
        given = descent(list(found.values()), list(run.sizes.values()), self.bits * sum(run.sizes.values()), self.widths)
        kinds = {key: run.kinds.get(site_of(key), "") for key in found}
        named = {f"{kinds[key]}:{key}": b for key, b in zip(found, given, strict=True)}
        return {"bits": named, "sensitivity": found}

    def measured(self, key: str, bits: Mapping[str, int], run: Any, ops: Any) -> float:
        """c_l of the tensor at `key`."""
        name = f"{run.kinds.get(site_of(key), '')}:{key}"
        coarse, fine = (settings({**bits, name: b}) for b in (self.low, self.high))
        g0, g1, g2 = (run(one) for one in (coarse, replace(coarse, fresh=key), fine))

        def distance(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
            return float(ops.arrays.host(ops.global_norm([ops.sub(a[n], b[n]) for n in a]))[()]) ** 2

        c = max(distance(g0, g1), 2 * distance(g0, g2), 2 * distance(g1, g2))
        return c if math.isfinite(c) and c <= LARGEST else LARGEST

    def influence(self, state: State, clock: Clock) -> Influence:
        if not state["bits"]:
            return NOTHING
        made = settings(state["bits"])
        return Influence(layers=made.layers, operations=made.operations)


def site_of(key: str) -> str:
    """The site of a saved tensor.

    >>> site_of("h.0.attn.qkv/save/x"), site_of("h.0.norm1/saved")
    ('h.0.attn.qkv', 'h.0.norm1')
    """
    return key.partition("/")[0]


def settings(bits: Mapping[str, int]) -> Probe:
    """What ``kind:key`` -> bits changes: formats of layers' saved inputs and of what operations save.

    >>> settings({"norm:h.0.norm1/saved": 2, ":head/save/x": 4})
    Probe(layers={'head': {'save.x.quantizer.format': 'uint4'}}, operations={'norm:h.0.norm1': {'saved.format': 'uint2'}}, fresh='')
    """
    linear = {name: b for name, b in bits.items() if name.endswith(SAVED)}
    layers = {site_of(name[1:]): {"save.x.quantizer.format": f"uint{b}"} for name, b in linear.items()}
    operations = {site_of(name): {"saved.format": f"uint{b}"} for name, b in bits.items() if name not in linear}
    return Probe(layers, operations)
