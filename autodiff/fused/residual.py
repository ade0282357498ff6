"""A residual addition and the norm that reads its sum, as one op of the backend each way.

On the tape they are two nodes, as they are apart: the sum's, then the norm's. The norm is the oldest user of the sum, so when the walk comes to
it the rest of the sum's gradient is there, and the backend adds to it (`Fused.gathers`). A copy of the whole in fewer bits, for a branch whose
one reader rounds it anyway, is made on the way and waits at the sum's node.
"""

from __future__ import annotations

from typing import Any

from lpref.autodiff import plain as F
from lpref.autodiff.fused import Fused, again_of, formats, left
from lpref.autodiff.fused.norm import LAYERNORM, RMSNORM, gradients, rows
from lpref.autodiff.primitives import PRIMITIVES
from lpref.autodiff.tensor import Node, Shape, Tensor, make, mode
from lpref.ref.errors import DTypeError, ShapeError


class Sum:
    """x + h, made by an op that makes more. Its parameter: the format in which the gradient of h is kept, for a reader that rounds to it anyway."""

    name = "residual sum"
    always_expands = False
    gathers = None

    def pull(self, node: Node, g: Tensor, wants: list[bool]) -> list[Tensor | None]:
        """The gradient, of h as the copy of this very gradient where the norm has made one."""
        whole, copy = node.saved or (None, None)
        of_h = make(copy, g.backend) if whole is g.data and copy is not None else g
        return [g if wants[0] else None, of_h if wants[1] else None]

    def expand(self, node: Node) -> Tensor:
        """The addition as a primitive, whose rule reads no values."""
        same: Any = Shape(node.shape)
        return make(same, None, Node(PRIMITIVES["add"], node.parents, node.inputs, {}, node.shape))


class NormOfSum(Fused):
    """A norm whose input is a `Sum`."""

    def pull(self, node: Node, g: Tensor, wants: list[bool]) -> list[Tensor | None]:
        """Gradients of the sum and of the weights."""
        return self.gradients(node, g, wants, None)

    def pull_onto(self, node: Node, g: Tensor, wants: list[bool], gathered: Tensor) -> list[Tensor | None]:
        """`pull`, the sum's added to what has been gathered of it."""
        return self.gradients(node, g, wants, gathered.data)

    def gradients(self, node: Node, g: Tensor, wants: list[bool], gathered: Any) -> list[Tensor | None]:
        """The backend's; the copy is left at the sum's node."""
        arrays, total = tuple([t.data for t in node.inputs]), node.parents[0]
        saved = node.saved if isinstance(node.saved, tuple) else (node.saved,)
        copied = {} if total is None or total.params == "float32" else {"copy": total.params}
        found = left(node, gradients(g.backend, self.name, g.data, gathered, arrays, saved, **copied, **again_of(node)))
        if copied and total is not None:
            total.saved = (found[0], found[-1])
        return [make(d, g.backend) if want else None for d, want in zip(found, wants, strict=False)]


SUM = Sum()
NORMS = {
    norm.name: NormOfSum(norm.name, norm.forward, norm.backward, norm.composite, gathers=norm.gathers, again=True) for norm in (RMSNORM, LAYERNORM)
}


def add_rmsnorm(
    x: Tensor, h: Tensor, w: Tensor, eps: float = 1e-5, store: str = "float32", back: str = "float32"
) -> tuple[Tensor, Tensor]:
    """(s, rmsnorm of s), s = x + h; x and h [..., D], w [D].

    store: the format in which the norm is kept, for readers that round to it anyway.  back: the same for the gradient of h.
    """
    return _added("rmsnorm", x, h, (w,), eps, store, back)


def add_layernorm(
    x: Tensor, h: Tensor, w: Tensor, b: Tensor, eps: float = 1e-5, store: str = "float32", back: str = "float32"
) -> tuple[Tensor, Tensor]:
    """(s, layernorm of s), s = x + h; x and h [..., D], w and b [D]. store, back: as in `add_rmsnorm`."""
    return _added("layernorm", x, h, (w, b), eps, store, back)


def _added(name: str, x: Tensor, h: Tensor, vectors: tuple[Tensor, ...], eps: float, store: str, back: str) -> tuple[Tensor, Tensor]:
    F.check_last_axis(f"add_{name}", x, *vectors)
    if h.shape != x.shape:
        raise ShapeError(f"x is {x.shape}, h is {h.shape}", where=f"autodiff.add_{name}")
    if h.dtype != x.dtype:
        raise DTypeError(f"add of {x.dtype} and {h.dtype}", where=f"autodiff.add_{name}", remedy="one dtype for all")
    B, params = x.backend, {"eps": eps, **formats(store, "float32")}
    y, *saved, s = getattr(B, f"add_{name}")(rows(x.data), rows(h.data), *[v.data for v in vectors], **params)
    s, y = s.reshape(x.shape), y.reshape(x.shape)
    if not mode.recording or not any(t.node for t in (x, h, *vectors)):
        return make(s, B), make(y, B)
    of_sum = Node(SUM, (x.node, h.node), (Shape(x.shape), Shape(h.shape)), back, x.shape) if x.node or h.node else None
    stream = make(s, B, of_sum)
    node = Node(NORMS[name], (of_sum, *[v.node for v in vectors]), (stream, *vectors), params, y.shape)
    node.saved = saved[0] if len(saved) == 1 else tuple(saved)
    return stream, make(y, B, node)
