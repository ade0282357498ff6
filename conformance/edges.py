"""Matrices that stand where a block quantizer changes its answer: found by bisection on the definition itself.

Two formulas that differ in the last bit (x * (1 / s) and x / s, S / 6 and S * (1/6)) give the same codes nearly everywhere. They
differ just where a code, or a scale code, goes over into the next one: so these places are looked for, not hoped for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from lpref.conformance.inputs import from_ordered, ordered
from lpref.ref.quantize import QTensor
from lpref.ref.random import words

Define = Callable[[np.ndarray], QTensor]
STEPS = 32  # float32 has at most 2^32 numbers between two


def change(low: np.ndarray, high: np.ndarray, answer: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """For each element, two neighbouring float32 between low and high (both positive) at which `answer` changes; the two are equal at low
    where it never changes.
    """
    at_low, a, b = answer(low), ordered(low), ordered(high)
    b = np.where(answer(high) != at_low, b, a)
    for _ in range(STEPS):
        if not (b - a > 1).any():
            break
        middle = a + (b - a) // 2
        same = answer(from_ordered(middle, np.float32)) == at_low
        wide = b - a > 1
        a, b = np.where(wide & same, middle, a), np.where(wide & ~same, middle, b)
    return from_ordered(a, np.float32), from_ordered(b, np.float32)


def noise(stream: int, shape: tuple[int, ...]) -> np.ndarray:
    """Fixed numbers in [0, 1), float64."""
    return (words(2, stream, 0, 0, int(np.prod(shape))).astype(np.float64) / 2.0**32).reshape(shape)


def grown(per_block: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """One number a block -> one an element."""
    return np.repeat(np.repeat(per_block, block[0], 0), block[1], 1)


def element_edges(define: Define, block: tuple[int, int], grid: tuple[int, int]) -> Iterator[np.ndarray]:
    """[R, C] at both sides of the places where element codes change; the first element of each block holds its amax."""
    shape = (block[0] * grid[0], block[1] * grid[1])
    lead = grown((1 + noise(1, grid)) * np.ldexp(1.0, (np.arange(grid[0] * grid[1]) * 5 % 17 - 8).reshape(grid)), block)
    signs = np.where(noise(2, shape) < 0.5, np.float32(-1), np.float32(1))
    share = noise(3, shape) ** 2 * 0.95
    first = np.zeros(shape, bool)
    first[:: block[0], :: block[1]] = True
    low, high = (np.where(first, lead, lead * s).astype(np.float32) for s in (share, np.minimum(share + 0.3, 0.99)))

    def codes(magnitude: np.ndarray) -> np.ndarray:
        return define(magnitude * signs).unpacked()

    for side in change(low, high, codes):
        yield side * signs


def scale_edges(define: Define, block: tuple[int, int], grid: tuple[int, int]) -> Iterator[np.ndarray]:
    """[R, C] at both sides of the places where block scale codes change; one block, larger than all, stays as it is."""
    largest = np.float32(1.3 * 2.0**9)
    low = np.ldexp(1 + noise(4, grid), (noise(5, grid) * 16).astype(np.int64) - 8).astype(np.float32)
    low[0, 0] = largest
    high = np.where(low == largest, low, low * np.float32(2.25)).astype(np.float32)
    inside = (noise(6, (block[0] * grid[0], block[1] * grid[1])) * 0.9).astype(np.float32)
    inside[:: block[0], :: block[1]] = 1

    def matrix(amax: np.ndarray) -> np.ndarray:
        return grown(amax, block) * inside

    def scales(amax: np.ndarray) -> np.ndarray:
        return define(matrix(amax)).scales[0]

    for side in change(low, high, scales):
        yield matrix(side)
