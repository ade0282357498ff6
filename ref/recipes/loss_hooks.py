r"""Terms of the training loss beside the labels' cross entropy, by kind. Evaluation keeps the labels' loss alone.

    distill       weight * D(teacher, student), and hard * cross entropy of the labels
                  D = soft: mean over tokens of -sum p_t log p_s, the teacher's full soft labels (LLM-QAT)
                      cakld: beta KL(student || teacher) + (1 - beta) KL(teacher || student), means over tokens (BitDistiller)
    weight_error  weight * sum over layers of mean S (W - W^)^2, W^ = Q(W) a constant: pulls weights to their grid, or keeps W^ near W
                  (of the layers whose weight slot has a quantizer). The saliency S of a weight is 1 (none), |g| / mean |g| (absolute) or
                  g^2 / mean g^2 (squared) of its layer, g the gradient of the labels' loss in float32 at the first weights and the first batch
    block_output  of the block with number `block`: weight * mean (f(z) - f_t(z_t))^2 instead of the labels' loss. f is the block under the recipe,
                  z what the quantized blocks before it make (a constant), f_t and z_t the same of the teacher. Nothing outside the block is
                  trained. A negative number: the labels' loss. The controller `block_wise` counts the blocks through.

    integer_loss  the labels' cross entropy, with the gradient that NITI has in integers (`lpref.ref.nn.integer_loss`) in place of its own
    load_balance  weight * the balance of the routers of the forward pass (`lpref.models.experts`); nothing for a model without experts
    bit_cost      weight * reg * C, C the mean over the samples of the sum over blocks of the price c_k that the gate picked
                  (`lpref.ref.recipes.gate`): its gradient goes to the gate, and through what that reads to the net. With P = 100 C / (3 blocks), the
                  percentage of float32's bit operations, reg is -1 for P < target - relax, 1 for P >= target + relax, and between them 0.1 from
                  target on, -0.1 below it

`teacher: self` is the model itself at this step without its recipe, in float32, and no gradient goes through it: a teacher that any run has.
`teacher: first` is the model as it was before its first step.

Source: LLM-QAT, arXiv 2305.17888; BitDistiller, arXiv 2402.10631, eq. 5; DD-DuDa/BitDistiller train/mytrainer.py, cakld_loss; EfficientQAT, arXiv
2407.11062, sec. 3.2; OpenGVLab/EfficientQAT quantize/block_ap.py, block_ap (block_output). Source level: read (the code).
Secondary: ULB-SAPR, arXiv 2504.13932 (saliency; its scale is ours, so that `weight` means the same for every kind).
bit_cost: RICE-EIC/FracTrain dc4fa5b fractrain_cifar/train_dfq.py, lines 355-411 (read).
Deviation: BitDistiller adds its divergence over the tokens of a sequence and averages over sequences; here it is a mean over tokens, as the
labels' loss is, so that `weight` does not depend on the length. FracTrain adds prices over the 128 samples of a batch and multiplies by
beta = 1e-3: a weight of 0.128 of their mean. P is of a micro-batch, there of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from lpref.ref.errors import nearest

TEACHERS = ("self", "first")
SALIENCIES = ("none", "absolute", "squared")


@dataclass(frozen=True)
class Distill:
    """A teacher's outputs as targets."""

    loss: str = "soft"
    beta: float = 0.5
    weight: float = 1.0
    hard: float = 0.0
    teacher: str = "self"

    def problems(self) -> Iterator[str]:
        """What is wrong with the parameters."""
        for name, known in (("loss", ("soft", "cakld")), ("teacher", TEACHERS)):
            if getattr(self, name) not in known:
                yield f"{name}: {getattr(self, name)!r} is not one of {', '.join(known)}"
        if not 0 <= self.beta <= 1:
            yield f"beta: {self.beta!r} is not between 0 and 1"
        if not (self.weight > 0 and self.hard >= 0):
            yield f"weight: {self.weight!r} and hard {self.hard!r}; a distillation has a positive weight and hard >= 0"


@dataclass(frozen=True)
class WeightError:
    """The squared error of the quantized weights."""

    weight: float = 1.0
    saliency: str = "none"

    def problems(self) -> Iterator[str]:
        """What is wrong with the parameters."""
        if not self.weight >= 0:
            yield f"weight: {self.weight!r} is not a number >= 0"
        if self.saliency not in SALIENCIES:
            yield f"saliency: {self.saliency!r} is not one of {', '.join(SALIENCIES)}"


@dataclass(frozen=True)
class BlockOutput:
    """The squared error of one block's output."""

    weight: float = 1.0
    block: int = -1
    teacher: str = "first"

    def problems(self) -> Iterator[str]:
        """What is wrong with the parameters."""
        if not self.weight > 0:
            yield f"weight: {self.weight!r} is not a positive number"
        if not isinstance(self.block, int):
            yield f"block: {self.block!r} is not a whole number"
        if self.teacher not in TEACHERS:
            yield f"teacher: {self.teacher!r} is not one of {', '.join(TEACHERS)}"


@dataclass(frozen=True)
class IntegerLoss:
    """NITI's gradient of the labels' loss."""

    def problems(self) -> Iterator[str]:
        """What is wrong with the parameters."""
        yield from ()


@dataclass(frozen=True)
class LoadBalance:
    """Even loads of experts."""

    weight: float = 0.01

    def problems(self) -> Iterator[str]:
        """What is wrong with the parameters."""
        if not self.weight > 0:
            yield f"weight: {self.weight!r} is not a positive number"


@dataclass(frozen=True)
class BitCost:
    """The price of the bits that a gate picks, in the loss."""

    weight: float = 0.128
    target: float = 3.0
    relax: float = 0.0

    def problems(self) -> Iterator[str]:
        """What is wrong with the parameters."""
        if not self.weight >= 0:
            yield f"weight: {self.weight!r} is not a number >= 0"
        if not (0 <= self.target <= 100 and self.relax >= 0):
            yield f"target: {self.target!r} and relax {self.relax!r}; a percentage, and a number >= 0"


HOOKS: dict[str, type[Distill | WeightError | BlockOutput | IntegerLoss | LoadBalance | BitCost]] = {
    "distill": Distill, "weight_error": WeightError, "block_output": BlockOutput, "integer_loss": IntegerLoss, "load_balance": LoadBalance,
    "bit_cost": BitCost,
}  # fmt: skip


def hook_of(hook: Any) -> Any:
    """The kind of a `LossHook` with its parameters, which `hook_problems` found sound."""
    return HOOKS[hook.kind](**hook.parameters)


def hook_problems(hooks: Any) -> Iterator[str]:
    """V14: loss hooks are known, and so are their parameters; at most one replaces the labels' loss."""
    for index, hook in enumerate(hooks):
        where = f"loss_hooks.{index}"
        if hook.kind not in HOOKS:
            near = nearest(hook.kind, HOOKS)
            yield f"{where}.kind: no hook {hook.kind!r}; {f'did you mean {near[0]!r}?' if near else 'known: ' + ', '.join(HOOKS)}"
            continue
        yield from (f"{where}.parameters.{problem}" for problem in _parameters(HOOKS[hook.kind], hook.parameters))
    if sum(hook.kind in ("distill", "block_output", "integer_loss") for hook in hooks) > 1:
        yield "loss_hooks: distill, block_output and integer_loss each replace the labels' loss; one of them stands there, and once"


def _parameters(kind: Any, given: Mapping[str, Any]) -> Iterator[str]:
    known = {f.name: type(f.default) for f in fields(kind)}
    for name, value in given.items():
        if name not in known:
            yield f"{name}: no such parameter; known: {', '.join(known)}"
            return
        fits = isinstance(value, str) if known[name] is str else isinstance(value, (int, float)) and not isinstance(value, bool)
        if not fits:
            yield f"{name}: expected {'text' if known[name] is str else 'a number'}, got {value!r}"
            return
    yield from kind(**given).problems()
