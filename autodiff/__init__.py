"""The tape: Tensor, primitives and their derivatives."""

from __future__ import annotations

from . import functional
from .check import check_grads
from .engine import backward
from .tensor import Tensor, no_grad
from .transforms import checkpoint, grad, hvp

assert __name__.startswith("lpref."), "import lpref." + __name__

__all__ = ["Tensor", "backward", "check_grads", "checkpoint", "functional", "grad", "hvp", "no_grad"]
