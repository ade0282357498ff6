"""`SharedBlocks`: the blocks of a tensor that share a learned parameter, and sums, means and extremes over them by a backend's ops.

A parameter has the shape of the block grid [R/br, C/bc], or no axes where one block is the whole tensor. Ragged blocks sum what they have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lpref.ref.arrays import namespace
from lpref.ref.quantize import Quantizer


@dataclass(frozen=True)
class SharedBlocks:
    """Blocks (rows, columns) on a tensor of `shape`."""

    shape: tuple[int, int]
    block: tuple[int, int]
    ops: Any

    @classmethod
    def of(cls, q: Quantizer, shape: tuple[int, int], ops: Any) -> SharedBlocks:
        """The blocks of a quantizer on an operand that is contracted along its columns."""
        return cls((shape[0], shape[1]), q.blocks.on((shape[0], shape[1]), 1), ops)

    @property
    def grid(self) -> tuple[int, ...]:
        """The parameter's shape."""
        down, across = (-(-n // b) for n, b in zip(self.shape, self.block, strict=True))
        return () if (down, across) == (1, 1) else (down, across)

    def blocked(self, x: Any) -> Any:
        """[R/br, br, C/bc, bc], ragged edges filled with +0."""
        (rows, columns), (br, bc) = self.shape, self.block
        down, across = -(-rows // br), -(-columns // bc)
        if (down * br, across * bc) != (rows, columns):
            x = namespace(x).pad(x, ((0, down * br - rows), (0, across * bc - columns)))
        return x.reshape((down, br, across, bc))

    def sum(self, x: Any) -> Any:
        """The defined sum of every block, row-major within it."""
        if not self.grid:
            return self.ops.tree_sum(x.reshape(-1))
        inner = self.blocked(x).transpose((0, 2, 1, 3))
        return self.ops.tree_sum(inner.reshape((*self.grid, math.prod(self.block))))

    def mean(self, x: Any) -> Any:
        """`sum` over the number of a whole block's elements (of the tensor's, where one block is the tensor)."""
        return self.ops.div(self.sum(x), x.dtype.type(min(math.prod(self.block), math.prod(self.shape))))

    def extremes(self, x: Any) -> tuple[Any, Any]:
        """(min(x, 0), max(x, 0)) of every block."""
        ops, zero = self.ops, x.dtype.type(0)
        high = self.blocked(ops.maximum(x, zero))
        low = self.blocked(ops.maximum(ops.neg(x), zero))
        found = [ops.amax(side, axis=(1, 3)).reshape(self.grid) for side in (low, high)]
        return ops.neg(found[0]), found[1]

    def spread(self, parameter: Any) -> Any:
        """A value per block as one per element [R, C]; a single one as [1, 1]."""
        if not self.grid:
            return parameter.reshape((1, 1))
        repeat = namespace(parameter).repeat
        rows = repeat(parameter, self.block[0], axis=0)[: self.shape[0]]
        return repeat(rows, self.block[1], axis=1)[:, : self.shape[1]]
