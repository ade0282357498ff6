r"""The threshold of a fallback split, from step to step.

A block of the split operand falls back where its amax is above theta. Without `band`, theta is the split's `threshold` for ever. With a band
(low, high), every layer has a theta of its own; a step reads it, and after the step, n blocks seen of which m fell back,

    theta <- theta c      where m > high n
    theta <- theta / c    where m < low n          c = `step`; float32

so that the share of blocks that fall back drifts into the band. The place of this state is ``site/gemm/slot/threshold``.

Source: arXiv 2503.08040 (a threshold by layer that keeps the fallback rate in a band; abstract); band and factor from memory.
Source level: secondary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lpref.ref.recipes.gemm import Split


def first_threshold(split: Split) -> dict[str, Any]:
    """The state before the first step; empty for a threshold that stays."""
    return {"threshold": np.float32(split.threshold)} if split.band else {}


def next_threshold(split: Split, state: Mapping[str, Any], observed: Iterable[Mapping[str, int]]) -> dict[str, Any]:
    """The state after a step in whose micro-batches these blocks were seen and fell back; without any nothing changes.

    >>> s = Split("fallback", ("q", "r"), band=(0.1, 0.3), step=2.0, threshold=1.0)
    >>> float(next_threshold(s, first_threshold(s), [{"blocks": 10, "fallen": 4}])["threshold"])
    2.0
    """
    seen = list(observed)
    blocks, fallen = (sum(int(one[name]) for one in seen) for name in ("blocks", "fallen"))
    if not blocks or not split.band:
        return dict(state)
    low, high = split.band
    theta, factor = np.float32(state["threshold"]), np.float32(split.step)
    if fallen > high * blocks:
        return {"threshold": np.float32(theta * factor)}
    return {"threshold": np.float32(theta / factor) if fallen < low * blocks else theta}
