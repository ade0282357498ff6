"""`Unmade`: an array that is not computed yet, because who makes codes of it computes it on the way (kernels/unmade.cuh)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lpref.ref.errors import ShapeError

NAME = "unmade"
"""What the option `store` of an op says in place of a format."""
SOFTMAX, GELU = 1, 2
"""LP_UNMADE of the kernels."""


@dataclass(frozen=True, eq=False)
class Unmade:
    """float32 of the device that `make` computes, and `quantize.of_unmade` codes.

    source     bfloat16 [R, C], of which a kernel makes it
    what       SOFTMAX: the gradient of logits; GELU: by tanh, of activations; both of grade fast
    arguments  what the kernel reads beside
    peak       float32 bits of its greatest magnitude, uint32 [1] on the device, found by less than all that `make` does; None: only by `make`
    shape      as it was reshaped
    """

    source: Any
    what: int
    arguments: tuple[Any, ...]
    make: Callable[[], Any]
    shape: tuple[int, ...]
    peak: Callable[[], Any] | None = None
    dtype = np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """What it holds of the device's memory."""
        return int(self.source.nbytes)

    def reshape(self, *shape: Any) -> Unmade:
        """The same elements in another shape, as of an array."""
        wanted = list(shape[0] if isinstance(shape[0], (tuple, list)) else shape)
        if -1 in wanted:
            wanted[wanted.index(-1)] = self.size // -math.prod(wanted)
        if math.prod(wanted) != self.size:
            raise ShapeError(f"an array of shape {self.shape} in the shape {tuple(wanted)}", where="unmade")
        return replace(self, shape=tuple(wanted))

    def array(self) -> Any:
        """It, on the device."""
        return self.make().reshape(self.shape)
