"""The training loss of a recipe with loss hooks: `lpref.ref.recipes.loss_hooks`, written in tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lpref.autodiff import Tensor, no_grad
from lpref.autodiff import functional as F
from lpref.autodiff.tensor import make
from lpref.models.experts import balance
from lpref.models.gating import bit_cost
from lpref.models.residual import Stream, summed
from lpref.ref import random
from lpref.ref.errors import SpecError
from lpref.ref.nn.integer_loss import integer_gradient
from lpref.ref.recipes.loss_hooks import BitCost, BlockOutput, Distill, IntegerLoss, LoadBalance, WeightError, hook_of


def training_loss(model: Any, batch: Any, ctx: Any) -> Tensor:
    """The labels' mean cross entropy, or what the recipe's hooks make of it."""
    if not model.hooks:
        return model.loss(batch, ctx)  # type: ignore[no-any-return]
    hooks = [hook_of(hook) for hook in model.hooks]
    loss = instead_of_labels(model, batch, ctx, hooks)
    for hook in hooks:
        if isinstance(hook, WeightError) and hook.weight:
            loss = loss + weight_error(model, ctx, active_block(hooks)) * hook.weight
        if isinstance(hook, LoadBalance) and (term := balance(model)) is not None:
            loss = loss + term * hook.weight
        if isinstance(hook, BitCost) and hook.weight and (price := bit_cost(model, hook.target, hook.relax)) is not None:
            loss = loss + price * hook.weight
    return loss


def instead_of_labels(model: Any, batch: Any, ctx: Any, hooks: list[Any]) -> Tensor:
    """The labels' mean cross entropy, or what a hook has in its place."""
    for hook in hooks:
        if isinstance(hook, Distill):
            return distilled(model, batch, ctx, hook)
        if isinstance(hook, BlockOutput) and hook.block >= 0:
            return block_output(model, batch, ctx, hook)
        if isinstance(hook, IntegerLoss):
            return integer_loss(model, batch, ctx)
    return model.loss(batch, ctx)  # type: ignore[no-any-return]


def integer_loss(model: Any, batch: Any, ctx: Any) -> Tensor:
    """The labels' mean cross entropy; the gradient of the logits is `integer_gradient`'s."""
    logits = model.logits(batch.inputs, ctx)
    targets = batch.targets.reshape(-1)
    rows = (logits.data if model.backend is None else model.backend.arrays.host(logits.data)).reshape(targets.size, -1)
    address = ctx.at("loss").words("integer", "rounding")
    words = random.words(address.seed, address.stream, address.step, ctx.micro * rows.size, rows.size).reshape(rows.shape)
    g = make(model.array(integer_gradient(rows, targets, words).reshape(logits.shape)), model.backend)
    with no_grad():
        value = F.softmax_cross_entropy(logits, batch.targets).detach()
    return value + F.sum((logits - logits.detach()) * g)  # the sum is 0, its gradient is g


def distilled(model: Any, batch: Any, ctx: Any, hook: Distill) -> Tensor:
    """weight * D + hard * cross entropy."""
    teacher = teacher_logits(model, batch, ctx, hook.teacher)
    student = model.logits(batch.inputs, ctx)
    loss = (soft if hook.loss == "soft" else lambda t, s: cakld(t, s, hook.beta))(teacher, student) * hook.weight
    return loss + F.softmax_cross_entropy(student, batch.targets) * hook.hard if hook.hard else loss


def teacher_logits(model: Any, batch: Any, ctx: Any, teacher: str) -> Tensor:
    """The outputs of the model in float32, with the weights of now or those before the first step; a constant."""
    with as_teacher(model, teacher), no_grad():
        return model.logits(batch.inputs, ctx).detach()  # type: ignore[no-any-return]


@contextmanager
def as_teacher(model: Any, teacher: str) -> Iterator[None]:
    """The model without its recipe, with the weights of now or those before the first step."""
    kept = model.recipes, model.operations, model.params
    first: Mapping[str, Tensor] = {name: make(array, model.backend) for name, array in model.first.items()} if teacher == "first" else {}
    try:
        model.recipes, model.operations, model.params = None, {}, {**model.params, **first}
        yield
    finally:
        model.recipes, model.operations, model.params = kept


def block_output(model: Any, batch: Any, ctx: Any, hook: BlockOutput) -> Tensor:
    """weight * mean (f(z) - f_t(z_t))^2 of the block `hook.block`."""
    if not hasattr(model, "stream") or hook.block >= model.cfg.layers:
        blocks = model.cfg.layers if hasattr(model, "stream") else "no"
        raise SpecError([f"loss_hooks: block_output of block {hook.block}, the {model.kind} model has {blocks} blocks"])
    with as_teacher(model, hook.teacher), no_grad():
        target = summed(up_to(model, batch, ctx, hook.block + 1)[0])
    with no_grad():
        x, block = up_to(model, batch, ctx, hook.block)
        before = summed(x).detach()
    error = summed(block(hook.block, before)) - target.detach()
    return F.mean(error * error) * hook.weight


def up_to(model: Any, batch: Any, ctx: Any, blocks: int) -> tuple[Stream, Any]:
    """(the residual stream behind that many blocks, the function of a block)."""
    x, block = model.stream(batch.inputs, ctx)
    for i in range(blocks):
        x = block(i, x)
    return x, block


def active_block(hooks: list[Any]) -> int:
    """The block whose output is the loss; negative: none."""
    return next((hook.block for hook in hooks if isinstance(hook, BlockOutput)), -1)


def outside_block(model: Any) -> dict[str, float]:
    """Rate 0 for all parameters outside the block whose output is the loss."""
    if not any(hook.kind == "block_output" for hook in model.hooks):
        return {}
    block = active_block([hook_of(hook) for hook in model.hooks])
    return {name: 0.0 for name in model.params if block >= 0 and not in_block(name, block)}


def in_block(name: str, block: int) -> bool:
    """Whether a parameter or a site is of that block.

    >>> in_block("h.1.attn.qkv.weight", 1), in_block("h.10.attn.qkv", 1)
    (True, False)
    """
    found = re.match(r"h\.(\d+)\.", name)
    return found is not None and int(found[1]) == block


def soft(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean over tokens of -sum p_t log p_s."""
    return -F.mean(F.sum(F.softmax(teacher).detach() * F.log_softmax(student), axis=-1))


def cakld(teacher: Tensor, student: Tensor, beta: float) -> Tensor:
    """Mean over tokens of beta KL(student || teacher) + (1 - beta) KL(teacher || student)."""
    log_s, log_t = F.log_softmax(student), F.log_softmax(teacher).detach()
    p_s, p_t = F.exp(log_s), F.exp(log_t).detach()
    back = F.sum(p_s * (log_s - log_t), axis=-1)
    forth = F.sum(p_t * (log_t - log_s), axis=-1)
    return F.mean(back * beta + forth * (1.0 - beta))


def weight_error(model: Any, ctx: Any, block: int = -1) -> Tensor:
    """Sum over the layers with a weight quantizer (of one block, where that is given) of mean S (W - Q(W))^2."""
    total = None
    for site, recipe in (model.recipes or {}).items():
        if recipe.fprop.b.quantizer is None or (block >= 0 and not in_block(site, block)):
            continue
        weight = model.params[model.sites[site].parameter]
        error = weight - model.quantized_weight(site, ctx)
        squared = error * error
        term = F.mean(squared * make(model.saliency[site], model.backend) if site in model.saliency else squared)
        total = term if total is None else total + term
    return F.mean(F.zeros_like(next(iter(model.params.values())))) if total is None else total


def saliency(model: Any, batch: Any, ctx: Any) -> dict[str, Any]:
    """Site -> S of every quantized weight, where a loss hook asks for it: see `lpref.ref.recipes.loss_hooks`."""
    kinds = [hook.saliency for hook in map(hook_of, model.hooks) if isinstance(hook, WeightError) and hook.saliency != "none"]
    if not kinds:
        return {}
    quantized = [site for site, recipe in model.recipes.items() if recipe.fprop.b.quantizer is not None]
    with as_teacher(model, "self"):
        model.loss(batch, ctx).backward()
    found = {site: make(model.params[model.sites[site].parameter].grad, model.backend) for site in quantized}
    for tensor in model.params.values():
        tensor.grad = None
    sizes = {site: F.abs(g) if kinds[0] == "absolute" else g * g for site, g in found.items()}
    return {site: (size / F.mean(size)).data for site, size in sizes.items()}
