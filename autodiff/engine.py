"""Backward: walk the nodes in reverse creation order and add up gradients in a fixed order.

The order is part of the bits. Nodes are visited from the youngest to the oldest. A tensor used several times gets its
gradient as a left fold, first the contribution of the youngest user, within one user by argument position; then the
next older user, and so on. A slice contributes to its own elements only. Nothing is recursive: a heap keyed by creation
number drives the walk, so depth is unlimited.

A node either *pulls* (its rule maps the gradient of the result to those of its inputs) or *expands*: it computes its
result again from its inputs as nodes of its own, and the walk goes on through these. A checkpoint always expands,
a fused primitive when the gradient itself must be differentiable (`create_graph`). Since expanded nodes are younger
than all that is left, they come next, in the order they would have had without a checkpoint: same bits.

After the visit a node is released; a second backward needs `retain_graph` or `create_graph` the first time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from typing import Any

from lpref.autodiff.primitives import Primitive, space
from lpref.autodiff.tensor import Node, Tensor, apply, make, mode, recording, releasing, within
from lpref.autodiff.vjps import VJPS
from lpref.ref.arrays import wide
from lpref.ref.errors import GraphError, ShapeError


def backward(output: Tensor, seed: Any = None, retain_graph: bool = False) -> None:
    """Add d(output)/d(leaf) to `leaf.grad` for every leaf of output's graph."""
    if output.node is None:
        raise GraphError("the tensor does not depend on anything that requires gradients", where="backward",
                         remedy="make inputs with requires_grad=True, outside no_grad()")  # fmt: skip
    gradients = walk([(output, seed)], None, retain=retain_graph)
    for node, g in gradients.items():
        tensor = node.leaf()
        if tensor is not None:
            tensor.grad = wide(g.data, g.backend) if tensor.grad is None else g.backend.add(tensor.grad, g.data)


def seed_for(output: Tensor, seed: Any) -> Tensor:
    """The seed as a tensor; 1 for a one-element output."""
    if seed is None:
        if output.size != 1:
            raise GraphError(f"the output has shape {output.shape}, not one element", where="backward",
                             remedy="pass a seed of that shape, or reduce it to a scalar first")  # fmt: skip
        return make(space_of(output).ones(output.shape, dtype=output.dtype), output.backend)
    seed = seed if isinstance(seed, Tensor) else Tensor(seed, output.backend)
    if seed.shape != output.shape:
        raise ShapeError(f"seed of shape {seed.shape} for an output of shape {output.shape}", where="backward")
    return seed


def space_of(t: Tensor) -> Any:
    """The library of the tensor's array."""
    return space(t.data)


def reachable(roots: Iterable[Node], older_than: float = 0) -> list[Node]:
    """All nodes below `roots` with a number greater than `older_than`, oldest first."""
    seen: set[Node] = set()
    stack = [n for n in roots if n.number > older_than]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(p for p in node.parents if p is not None and p.number > older_than and p not in seen)
    return sorted(seen, key=lambda n: n.number)


def mark(needed: dict[Node, bool], nodes: Iterable[Node]) -> None:
    """Of `nodes` (oldest first): whether each leads to a target (targets are marked already)."""
    for node in nodes:
        if node not in needed:
            needed[node] = any(p is not None and needed.get(p, False) for p in node.parents)


def walk(
    outputs: list[tuple[Tensor, Any]], targets: set[Node] | None, *, create_graph: bool = False, retain: bool = False
) -> Mapping[Node, Tensor]:
    """Gradients of the outputs (with seeds) with respect to `targets`, or to all leaves when None."""
    needed: dict[Node, bool] | None = None
    if targets is not None:
        needed = dict.fromkeys(targets, True)
        mark(needed, reachable(o.node for o, _ in outputs if o.node is not None))
    found: dict[Node, Tensor] = {}
    pending = Pending()
    release = not (retain or create_graph)
    with recording(create_graph), releasing(release):
        for output, seed in outputs:
            if output.node is not None and (needed is None or needed.get(output.node)):
                pending.add(output.node, seed_for(output, seed))
        while pending.heap:
            node, g = pending.pop()
            op = node.op
            if op is None or (targets is not None and node in targets):
                found[node] = g
            if needed is None:
                wants = [p is not None for p in node.parents]
            else:
                wants = [p is not None and needed.get(p, False) for p in node.parents]
            if True not in wants:  # a leaf, or a target with none below
                settle(pending, node, g.backend)
                continue
            node.alive()
            if type(op) is Primitive:
                if op.name == "getitem" and not create_graph:
                    pending.add_part(node.parents[0], node.params["index"], g)
                    pulls = []
                else:
                    pulls = pull(node, g, wants)
            elif create_graph or op.always_expands:
                pulls = []
                result = expand(node)
                if result.node is not None:
                    if needed is not None:
                        mark(needed, reachable([result.node], older_than=node.number))
                    if needed is None or needed[result.node]:
                        pending.add(result.node, g)
            elif op.gathers is not None and wants[0] and node.parents[0] in pending.gradients:
                pulls = pending.complete(node, g, wants)
            else:
                pulls = op.pull(node, g, wants)
            for parent, gi in zip(node.parents, pulls, strict=False):
                if gi is not None:
                    pending.add(parent, gi)
            settle(pending, node, g.backend)
            if release:
                node.release()
        for output, _ in outputs:
            output.backend.arrays.branch.read()
    return found


class Pending:
    """Gradients that are not complete, and their nodes in a heap, the youngest first."""

    __slots__ = ("gradients", "heap", "own")

    def __init__(self) -> None:
        self.heap: list[tuple[int, Node]] = []
        self.gradients: dict[Node, Tensor] = {}
        self.own: set[Node] = set()  # nodes whose gradient is an array that nothing else refers to

    def pop(self) -> tuple[Node, Tensor]:
        """The youngest node and its gradient, now complete."""
        node = heappop(self.heap)[1]
        self.own.discard(node)
        return node, self.gradients.pop(node)

    def add(self, node: Node, g: Tensor) -> None:
        """One more contribution: old + g."""
        old = self.gradients.get(node)
        if old is not None or node.op is not None:  # a parameter's only gradient is not read before the walk is over
            g.backend.arrays.branch.read(g.data)
        if old is not None:
            g.backend.arrays.branch.read(old.data)
            self.gradients[node] = apply("add", old, g)
            return
        if g.data.shape != node.shape:
            name = "leaf" if node.op is None else node.op.name
            raise ShapeError(f"gradient of shape {g.shape} for the result of {name!r}, of shape {node.shape}",
                             where="backward")  # fmt: skip
        self.gradients[node] = g
        heappush(self.heap, (-node.number, node))

    def complete(self, node: Node, g: Tensor, wants: list[bool]) -> list[Tensor | None]:
        """`pull` of an operation that adds to the gradient of its first input, old + g, by itself; that one is not among the results."""
        parent = node.parents[0]
        g.backend.arrays.branch.read(self.gradients[parent].data)
        total, *others = node.op.pull_onto(node, g, wants, self.gradients[parent])
        self.gradients[parent] = total
        self.own.discard(parent)
        return [None, *others]

    def add_part(self, node: Node, index: Any, g: Tensor) -> None:
        """One more contribution to the elements at a basic `index`; the others get none (their −0 stays −0)."""
        g = make(wide(g.data, g.backend), g.backend)
        if node not in self.own:
            old = self.gradients.get(node)
            if old is None:
                array = space_of(g).zeros(node.shape, dtype=g.dtype)
                heappush(self.heap, (-node.number, node))
            else:
                g.backend.arrays.branch.read(old.data)
                array = wide(old.data, g.backend).copy()
            self.gradients[node] = make(array, g.backend)
            self.own.add(node)
        array = self.gradients[node].data
        array[index] = g.backend.add(array[index], g.data)


def settle(pending: Pending, node: Node, backend: Any) -> None:
    """The gradients that waited for the node's result, which its backward has left in `output` unless nobody asked for one."""
    if node.waiting:
        result = node.op.remade(node, backend) if node.output is None else node.output
        for parameter, gradient in node.waiting:
            pending.add(parameter, make(gradient(result), backend))
        node.waiting = node.output = None


def pull(node: Node, g: Tensor, wants: list[bool]) -> list[Tensor | None]:
    """Apply the table's rule of a primitive; None where no gradient is wanted or there is none."""
    rule = VJPS[node.op.name]
    y = node.output
    if y is not None:
        backend = g.backend
        y = make(y, backend, node if mode.recording else None)
    if callable(rule):
        return [rule(i, g, y, *node.inputs, **node.params) if want else None for i, want in enumerate(wants)]
    return [
        f(g, y, *node.inputs, **node.params) if want and f is not None else None
        for f, want in zip(rule, wants, strict=False)
    ]


def expand(node: Node) -> Tensor:
    """The node's result once more, as a graph of its own over the same inputs."""
    with within("recomputing", True), recording(True):
        result = node.op.expand(node)
    if result.shape != node.shape:
        raise ShapeError(f"{node.op.name!r} gave shape {node.shape}, recomputed {result.shape}", where="backward",
                         remedy="the function must be deterministic")  # fmt: skip
    return result
