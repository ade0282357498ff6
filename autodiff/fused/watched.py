"""An identity that shows the gradient that passes it: `WATCHED(y, see)` is y, and its backward calls ``see(gradient)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lpref.autodiff.tensor import Node, Shape, Tensor, make, mode


class Watched:
    """y with a node whose backward looks at the gradient and passes it on."""

    name = "watched"
    always_expands = False
    gathers = None

    def __call__(self, y: Tensor, see: Callable[[Any], None]) -> Tensor:
        """y itself where nothing is recorded."""
        if not mode.recording or y.node is None:
            return y
        return make(y.data, y.backend, Node(self, (y.node,), (Shape(y.shape),), see, y.shape))

    def pull(self, node: Node, g: Tensor, wants: list[bool]) -> list[Tensor | None]:
        """The gradient."""
        node.params(g.data)
        return [g]

    def expand(self, node: Node) -> Tensor:
        """Refused: a second derivative has nothing to watch."""
        from lpref.ref.errors import GraphError

        raise GraphError("a watched tensor has no second derivative", where="backward", remedy="take the watch off the model")


WATCHED = Watched()
