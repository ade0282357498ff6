"""Which elements share a scale: blocks relative to the contraction axis.

Every operand of a GEMM is a 2-D logical array with one contraction axis (`k_axis`, 0 or 1); the other axis is `other`. A block holds
`other` x `k` neighbouring elements; None is the whole axis. So ``Blocks(1, 32)`` is 32 elements along k, ``Blocks(1, None)`` one scale
per row of tokens or output channels, ``Blocks()`` the whole tensor, ``Blocks(128, 128)`` a square tile.

>>> Blocks(1, 32).on((64, 96), k_axis=1)
(1, 32)
>>> Blocks(1, 32).on((64, 96), k_axis=0)
(32, 1)
>>> Blocks(1, None).grid((64, 96), k_axis=1)
(64, 1)
"""

from __future__ import annotations

from dataclasses import dataclass

from lpref.ref.errors import ShapeError


@dataclass(frozen=True)
class Blocks:
    """Shape of the group of elements that share one scale; None (in YAML: ``all``) is the whole axis."""

    other: int | None = None
    k: int | None = None

    def __post_init__(self) -> None:
        for name in ("other", "k"):
            size = getattr(self, name)
            if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
                raise ShapeError(f"blocks.{name} is {size!r}", where="Blocks", remedy="give a positive integer, or None for the whole axis")

    @property
    def transpose_closed(self) -> bool:
        """Whether the blocks of the transposed array are the transposed blocks (square tiles and whole tensors)."""
        return self.other == self.k

    def on(self, shape: tuple[int, int], k_axis: int) -> tuple[int, int]:
        """Block shape (rows, columns) on a logical array of `shape` whose contraction axis is `k_axis`."""
        other, k = (shape[1 - k_axis] if self.other is None else self.other), (shape[k_axis] if self.k is None else self.k)
        return (max(other, 1), max(k, 1)) if k_axis == 1 else (max(k, 1), max(other, 1))

    def grid(self, shape: tuple[int, int], k_axis: int) -> tuple[int, int]:
        """Number of blocks (rows, columns), partial ones included: the shape of the scale array."""
        rows, columns = self.on(shape, k_axis)
        return -(-shape[0] // rows), -(-shape[1] // columns)
