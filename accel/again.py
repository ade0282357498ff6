"""Results that a backward pass makes once more: the option `again` of the gradients of activations and norms.

``again="bfloat16"``: behind the gradients comes what the forward gave, rounded to nearest even in that format, so that nobody has to keep it from
forward to backward. A kernel that has the inputs at hand anyway writes it on the way. Layer norms take their `b` for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from lpref.ref import nn


def gelu(dy: Any, x: Any, kind: str = "tanh", *, b: Any = None) -> Any:
    """The result of gelu, from the arguments of its gradient."""
    return nn.gelu(x, kind)


def rmsnorm(dy: Any, x: Any, w: Any, rstd: Any, *, b: Any = None) -> Any:
    """(x · rstd) · w, as `lpref.ref.nn.rmsnorm`."""
    return (x * rstd[:, None]) * w


def layernorm(dy: Any, x: Any, w: Any, mean: Any, rstd: Any, *, b: Any) -> Any:
    """((x − mean) · rstd) · w + b, as `lpref.ref.nn.layernorm`."""
    return ((x - mean[:, None]) * rstd[:, None]) * w + b


AGAIN: dict[str, Callable[..., Any]] = {
    "gelu_backward": gelu,
    "rmsnorm_backward": rmsnorm,
    "layernorm_backward": layernorm,
    "add_rmsnorm_backward": lambda dy, ds, *rest, b=None: rmsnorm(dy, *rest, b=b),
    "add_layernorm_backward": lambda dy, ds, *rest, b: layernorm(dy, *rest, b=b),
}
"""Ops with the option -> the forward's result."""


def making_again(op: Callable[..., Any], result: Callable[..., Any], cast: Callable[..., Any]) -> Callable[..., Any]:
    """The op, of NumPy arrays, with the option `again`."""

    @wraps(op)
    def call(*args: Any, again: str = "float32", b: Any = None, **options: Any) -> Any:
        found = op(*args, **options)
        if again == "float32":
            return found
        y = cast(result(*args, b=b, **{name: value for name, value in options.items() if name == "kind"}), again)
        return (*found, y) if isinstance(found, tuple) else (found, y)

    return call
