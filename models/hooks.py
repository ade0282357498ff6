"""The training loss of a recipe with loss hooks: `lpref.ref.recipes.loss_hooks`, written in tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lpref.autodiff import Tensor, no_grad
from lpref.autodiff import functional as F
from lpref.autodiff.tensor import make
from lpref.ref.recipes.loss_hooks import Distill, hook_of


def training_loss(model: Any, batch: Any, ctx: Any) -> Tensor:
    """The labels' mean cross entropy, or what the recipe's hooks make of it."""
    if not model.hooks:
        return model.loss(batch, ctx)  # type: ignore[no-any-return]
    hooks = [hook_of(hook) for hook in model.hooks]
    distill = next((hook for hook in hooks if isinstance(hook, Distill)), None)
    loss = model.loss(batch, ctx) if distill is None else distilled(model, batch, ctx, distill)
    for hook in hooks:
        if not isinstance(hook, Distill):
            loss = loss + weight_error(model, ctx) * hook.weight
    return loss


def distilled(model: Any, batch: Any, ctx: Any, hook: Distill) -> Tensor:
    """weight * D + hard * cross entropy."""
    teacher = teacher_logits(model, batch, ctx, hook.teacher)
    student = model.logits(batch.inputs, ctx)
    loss = (soft if hook.loss == "soft" else lambda t, s: cakld(t, s, hook.beta))(teacher, student) * hook.weight
    return loss + F.softmax_cross_entropy(student, batch.targets) * hook.hard if hook.hard else loss


def teacher_logits(model: Any, batch: Any, ctx: Any, teacher: str) -> Tensor:
    """The outputs of the model in float32, with the weights of now or those before the first step; a constant."""
    kept = model.recipes, model.operations, model.params
    first: Mapping[str, Tensor] = {name: make(array, model.backend) for name, array in model.first.items()} if teacher == "first" else {}
    try:
        model.recipes, model.operations, model.params = None, {}, {**model.params, **first}
        with no_grad():
            return model.logits(batch.inputs, ctx).detach()  # type: ignore[no-any-return]
    finally:
        model.recipes, model.operations, model.params = kept


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


def weight_error(model: Any, ctx: Any) -> Tensor:
    """Sum over the layers with a weight quantizer of mean (W - Q(W))^2."""
    total = None
    for site, recipe in (model.recipes or {}).items():
        if recipe.fprop.b.quantizer is None:
            continue
        weight = model.params[model.sites[site].parameter]
        error = weight - model.quantized_weight(site, ctx)
        term = F.mean(error * error)
        total = term if total is None else total + term
    return F.mean(F.zeros_like(next(iter(model.params.values())))) if total is None else total
