"""Where a tensor's random words begin, as the quantizer kernels are told (LP_WORDS of kernels/elements.cuh)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cuda import feed
from lpref.ref.random import WordAddress


def address(words: WordAddress | Any, r: int) -> tuple[Any, ...]:
    """The Philox block of the first word, the step (on the device), stream, the keys of the ten rounds (core/philox.h); r bits a word, 0: none.

    Raises: WordsError for an address out of range.
    """
    if r == 0:
        return (np.uint64(0), 0, np.uint32(0), *(np.uint64(0) for _ in range(10)))
    words.bits(0, r)  # raises
    return (np.uint64(words.start * r // 128), feed.word(words.step), np.uint32(words.stream), *round_keys(words.seed))


@cache
def round_keys(seed: int) -> tuple[np.uint64, ...]:
    """`lp_keys`: seed_lo + n 0x9E3779B9 in the lower half of round n's, seed_hi + n 0xBB67AE85 in the upper."""
    low, high = seed & 0xFFFFFFFF, seed >> 32
    return tuple(np.uint64((high + n * 0xBB67AE85 & 0xFFFFFFFF) << 32 | low + n * 0x9E3779B9 & 0xFFFFFFFF) for n in range(10))


def counted(words: WordAddress, r: int, count: int) -> bool:
    """Whether the kernels can count through `count` words: from the first of a Philox block, in the lower 32 bits of the blocks' numbers."""
    first, last = words.start * r // 128, (words.start + count) * r // 128
    return words.start % (128 // r) == 0 and first >> 32 == last >> 32
