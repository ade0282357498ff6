"""Residual blocks at a precision that a gate picks for each sample: `lpref.ref.recipes.gate`, written in tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.autodiff.tensor import make
from lpref.models.parameters import ParameterSpec
from lpref.ref.errors import SpecError
from lpref.ref.recipes import Context, LinearRecipe
from lpref.ref.recipes.candidates import candidate_layers, candidates_of, prices
from lpref.ref.recipes.gate import Gate


@dataclass
class Gating:
    """The gate of the recipe in force.

    layers   of each candidate: site -> linear recipe
    price    of each candidate: forward, error and weight gradient over float32's
    h, c     the state of the LSTM behind the last block that ran
    masks    what it picked in the last forward pass, [B, K] a block
    """

    gate: Gate
    layers: Sequence[Mapping[str, LinearRecipe]]
    price: Sequence[tuple[float, float, float]]
    h: Tensor | None = None
    c: Tensor | None = None
    masks: list[Tensor] = field(default_factory=list)


def gating_of(model: Any, recipe: Any, layers: Mapping[str, LinearRecipe]) -> Gating | None:
    """The gate of a recipe on a model; None where the recipe has none. Raises SpecError for a model without residual blocks."""
    if recipe.gate is None:
        return None
    if not model.gated_blocks():
        raise SpecError([f"gate: it picks precisions of residual blocks, which the {model.kind} model does not have"], where=f"recipe {recipe.name}")
    return Gating(recipe.gate, candidate_layers(recipe.gate, recipe, layers), [prices(one) for one in candidates_of(recipe.gate, recipe.linear)])


def gate_parameters(model: Any) -> list[ParameterSpec]:
    """The parameters of the gate of a model; none without a gate."""
    if model.gating is None:
        return []
    shapes = model.gating.gate.shapes(model.gated_blocks())
    return [ParameterSpec(name, shape, "gate" if len(shape) == 2 else "bias", std) for name, shape, std in shapes]


def gated(model: Any, name: str, pooled: Tensor, ctx: Context, block: Callable[[Context], Tensor]) -> Tensor:
    """The block `name` (the first begins a new pass), each sample at the precision that the gate picks from `pooled` [B, C].

    block(context) runs the block, samples along the first axis of its result, possibly several rows each.
    """
    gating: Gating = model.gating
    if name == next(iter(model.gated_blocks())):
        gating.h, gating.c, gating.masks = None, None, []
    mask = choice(model, name, pooled)
    gating.masks.append(mask)
    made = [candidate(model, k, ctx, block) for k in range(gating.gate.candidates)]
    rows = [one.reshape(mask.shape[0], -1) * mask[:, k : k + 1] for k, one in enumerate(made)]
    return sum(rows[1:], rows[0]).reshape(*made[0].shape)


def candidate(model: Any, k: int, ctx: Context, block: Callable[[Context], Tensor]) -> Tensor:
    """The block under the layers and the random words of candidate k; only the first is observed."""
    at = replace(ctx, pass_=ctx.pass_ * model.gating.gate.candidates + k)
    kept, model.recipes = model.recipes, model.gating.layers[k]
    try:
        return block(replace(at, observed={}, collect=False) if k else at)
    finally:
        model.recipes = kept


def choice(model: Any, name: str, pooled: Tensor) -> Tensor:
    """m [B, K]: 1 at the first largest p, 0 elsewhere; its gradient is p's."""
    p = F.softmax(scores(model, name, pooled))
    host = (lambda x: x) if model.backend is None else model.backend.arrays.host
    hard = np.zeros(p.shape, p.dtype)
    hard[np.arange(p.shape[0]), np.argmax(host(p.data), axis=1)] = 1
    return make(model.array(hard), model.backend) + (p - p.detach())  # the difference is 0, its gradient is p's


def scores(model: Any, name: str, pooled: Tensor) -> Tensor:
    """h W_p^T + b_p [B, K] behind the LSTM's step on the block's pooled input, whose state it takes and leaves in the model's gating."""
    gating, size = model.gating, model.gating.gate.hidden
    u = dense(model, f"{name}.embedding", F.relu(dense(model, f"{name}.features", pooled)))
    if gating.h is None:
        zeros = make(model.array(np.zeros((pooled.shape[0], size), pooled.dtype)), model.backend)
        gating.h = gating.c = zeros
    z = dense(model, "lstm", u, "_ih") + dense(model, "lstm", gating.h, "_hh")
    i, f, g, o = (z[:, n * size : (n + 1) * size] for n in range(4))
    gating.c = F.sigmoid(f) * gating.c + F.sigmoid(i) * F.tanh(g)
    gating.h = F.sigmoid(o) * F.tanh(gating.c)
    return dense(model, "proj", gating.h)


def dense(model: Any, name: str, x: Tensor, of: str = "") -> Tensor:
    """x W^T + b with the parameters of that name, unquantized."""
    return F.linear(x, model.params[f"gate.{name}.weight{of}"], bias=model.params[f"gate.{name}.bias{of}"])


def bit_cost(model: Any, target: float, relax: float) -> Tensor | None:
    """reg times the mean price of a sample, see `lpref.ref.recipes.loss_hooks`; None without a gate."""
    if model.gating is None or not model.gating.masks:
        return None
    own = np.asarray([sum(one) for one in model.gating.price], np.float32)
    price = make(model.array(own), model.backend)
    terms = [F.sum(F.mean(mask, axis=0) * price) for mask in model.gating.masks]
    total: Tensor = sum(terms[1:], terms[0])
    return total * pull(100 * float(total.item()) / (3 * len(terms)), target, relax)


def pull(percent: float, target: float, relax: float) -> float:
    """reg: the sign of the price, weak within `relax` of the target.

    >>> [pull(percent, 3.0, 0.5) for percent in (2.0, 2.5, 3.0, 3.5)]
    [-1.0, -0.1, 0.1, 1.0]
    """
    if percent < target - relax:
        return -1.0
    if percent >= target + relax:
        return 1.0
    return 0.1 if percent >= target else -0.1
