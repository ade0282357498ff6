r"""`GradientRule`: what takes the place of the derivative of a quantizer, as a value; `Seen`: what such a rule may look at.

A quantizer maps v to $\hat v = s\,Q(v / s)$, Q the rounding to element values. For an upstream gradient $g = \partial L / \partial \hat v$ a rule
gives dv, and one gradient per learned parameter of the quantizer. Both are taken in the basis in which v was quantized, so a rule
stands in an epilogue before the rotation back (`lpref.ref.recipes.validate`, V2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from lpref.ref.quantize import Quantizer

Kept = Mapping[str, Any]
Pull = Callable[[Any, Kept, Any], Any]


@dataclass(frozen=True)
class Seen:
    """A quantized tensor as its rule sees it. Arrays are the backend's, [R, C], in the basis of the slot.

    v            what was quantized (an offset subtracted)
    quantized    the operand that it became
    s            block scale times tensor scale, spread over the elements (or [1, 1])
    lowest, largest   Qn and Qp, the smallest and largest element values, scalars of v's dtype
    levels       every element value, ascending
    params       the rule's settings, defaults filled in
    """

    v: Any
    quantized: Any
    s: Any
    lowest: Any
    largest: Any
    levels: tuple[float, ...]
    params: Mapping[str, Any]
    q: Quantizer
    ops: Any

    @cached_property
    def ratio(self) -> Any:
        """v / s, rounded to v's dtype."""
        return self.ops.div(self.v, self.s)

    def number(self, value: float) -> Any:
        """A constant in v's dtype."""
        return self.v.dtype.type(value)


def everything_passes(seen: Seen) -> Kept:
    """Nothing has to be kept."""
    return {}


def given_step(learned: Mapping[str, Any], q: Quantizer, ops: Any) -> Mapping[str, Any]:
    """The learned step is the scale."""
    return {"scale": learned["step"]}


def no_problems(params: Mapping[str, Any]) -> list[str]:
    """Settings without a range."""
    return []


@dataclass(frozen=True)
class GradientRule:
    """A gradient rule.

    keep       forward: what the backward pass needs
    vjp_x      (g, kept, ops) -> dv
    surrogate  the function of v / s whose derivative `vjp_x` multiplies by: (u, levels, params) in float64; None where g decides
    learned    learned parameter -> (g, kept, ops) -> each element's part of its gradient; parts are added over the parameter's block and
               multiplied by `factor`. Names: step (the scale), offset (subtracted from v, added to the result), zero, alpha
    first      learned parameter -> (v, q, the `lpref.ref.recipes.shared.SharedBlocks` of its blocks) -> its first value
    state      learned parameters of a slot -> the quantizer's state
    factor     (q, tensor, shape) -> what the summed gradients are multiplied by
    defaults   the settings (``gradient.params``) and their defaults
    problems   settings -> what is wrong with them
    """

    vjp_x: Pull
    surrogate: Callable[[np.ndarray, tuple[float, ...], Mapping[str, Any]], np.ndarray] | None
    keep: Callable[[Seen], Kept] = everything_passes
    learned: Mapping[str, Pull] = field(default_factory=dict)
    first: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    state: Callable[[Mapping[str, Any], Quantizer, Any], Mapping[str, Any]] = given_step
    factor: Callable[[Quantizer, str, tuple[int, ...]], float] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    problems: Callable[[Mapping[str, Any]], list[str]] = no_problems

    def settings(self, q: Quantizer) -> dict[str, Any]:
        """The rule's settings for a quantizer, defaults filled in. What learns may have a `label`: its parameters' own name."""
        return {**self.defaults, **q.gradient.params}


def passes(g: Any, kept: Kept, ops: Any) -> Any:
    """dv = g where `inside`, +0 elsewhere (whatever stood there)."""
    return ops.where(kept["inside"], g, g.dtype.type(0))


def multiplied(g: Any, kept: Kept, ops: Any) -> Any:
    """dv = g times the local slope."""
    return ops.mul(g, kept["slope"])
