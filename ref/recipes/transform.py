"""`Transform`: an orthogonal change of basis of one operand of a GEMM, as data.

A Hadamard transform belongs to the GEMM: along the contraction axis it must stand on both operands, with the same size and signs,
or its inverse must be applied to the output. `lpref.ref.recipes.basis` checks that every GEMM's net transform is the identity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from lpref.ref.errors import ShapeError, SpecError


@dataclass(frozen=True)
class Transform:
    r"""$x \leftarrow x\,\mathrm{diag}(s)\,H / \sqrt{n}$ for every run of n = `size` elements along `axis`; H is Sylvester's matrix.

    kind    hadamard
    axis    k: the contraction axis of the GEMM; other: the operand's other axis
    size    n, a power of two
    signs   none: s = 1; fixed: s = `vector`; random: s drawn anew at every call, ``lpref.ref.random.signs``
    vector  the signs of `fixed`, `size` of them, each +1 or -1
    stream  random signs: transforms with the same stream of one layer share their signs. Empty: the GEMM's own.
    tail    an axis that is no multiple of the size: error, or shrink: the largest power of two that divides both
    rank    keep only the `rank` columns of H with the fewest sign changes (the lowest sequencies), in this order: the axis becomes
            rank / size times as long. 0: all columns, in Sylvester's order. A size that shrinks shrinks the rank with it, to at least 1.
    """

    kind: Literal["hadamard"] = "hadamard"
    axis: Literal["k", "other"] = "k"
    size: int = 16
    signs: Literal["none", "fixed", "random"] = "none"
    vector: tuple[int, ...] = ()
    stream: str = ""
    tail: Literal["error", "shrink"] = "error"
    rank: int = 0

    def __post_init__(self) -> None:
        problems = []
        if self.size < 1 or self.size & (self.size - 1):
            problems.append(f"size: {self.size} is not a power of two")
        if self.signs == "fixed" and (len(self.vector) != self.size or any(s not in (1, -1) for s in self.vector)):
            problems.append(f"vector: fixed signs are {self.size} values of +1 or -1, got {len(self.vector)} values")
        if self.signs != "fixed" and self.vector:
            problems.append(f"vector: signs are {self.signs!r}; only fixed signs have a vector")
        if self.signs != "random" and self.stream:
            problems.append(f"stream: signs are {self.signs!r}; only random signs have a stream")
        if not 0 <= self.rank <= self.size:
            problems.append(f"rank: {self.rank}; at most the size {self.size}, or 0 for a transform that keeps everything")
        if problems:
            raise SpecError(problems)

    def fitted(self, length: int, where: str = "") -> Transform:
        """The transform on an axis of `length` elements. Raises ShapeError where it does not fit and `tail` is error.

        >>> Transform(size=64, tail="shrink").fitted(96).size
        32
        """
        if length % self.size == 0:
            return self
        if self.tail == "error":
            raise ShapeError(f"an axis of {length} elements is no multiple of the transform's size {self.size}", where=where,
                             remedy="choose another size, or tail: shrink")  # fmt: skip
        size = math.gcd(length, self.size)
        return replace(self, size=size, vector=self.vector[:size], rank=self.rank and max(1, self.rank * size // self.size))

    def kept(self, length: int) -> np.ndarray:
        """The elements of an axis of `length` that a transform of this rank leaves, int64 [length rank / size].

        >>> Transform(size=8, rank=3).kept(16).tolist()
        [0, 4, 6, 8, 12, 14]
        """
        return (np.arange(0, length, self.size)[:, None] + np.array(sequency(self.size)[: self.rank])).reshape(-1)


@lru_cache(maxsize=32)
def sequency(size: int) -> tuple[int, ...]:
    """Sylvester's columns in the order of their sign changes: column number of 0, 1, ..., size - 1 changes.

    >>> sequency(8)
    (0, 4, 6, 2, 3, 7, 5, 1)
    """
    changes = {sum((k & j).bit_count() % 2 != (k & (j + 1)).bit_count() % 2 for j in range(size - 1)): k for k in range(size)}
    return tuple(changes[n] for n in range(size))
