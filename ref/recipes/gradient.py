"""The gradient rule of a forward slot at work: what it keeps of the forward pass, and what it makes of the gradient that comes back.

The rules are the pages of `lpref.ref.recipes.gradients`. Here they meet the tensors: the slot's tensor in the slot's basis (after its
transforms), the operand that it became, and the blocks that share a learned parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.elements import value_range
from lpref.ref.recipes.gemm import TENSORS
from lpref.ref.recipes.gradients import RULES, GradientRule, Seen
from lpref.ref.recipes.gradients.rule import Kept
from lpref.ref.recipes.shared import SharedBlocks

__all__ = ["LocalGradient", "levels", "local_gradient"]


@dataclass(frozen=True)
class LocalGradient:
    """A rule with what it kept of one forward pass. `names`: what it learns -> the parameter of the layer."""

    rule: GradientRule
    kept: Kept
    names: Mapping[str, str]
    shared: SharedBlocks
    factor: float = 1.0

    def pull(self, g: Any, ops: Any) -> tuple[Any, dict[str, Any]]:
        """(dv, gradients of the learned parameters by name) of g, in the basis of the slot."""
        found = {}
        for name, parameter in self.names.items():
            total = self.shared.sum(self.rule.learned[name](g, self.kept, ops))
            found[parameter] = total if self.factor == 1.0 else ops.mul(total, g.dtype.type(self.factor))
        return self.rule.vjp_x(g, self.kept, ops), found


@cache
def levels(q: Quantizer) -> tuple[float, ...]:
    """Every element value of a quantizer of at most 8 bits, ascending; of a wider one, its two ends.

    >>> levels(Quantizer("int2"))
    (-1.0, 0.0, 1.0)
    """
    form = format_named(q.format)
    low, high = value_range(q, form)
    if form.bits > 8:
        return low, high
    values = {float(v) for v in form.decode(range(2**form.bits))}
    return tuple(sorted(v + 0.0 for v in values if low <= v <= high))


def learned_names(q: Quantizer) -> tuple[str, ...]:
    """What the quantizer learns: the parameters of its rule, where its scale is learned."""
    return tuple(RULES[q.gradient.kind].learned) if q.scale.learned else ()


def parameter_name(q: Quantizer, tensor: str, name: str) -> str:
    """The name of a learned parameter in its layer: ``x_step``, or ``x_step@LABEL`` where the quantizer has a label."""
    label = q.gradient.params.get("label", "")
    return f"{tensor}_{name}@{label}" if label else f"{tensor}_{name}"


def local_gradient(layer: Any, path: str, tensor: Any, quantized: Any) -> LocalGradient:
    """The rule of the forward slot `path` on `tensor`, in the basis of that slot; `quantized` is what the quantizer made of it."""
    q: Quantizer = layer.recipe.slot(path).quantizer
    name, ops, rule = TENSORS[path], layer.ops, RULES[q.gradient.kind]
    v = layer.plain(path, tensor)
    lowest, largest = (v.dtype.type(bound) for bound in value_range(q, format_named(q.format)))
    shared = SharedBlocks.of(q, v.shape, ops)
    scales = ops.mul(quantized.scale_values().astype(v.dtype), quantized.tensor_scale.astype(v.dtype))
    s = scales if scales.shape == (1, 1) else shared.spread(scales)
    seen = Seen(v, quantized, s, lowest, largest, levels(q), rule.settings(q), q, ops)
    factor = 1.0 if rule.factor is None else rule.factor(q, name, tensor.shape)
    names = {one: parameter_name(q, name, one) for one in learned_names(q)}
    return LocalGradient(rule, rule.keep(seen), names, shared, factor)
