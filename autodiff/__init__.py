"""The tape: Tensor, primitives and their derivatives."""

from __future__ import annotations

from lpref.autodiff import functional
from lpref.autodiff.check import check_grads
from lpref.autodiff.engine import backward
from lpref.autodiff.tensor import Tensor, no_grad
from lpref.autodiff.transforms import checkpoint, grad, hvp

assert __name__.startswith("lpref."), "import lpref." + __name__

__all__ = ["Tensor", "backward", "check_grads", "checkpoint", "functional", "grad", "hvp", "no_grad"]
