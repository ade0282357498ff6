"""From a spec to its model: first weights, those of another run where it starts from one, what is learned or measured before the first step."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from lpref.ref.errors import CheckpointError, DataError, SpecError
from lpref.ref.recipes.change import in_force
from lpref.ref.recipes.learned import is_learned
from lpref.trainer import checkpoint as checkpoints
from lpref.trainer.data.batches import Batch, check_length, train_batch
from lpref.trainer.data.types import Data, TokenData
from lpref.trainer.quantizers import places_of
from lpref.trainer.spec import TrainSpec


def build_model(spec: TrainSpec, recipe: Any, backend: Any, data: Data) -> Any:
    """The model with its first weights, and with the learned quantizer parameters that the first batch gives it."""
    from lpref.autodiff import no_grad
    from lpref.models import build
    from lpref.models.hooks import saliency
    from lpref.ref.recipes import Context
    from lpref.ref.recipes.loss_hooks import hook_of

    check_data(spec, data)
    model = build(spec.model, recipe, spec.train.seed, backend)
    if recipe.schedule:
        model.use(recipe.at(0, spec.train.steps, 0))
    check_memory(spec, model)
    model.origin = begin_with(spec, model)
    layers = model.recipes
    for once in {repr(one): one for one in moments(recipe, spec.train.steps)}.values():
        model.use(once)
        learns = any(q.scale.learned for q in places_of(model.recipes).values())
        if learns or any(linear.fprop.b.expression for linear in (model.recipes or {}).values()):
            with no_grad():
                model.loss(first_micro(spec, data), Context(spec.train.seed, init=True))
    model.use(recipe.at(0, spec.train.steps, 0) if recipe.schedule else recipe, layers)
    hooks = [hook_of(hook) for hook in recipe.loss_hooks]
    if any(getattr(hook, "teacher", "") == "first" for hook in hooks):
        model.first = {name: t.data.copy() for name, t in model.params.items()}
    if any(getattr(hook, "saliency", "none") != "none" for hook in hooks):
        model.saliency = saliency(model, first_micro(spec, data), Context(spec.train.seed))
    return model


def begin_with(spec: TrainSpec, model: Any) -> str:
    """Puts the weights into the model that `train.start` names, those of a run's newest whole checkpoint; their SHA-256, or nothing.

    Learned quantizer parameters of that run are left behind; experts begin as copies of the MLP of a run without
    experts, routers and gates as they are.
    Raises CheckpointError where there is no checkpoint, or one of another model.
    """
    if spec.train.start is None:
        return ""
    where = f"train.start: {spec.train.start}"
    found, passed = checkpoints.newest(Path(spec.train.start) / "checkpoints")
    if found is None:
        raise CheckpointError(passed[0] if passed else "no checkpoint of a run", where=where, remedy="name a run's folder")
    theirs, known = {**found.params}, model.params
    theirs |= {name: theirs[dense] for name in known if name not in theirs and (dense := dense_name(name)) in theirs}
    if any(dense_name(name) != name for name in known):  # upcycled: every expert begins as the dense MLP
        theirs = {name: a for name, a in theirs.items() if name in known or ".mlp." not in name}
    left = [name for name in theirs if name not in known and not is_learned(name.rpartition(".")[2])]
    problems = [f"{name} is not in this model" for name in left]
    theirs |= {name: t.data for name, t in known.items() if name not in theirs and own_begin(name)}
    problems += [f"no {name}" for name in known if name not in theirs]
    problems += [f"{n} is {theirs[n].shape}, here {t.shape}" for n, t in known.items() if n in theirs and theirs[n].shape != t.shape]
    if problems:
        raise CheckpointError("; ".join(problems[:5]), where=where, remedy="start from a run of the same model")
    model.set_arrays({name: theirs[name] for name in known})
    digest = hashlib.sha256()
    for name in sorted(known):
        digest.update(name.encode() + theirs[name].tobytes())
    return digest.hexdigest()


def own_begin(name: str) -> bool:
    """Whether a parameter that the other run lacks begins as it is here: a router's, a gate's."""
    return name.startswith("gate.") or (name.endswith(".router.weight") and dense_name(name) == name)


def dense_name(name: str) -> str:
    """The parameter of a transformer without experts that an expert's begins as.

    >>> dense_name("h.0.mlp.shared.up.weight"), dense_name("h.1.mlp.expert.3.down.weight")
    ('h.0.mlp.up.weight', 'h.1.mlp.down.weight')
    """
    return re.sub(r"\.mlp\.(shared|expert\.\d+)\.", ".mlp.", name)


def first_micro(spec: TrainSpec, data: Data) -> Batch:
    """The first micro-batch of a run."""
    train, length = spec.train, int(spec.model.get("context", 0))
    return train_batch(data, length, train.batch, train.seed, 0, 0, train.batch // train.micro_batches)


def moments(recipe: Any, steps: int) -> list[Any]:
    """The recipe as it is at the start, in every phase and in every pass: what is learned in any of them is made before the first step."""
    changes = [one.all_changes() for one in recipe.schedule] + [[one.set] for one in recipe.passes]
    start = recipe.at(0, steps, 0) if recipe.schedule else recipe
    return [start, in_force(recipe, []), *(in_force(recipe, [dict(c)]) for several in changes for c in several)]


def check_memory(spec: TrainSpec, model: Any) -> None:
    """A micro-batch whose largest layer output alone exceeds the machine's memory is refused before anything is written."""
    micro = spec.train.batch // spec.train.micro_batches
    largest = max((4 * micro * site.rows * max(site.n, site.k) for site in model.linear_sites()), default=0)
    there = model.backend.arrays.memory()
    if there is not None and largest > there:
        what = "GPU" if model.backend.name == "cuda" else "machine"
        raise SpecError(
            [f"train.batch: {micro} samples at a time need {largest / 2**30:.3g} GiB for one layer, the {what} has {there / 2**30:.3g}"],
            remedy="lower train.batch, or raise train.micro_batches",
        )


def check_data(spec: TrainSpec, data: Data) -> None:
    """The model must fit the data: vocabulary and window, or image size and classes."""
    model, problems = spec.model, []
    if isinstance(data, TokenData):
        if model["kind"] != "gpt":
            raise SpecError(
                [f"model.kind: a {model['kind']} does not read tokens ({data.name})"],
                remedy="use model.kind=gpt, or images such as digits",
            )
        if model["vocab"] < data.vocab:
            problems.append(
                f"model.vocab: {model['vocab']} is below {data.vocab}, the data's largest token id + 1 ({data.name})"
            )
        check_length(data, model["context"])
    else:
        if model["kind"] == "gpt":
            raise SpecError(
                [f"model.kind: a gpt does not read images ({data.name})"],
                remedy="use model.kind=cnn, vit or mlp, or text such as stdlib",
            )
        _, channels, height, width = data.train.shape
        wanted = {"image": height, "channels": channels, "classes": data.classes, "features": channels * height * width}
        problems += [
            f"model.{key}: {model[key]}, the data's is {value} ({data.name})"
            for key, value in wanted.items()
            if key in model and model[key] != value
        ]
        if height != width:
            problems.append(f"data.name: images of {height}x{width} are not square")
        if not len(data.valid):
            raise DataError("no held-out images", where=data.name, remedy="give a data set with a held-out part")
    if problems:
        raise SpecError(problems)
