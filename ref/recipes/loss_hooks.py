r"""Terms of the training loss beside the labels' cross entropy, by kind. Evaluation keeps the labels' loss alone.

    distill       weight * D(teacher, student), and hard * cross entropy of the labels
                  D = soft: mean over tokens of -sum p_t log p_s, the teacher's full soft labels (LLM-QAT)
                      cakld: beta KL(student || teacher) + (1 - beta) KL(teacher || student), means over tokens (BitDistiller)
    weight_error  weight * sum over layers of mean (W - W^)^2, W^ = Q(W) a constant: pulls weights to their grid, or keeps W^ near W
                  (of the layers whose weight slot has a quantizer)

`teacher: self` is the model itself at this step without its recipe, in float32, and no gradient goes through it: a teacher that any run has.
`teacher: first` is the model as it was before its first step.

Source: LLM-QAT, arXiv 2305.17888; BitDistiller, arXiv 2402.10631, eq. 5; DD-DuDa/BitDistiller train/mytrainer.py, cakld_loss.
Source level: read (the code).
Deviation: BitDistiller adds its divergence over the tokens of a sequence and averages over sequences; here it is a mean over tokens, as the
labels' loss is, so that `weight` does not depend on the length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from lpref.ref.errors import nearest


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
        for name, known in (("loss", ("soft", "cakld")), ("teacher", ("self", "first"))):
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

    def problems(self) -> Iterator[str]:
        """What is wrong with the parameters."""
        if not self.weight > 0:
            yield f"weight: {self.weight!r} is not a positive number"


HOOKS: dict[str, type[Distill] | type[WeightError]] = {"distill": Distill, "weight_error": WeightError}


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
    if sum(hook.kind == "distill" for hook in hooks) > 1:
        yield "loss_hooks: distill stands twice; a student has one teacher"


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
