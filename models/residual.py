"""The residual stream between a branch and the norm that reads it: a sum that is made by who needs it, by a norm together with its own work."""

from __future__ import annotations

from dataclasses import dataclass

from lpref.autodiff import Tensor
from lpref.autodiff import functional as F


@dataclass(frozen=True)
class Sum:
    """x + h. back: the format in which the gradient of h is kept, for a reader that rounds to it anyway."""

    x: Tensor
    h: Tensor
    back: str = "float32"


Stream = Tensor | Sum


def summed(stream: Stream) -> Tensor:
    """The residual stream as one tensor."""
    return F.residual_add(stream.x, stream.h) if isinstance(stream, Sum) else stream
