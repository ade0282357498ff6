"""Functions of functions: grad, hvp, checkpoint.

Inputs may be one tensor, a sequence, or a mapping name → tensor; results have the same structure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lpref.autodiff import functional as F
from lpref.autodiff.engine import reachable, walk
from lpref.autodiff.tensor import Node, Tensor, make, mode, recording
from lpref.ref.errors import GraphError, ShapeError


def leaves(inputs: Any) -> list[Tensor]:
    """The tensors of a tensor, sequence or mapping, in order."""
    if isinstance(inputs, Tensor):
        return [inputs]
    return list(inputs.values() if isinstance(inputs, Mapping) else inputs)


def rebuild(inputs: Any, tensors: list[Tensor]) -> Any:
    """The structure of `inputs` around `tensors`."""
    if isinstance(inputs, Tensor):
        return tensors[0]
    return dict(zip(inputs, tensors, strict=True)) if isinstance(inputs, Mapping) else tuple(tensors)


def call(fn: Callable[..., Any], inputs: Any) -> Any:
    """fn(tensor), fn(*sequence) or fn(mapping)."""
    return fn(*inputs) if isinstance(inputs, tuple | list) else fn(inputs)


def requiring(inputs: Any) -> Any:
    """The inputs; those without gradients replaced by leaves with the same data."""
    return rebuild(inputs, [t if t.requires_grad else Tensor(t.data, t.backend, True) for t in leaves(inputs)])


def grad(
    fn: Any, inputs: Any, create_graph: bool = False, *, seed: Any = None, retain_graph: bool | None = None
) -> Any:
    """d(outputs)/d(inputs), summed over outputs, in the structure of `inputs`.

    `fn`: a function of the inputs, a tensor, or a list of tensors; `seed`: the gradient(s) of the outputs, 1 for a
    scalar. With `create_graph` the result can be differentiated again (which needs high-precision linear layers).
    An input on which the outputs do not depend gets zeros; one that does not require gradients is a GraphError.

    Leaves `.grad` of every tensor alone.
    """
    if callable(fn):
        inputs = requiring(inputs)
        with recording(True):
            fn = call(fn, inputs)
    outputs = [fn] if isinstance(fn, Tensor) else list(fn)
    seeds = list(seed) if isinstance(seed, tuple | list) else [seed] * len(outputs)
    targets = leaves(inputs)
    for i, t in enumerate(targets):
        if t.node is None:
            raise GraphError(f"input {i}, of shape {t.shape}, does not require gradients", where="grad",
                             remedy="make it with requires_grad=True before computing the outputs")  # fmt: skip
    found = walk(
        list(zip(outputs, seeds, strict=True)),
        {t.node for t in targets if t.node is not None},
        create_graph=create_graph,
        retain=create_graph if retain_graph is None else retain_graph,
    )
    result = [found[t.node] if t.node is not None and t.node in found else F.zeros_like(t) for t in targets]
    return rebuild(inputs, result)


def hvp(fn: Callable[..., Tensor], params: Any, v: Any) -> Any:
    """Hessian of the scalar fn(params), times v: ∇⟨∇fn, v⟩ (reverse over reverse), in the structure of `params`.

    A function that reads parameters from elsewhere works too, when these are given as `params` (requiring gradients):
    `hvp(lambda *_: model.loss(batch, ctx), list(model.params.values()), v)`.
    """
    params = requiring(params)
    first = leaves(grad(fn, params, create_graph=True))
    directions = leaves(v)
    for g, d in zip(first, directions, strict=True):
        if g.shape != d.shape:
            raise ShapeError(f"v of shape {d.shape} for a parameter of shape {g.shape}", where="hvp")
    dots = [F.sum(g * d) for g, d in zip(first, directions, strict=True)]
    return grad([d for d in dots if d.requires_grad], params)


class Checkpoint:
    """A stretch of the graph that keeps its inputs only; backward computes it again (`engine.expand`)."""

    name = "checkpoint"
    always_expands = True

    def expand(self, node: Node) -> Tensor:
        """The function, called once more on the same tensors."""
        return node.params(*node.inputs)


CHECKPOINT = Checkpoint()


def checkpoint(fn: Callable[..., Tensor], *args: Any) -> Tensor:
    """fn(*args), without keeping what its derivative needs: backward runs fn a second time.

    Same values, same gradients, same bits as fn(*args): random words are addressed by site and element, and gradients
    are added in the same order. Observations (amax, …) of the second run are dropped. fn may read tensors from outside
    (weights); it must return one tensor and be deterministic.
    """
    if not mode.recording:
        return fn(*args)
    first = Node(None, (), (), None, ())  # everything fn makes is younger
    y = fn(*args)
    if not isinstance(y, Tensor):
        raise GraphError(f"fn returned {type(y).__name__}, not one tensor", where="checkpoint",
                         remedy="concat or stack several results")  # fmt: skip
    if y.node is None or y.node.number < first.number:
        return y
    outside = {p for n in reachable([y.node], older_than=first.number) for p in n.parents if p is not None}
    parents = sorted((p for p in outside if p.number < first.number), key=lambda n: n.number)
    return make(y.data, y.backend, Node(CHECKPOINT, tuple(parents), args, fn, y.shape))
