"""Quantizer state: read-only within a step, changed once between steps by a pure function of what the step observed.

    delayed   {"scale": float32 encode scale, "history": float32 [window]}, see `lpref.ref.scaling.te`
    flexpoint {"scale": float32 kappa, "history": float32 [window], "length": int32}, see `lpref.ref.scaling.flexpoint`
    hindsight {"amax"} or {"low", "high"}, and {"seen": int32}, see `lpref.ref.scaling.hindsight`; clip: {"scale": float32 grid, "age"}
    overflow_rate {"scale", "count", "overflowed", "half", "age"}, see `lpref.ref.scaling.overflow_rate`
    learned   {"scale": float32 step}; gradients change it, not observations
    others    {}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from lpref.ref.formats import format as format_named
from lpref.ref.quantize.quantizer import Quantizer
from lpref.ref.quantize.registry import lookup
from lpref.ref.scaling import clip, flexpoint, hindsight, overflow_rate, te


def init_state(q: Quantizer | str) -> dict[str, Any]:
    """The state before the first step: scale 1 and an empty history for delayed scaling."""
    q = lookup(q) if isinstance(q, str) else q
    if q.scale.rule == "flexpoint":
        return flexpoint.initial(q.scale)
    if q.scale.rule == "overflow_rate":
        return overflow_rate.initial()
    if q.scale.history == "hindsight":
        return clip.initial() if q.scale.rule == "clip" else hindsight.initial(q.scale.rule)
    if q.scale.history == "delayed":
        return {"scale": np.float32(1), "history": np.zeros(q.scale.window, np.float32)}
    return {"scale": np.float32(q.scale.value)} if q.scale.learned else {}


def merge(observed: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Observations of micro-batches or ranks as one: the largest amax (NaN wins) and mantissa (`top`), the sums of the counts.

    >>> {k: float(v) for k, v in merge([{"amax": 2.0, "count": 4}, {"amax": 3.0, "count": 4}]).items()}
    {'amax': 3.0, 'count': 8.0}
    """
    merged: dict[str, Any] = {}
    for one in observed:
        for key in ("amax", "count", "overflowed", "underflowed", "top", "half"):
            if key in one:
                value = one[key]
                before = merged.get(key, np.float32(0) if key == "amax" else 0)
                if key == "amax":
                    merged[key] = np.maximum(before, np.float32(value))
                else:
                    merged[key] = max(before, int(value)) if key == "top" else before + int(value)
        for key, widest in (("low", np.minimum), ("high", np.maximum), ("clip", np.maximum), ("deviation", np.maximum)):
            if key in one:
                merged[key] = widest(merged[key], one[key]) if key in merged else one[key]
    return merged


def update_state(q: Quantizer | str, state: Mapping[str, Any] | None, observed: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The state after a step in which `observed` was seen; without observations nothing changes. None is the state before the first step.

    >>> from lpref.ref.quantize import quantize
    >>> q = lookup("fp8_tensor:history=delayed:window=16")
    >>> state = init_state(q)
    >>> state = update_state(q, state, [quantize(np.float32([[7, -1]]), q, state=state).observed])
    >>> float(state["scale"])
    64.0
    """
    q = lookup(q) if isinstance(q, str) else q
    state = init_state(q) if state is None else state
    seen = merge(observed)
    if q.scale.rule == "flexpoint" and "top" in seen:
        return flexpoint.update(q.scale, format_named(q.format).bits, state, seen["top"])
    if q.scale.rule == "overflow_rate" and "half" in seen:
        return overflow_rate.update(q.scale, _target(q), state, seen)
    if q.scale.history == "hindsight" and seen:
        return clip.update(state, seen) if q.scale.rule == "clip" else hindsight.update(q.scale, state, seen)
    if q.scale.rule != "te" or q.scale.history != "delayed" or "amax" not in seen:
        return dict(state)
    scale, history = te.update(q.scale, _target(q), np.float32(state["scale"]), np.asarray(state["history"], np.float32), seen["amax"])
    return {**state, "scale": scale, "history": history}


def phase(q: Quantizer, state: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a state chooses the operations that quantize a tensor, beside the numbers in them: whether a range is known, whether scales are
    searched, how many scales there are."""
    if q.scale.history != "hindsight":
        return ()
    return (clip.searches(q.scale, state), np.shape(state["scale"])) if q.scale.rule == "clip" else (hindsight.known(state),)


def _target(q: Quantizer) -> float:
    """The element value that the statistic is mapped to."""
    return q.scale.target if q.scale.target is not None else format_named(q.format).max


def settled(q: Quantizer | str, x: Any, limit: int = 32, made: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """The state of flexpoint after quantizing `x` again and again until its scale stands still: how a tensor is initialized.

    Each round starts from an empty history, so that only the present tensor speaks; at most `limit` rounds (a scale moves by at least the
    headroom a round, and has 32 values). made: x quantized under a state, where the definition's `quantize` does not read it.

    >>> import numpy as np
    >>> float(settled("flexpoint16", np.full((4, 4), 0.3, np.float32))["scale"])
    3.0517578125e-05
    """
    from lpref.ref.quantize.quantize import quantize

    q = lookup(q) if isinstance(q, str) else q
    made = made or (lambda now: quantize(x, q, state=now))
    state = init_state(q)
    for _ in range(limit):
        after = update_state(q, {**init_state(q), "scale": state["scale"]}, [made(state).observed])
        if after["scale"] == state["scale"]:
            return after
        state = after
    return state
