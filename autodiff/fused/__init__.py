"""Fused primitives: a fast forward and backward of the backend, and the same function in simple primitives.

The fast pair serves first-order gradients. Where a gradient must be differentiable itself, the engine recomputes the
node through `composite` and differentiates that. A test proves the two equal to rounding, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lpref.autodiff.tensor import Node, Tensor, make, mode, shape_error
from lpref.ref.errors import GraphError


def kept_in(options: Mapping[str, str], which: str) -> dict[str, str]:
    """The option `store` of a backend's op for the result ("store") or the gradient ("back") of a fused primitive, where `formats` has named one."""
    return {"store": options[which]} if which in options else {}


def formats(store: str, back: str) -> dict[str, str]:
    """The parameters that name the format in which a primitive's result and its first gradient are kept; none for float32."""
    return {name: chosen for name, chosen in (("store", store), ("back", back)) if chosen != "float32"}


assert __name__.startswith("lpref."), "import lpref." + __name__


def again_of(node: Node) -> dict[str, str]:
    """The option of a backward that asks for the result once more, where somebody waits for it (`Node.waiting`)."""
    return {"again": node.params["store"]} if node.waiting else {}


def left(node: Node, found: tuple[Any, ...]) -> tuple[Any, ...]:
    """The gradients of what a backward found; the result behind them, where it was asked for, stays at the node."""
    if not node.waiting:
        return found
    node.output = found[-1]
    return found[:-1]


@dataclass(frozen=True)
class Fused:
    """A primitive with a hand-written derivative.

    forward(backend, *arrays, **params) -> (y, saved)
    backward(backend, g, saved, arrays, wants, **params) -> one array (or None) an input
    composite(*tensors, **params) -> Tensor, or None when there is no second derivative
    reads: what of the activations the derivative reads: the inputs, their sign, the inputs and what forward saved for every row (own: of
    (result, saved) the second, which forward(..., keep="probabilities") gives in full), nothing
    gathers: backward with one argument more, ``gathers(backend, g, gathered, saved, …)``, whose first gradient is gathered + that of backward; it is
    called in place of backward where the first input has a gradient already
    again: whether backward(..., again=format) gives the result once more, behind the gradients, for those who wait for it (`Node.waiting`)
    """

    name: str
    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[..., tuple[Any, ...]]
    composite: Callable[..., Tensor] | None
    reads: Literal["inputs", "sign", "own", "nothing"] = "inputs"
    gathers: Callable[..., tuple[Any, ...]] | None = None
    again: bool = False
    always_expands = False

    def __call__(self, *inputs: Tensor, under: Any = None, **params: Any) -> Tensor:
        """Run forward, `under` an `Operation` of a recipe or (None) as it is; record a node when an input needs gradients."""
        if under is not None:
            from lpref.autodiff.fused.operation import UNDER_A_RECIPE

            return UNDER_A_RECIPE(self, under, inputs, params)
        backend = inputs[0].backend
        arrays = tuple([t.data for t in inputs])
        try:
            y, saved = self.forward(backend, *arrays, **params)
        except ValueError as error:
            raise shape_error(self.name, list(arrays), {}, error) from error
        parents = tuple([t.node for t in inputs])
        if not mode.recording or not any(parents):
            return make(y, backend)
        node = Node(self, parents, inputs, params, y.shape)
        node.saved = saved
        return make(y, backend, node)

    def pull(self, node: Node, g: Tensor, wants: list[bool]) -> list[Tensor | None]:
        """First-order gradients through the backend's backward."""
        arrays = tuple([t.data for t in node.inputs])
        grads = left(node, self.backward(g.backend, g.data, node.saved, arrays, wants, **node.params, **again_of(node)))
        return [make(d, g.backend) if want and d is not None else None for d, want in zip(grads, wants, strict=True)]

    def pull_onto(self, node: Node, g: Tensor, wants: list[bool], gathered: Tensor) -> list[Tensor | None]:
        """`pull`, the first gradient added to what has been gathered of it."""
        arrays = tuple([t.data for t in node.inputs])
        assert self.gathers is not None
        grads = left(node, self.gathers(g.backend, g.data, gathered.data, node.saved, arrays, wants, **node.params, **again_of(node)))
        return [make(d, g.backend) if want and d is not None else None for d, want in zip(grads, wants, strict=True)]

    def remade(self, node: Node, backend: Any) -> Any:
        """The array that forward gave, once more."""
        return self.forward(backend, *[t.data for t in node.inputs], **node.params)[0]

    def expand(self, node: Node) -> Tensor:
        """The composite definition over the same inputs."""
        if self.composite is None:
            raise GraphError(f"{self.name!r} has no second derivative", where="backward")
        return self.composite(*node.inputs, **node.params)
