"""The basis of every axis, symbolically: which transforms a tensor has gone through, and whether a GEMM undoes them.

A basis is a word of letters, one per transform, applied from left to right; the empty word is the plain basis. Letters are orthogonal
matrices, so for operands a = A U and b = B V (U, V words along the contraction axis)

    a b^T = A U V^T B^T = A B^T    for all A, B    exactly when U = V    (U, V reduced).

Reduction: a letter and its inverse cancel; a Hadamard matrix without signs is its own inverse. Two random sign vectors are equal only if
they come from the same stream. A letter of lower rank r is a matrix P with P P^T a projection: the product is then A P P^T B^T, by intention.

>>> from lpref.ref.recipes.transform import Transform
>>> h = letter(Transform(size=32), "fprop")
>>> reduced((h, h)), reduced((h, inverse(h)))
((), ())
>>> d = letter(Transform(size=32, signs="random"), "wgrad")
>>> len(reduced((d, d))), reduced((d, inverse(d)))
(2, ())
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lpref.ref.recipes.transform import Transform

# slot -> (name of its contraction axis, name of its other axis): M tokens, N outputs, K inputs
AXES = {
    "fprop.a": ("K", "M"),
    "fprop.b": ("K", "N"),
    "dgrad.a": ("N", "M"),
    "dgrad.b": ("N", "K"),
    "wgrad.a": ("M", "N"),
    "wgrad.b": ("M", "K"),
}


@dataclass(frozen=True)
class Letter:
    """One transform, or its inverse."""

    size: int
    signs: str
    """none, the fixed vector, or the stream of random ones."""
    tail: str
    rank: int = 0
    inverse: bool = False

    def __str__(self) -> str:
        signs = "" if self.signs == "none" else f" with {self.signs} signs"
        rank = f" of rank {self.rank}" if self.rank else ""
        return f"H{self.size}{rank}{signs}{' inverted' if self.inverse else ''}"


Word = tuple[Letter, ...]


def letter(transform: Transform, gemm: str) -> Letter:
    """The letter of a transform in the GEMM `gemm`, which owns random signs without a stream name."""
    if transform.signs == "fixed":
        signs = "fixed " + "".join("+" if s > 0 else "-" for s in transform.vector)
    else:
        signs = "none" if transform.signs == "none" else f"random {transform.stream or gemm}"
    return Letter(transform.size, signs, transform.tail, transform.rank)


def inverse(one: Letter) -> Letter:
    """The letter that undoes `one`."""
    return one if one.signs == "none" and not one.rank else replace(one, inverse=not one.inverse)


def reduced(word: Word) -> Word:
    """The word without neighbours that cancel."""
    out: list[Letter] = []
    for one in word:
        if out and not one.rank and out[-1] == inverse(one):
            out.pop()
        else:
            out.append(one)
    return tuple(out)


def shown(word: Word) -> str:
    """A word for a message."""
    return " then ".join(map(str, word)) if word else "the plain basis"
