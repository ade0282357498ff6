"""The hook through which a recipe reaches operations that are no linear layer, and the operations that only a recipe needs as one node.

`UNDER_A_RECIPE` runs any fused primitive under an `lpref.ref.recipes.operation.Operation`: what enters, leaves, is saved, and what comes back
is quantized and scaled as the recipe says. Without a recipe nothing here runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.autodiff.fused import Fused
from lpref.autodiff.primitives import integers
from lpref.autodiff.tensor import Node, Shape, Tensor, apply, make, mode
from lpref.ref.errors import GraphError
from lpref.ref.nn.few_bit import pieces
from lpref.ref.recipes.operation import Operation, restored


class UnderARecipe:
    """A fused primitive under a recipe. Its backward is the recipe's rule (straight through, factors not differentiated)."""

    name = "operation under a recipe"
    always_expands = False
    gathers = None

    def __call__(self, fused: Fused, under: Operation, inputs: tuple[Tensor, ...], params: dict[str, Any]) -> Tensor:
        """Run forward; record a node that keeps what the recipe saves."""
        backend = inputs[0].backend
        arrays = under.enter([t.data for t in inputs], backend)
        coded = fused.reads == "own" and under.recipe.saved is not None
        y, own = fused.forward(backend, *arrays, **params, **({"keep": "probabilities"} if coded else {}))
        y = under.leave(y, arrays, backend)
        parents = tuple([t.node for t in inputs])
        if not mode.recording or not any(parents):
            return make(y, backend)
        node = Node(self, parents, tuple([Shape(t.shape) for t in inputs]), (fused, under, params), y.shape)
        node.saved = self.kept(fused, under, arrays, own, backend, params)
        return make(y, backend, node)

    def kept(
        self, fused: Fused, under: Operation, arrays: list[Any], own: Any, backend: Any, node_params: dict[str, Any]
    ) -> tuple[list[Any], Any]:
        """(inputs, what forward saved) as they are kept."""
        if fused.reads == "nothing":
            return [Shape(a.shape) for a in arrays], own
        if fused.reads == "sign" and (under.recipe.saved is not None or under.recipe.derivative):
            return [backend.greater(a, a.dtype.type(0)) for a in arrays], own
        if table := few_bit(fused, under, node_params):
            return [piece_of(arrays[0], table[0], backend)], own
        if fused.reads == "own" and under.recipe.saved is not None:
            own = (own[0], under.codes("saved.own", own[1], backend))  # the result and the probabilities
        return under.keep(arrays, backend), own

    def pull(self, node: Node, g: Tensor, wants: list[bool]) -> list[Tensor | None]:
        """The recipe's gradients."""
        fused, under, params = node.params
        kept, own = node.saved
        arrays, own = restored(kept), tuple(restored(own)) if isinstance(own, tuple) else own
        if fused.reads == "sign":
            arrays = [a.astype(g.dtype) for a in arrays]
        incoming = under.incoming(g.data, g.backend)
        table = few_bit(fused, under, params)
        grads = (
            (g.backend.mul(incoming, g.backend.arrays.make(table[1])[arrays[0]]),)
            if table
            else fused.backward(g.backend, incoming, own, arrays, wants, **params)
        )
        for d in grads:
            if d is not None:
                g.backend.arrays.branch.read(d)
        grads = under.outgoing(grads, node.inputs[0].shape, g.backend)
        return [make(d, g.backend) if want and d is not None else None for d, want in zip(grads, wants, strict=True)]

    def expand(self, node: Node) -> Tensor:
        """Refused: rounding has no second derivative."""
        raise GraphError("an operation under a recipe has no second derivative", where="backward",
                         remedy="differentiate the model built with recipe None (high precision)")  # fmt: skip


def few_bit(fused: Fused, under: Operation, params: dict[str, Any]) -> Any:
    """(bounds, levels) of the activation's piecewise constant derivative, where the recipe has one."""
    if not under.recipe.derivative or fused.name not in ("gelu", "silu"):
        return None
    return pieces(fused.name if fused.name == "silu" else f"gelu_{params['kind']}", under.recipe.derivative)


def piece_of(x: Any, bounds: Any, backend: Any) -> Any:
    """The number of the piece of every element, in 8 bits."""
    code = backend.greater(x, x.dtype.type(bounds[0])).astype(np.uint8)
    for number, bound in enumerate(bounds[1:], start=2):
        code = backend.where(backend.greater(x, x.dtype.type(bound)), np.uint8(number), code)
    return code


UNDER_A_RECIPE = UnderARecipe()

ADD = Fused("residual_add", lambda B, x, f: (B.add(x, f), None), lambda B, g, saved, xs, wants: (g, g), None, "nothing")
SAME = Fused("residual_split", lambda B, x: (x, None), lambda B, g, saved, xs, wants: (g,), None, "nothing")
PRODUCT = Fused(
    "product",
    lambda B, a, b: (B.mul(a, b), None),
    lambda B, g, saved, xs, wants: (B.mul(g, xs[1]), B.mul(g, xs[0])),
    None,
)
EMBEDDING = Fused(
    "embedding",
    lambda B, table, ids: (B.embedding(table, integers("embedding", ids)), None),
    lambda B, g, saved, xs, wants, ids: (B.embedding_backward(g, ids, xs[0].shape[0]),),
    None,
    "nothing",
)


def residual_add(x: Tensor, branch: Tensor, under: Any = None) -> Tensor:
    """x + branch, where a residual branch joins the stream."""
    return x + branch if under is None else ADD(x, branch, under=under)


def residual_split(x: Tensor, under: Any = None) -> tuple[Tensor, Tensor]:
    """(stream, branch), both x, where a residual branch leaves the stream."""
    return (x, x) if under is None else (SAME(x, under=under.only(0)), SAME(x, under=under.only(1)))


def product(a: Tensor, b: Tensor, under: Any = None) -> Tensor:
    """a · b of equal shapes: the gate of a SwiGLU block."""
    return a * b if under is None else PRODUCT(a, b, under=under)


def embedding(table: Tensor, ids: Any, under: Any = None) -> Tensor:
    """Rows of table [V, D] by integer ids [...]: [..., D], `under` an `Operation` of a recipe. Its gradient adds rows in index order.

    Raises DTypeError when ids are not integers.
    """
    ids = ids.data if isinstance(ids, Tensor) else ids
    return apply("embedding", table, ids=ids) if under is None else EMBEDDING(table, ids=ids, under=under)
