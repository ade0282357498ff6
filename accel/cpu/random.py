"""Philox4x32-10 in Numba: `lpref.ref.random`, bit for bit, and helpers that other kernels inline.

A kernel that needs words calls `philox_block` once for each 128-bit block (16 elements of 8 bits, 8 of 16, 4 of 32) and takes
its elements with `element_bits`; nothing is stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu import threads
from lpref.accel.cpu.philox import BLOCKS, eight_blocks
from lpref.ref import random as ref
from lpref.ref.errors import WordsError

_M0, _M1 = np.uint64(ref.MULTIPLIER_0), np.uint64(ref.MULTIPLIER_1)
_W0, _W1 = np.uint64(ref.WEYL_0), np.uint64(ref.WEYL_1)
_MASK, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)


@njit(forceinline=True)
def philox_block(g: Any, step: Any, stream: Any, seed: Any) -> Any:
    """The four words (uint64 values below 2^32, lane 0 first) of block g; all arguments are np.uint64."""
    c0, c1, c2, c3 = g & _MASK, g >> _32, step, stream
    k0, k1 = seed & _MASK, seed >> _32
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1 = (p1 >> _32) ^ c1 ^ k0, p1 & _MASK
        c2, c3 = (p0 >> _32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


@njit(forceinline=True)
def element_bits(w0: Any, w1: Any, w2: Any, w3: Any, j: Any, r: Any) -> Any:
    """Bits [r j, r (j + 1)) of a block, as uint32; r in {8, 16, 32}."""
    bit = j * r
    lane = bit >> 5
    word = w0 if lane == 0 else (w1 if lane == 1 else (w2 if lane == 2 else w3))
    return np.uint32((word >> np.uint64(bit & 31)) & ((np.uint64(1) << np.uint64(r)) - np.uint64(1)))


@njit(forceinline=True)
def bits_at(i: Any, r: Any, step: Any, stream: Any, seed: Any) -> Any:
    """The r-bit word of element i on its own: a whole block for one element, for irregular access."""
    per_block = 128 // r
    w0, w1, w2, w3 = philox_block(np.uint64(i // per_block), step, stream, seed)
    return element_bits(w0, w1, w2, w3, i % per_block, r)


@njit(cache=True, nogil=True, error_model="numpy")
def fill(lanes: Any, first: Any, step: Any, stream: Any, seed: Any) -> None:
    """lanes [4 blocks] uint32 <- blocks first, first + 1, ..."""
    blocks = lanes.size // 4
    done = blocks // BLOCKS * BLOCKS
    for b in range(0, done, BLOCKS):
        eight_blocks(lanes, 4 * b, first + np.uint64(b), step, stream, seed)
    for b in range(done, blocks):
        w0, w1, w2, w3 = philox_block(first + np.uint64(b), step, stream, seed)
        lanes[4 * b] = np.uint32(w0)
        lanes[4 * b + 1] = np.uint32(w1)
        lanes[4 * b + 2] = np.uint32(w2)
        lanes[4 * b + 3] = np.uint32(w3)


def bits(seed: int, stream: int, step: int, start: int, count: int, r: int) -> np.ndarray:
    """`lpref.ref.random.bits`: the r-bit words of elements start .. start+count, in uint32 of shape [count]."""
    return packed(seed, stream, step, start, count, r).astype(np.uint32, copy=False)


def packed(seed: int, stream: int, step: int, start: int, count: int, r: int) -> np.ndarray:
    """The same words in the unsigned type of r bits: what a kernel that reads an array of words should be given."""
    check(seed, stream, step, start, count, r)
    first, skip = divmod(start, 128 // r)
    blocks = (skip + count + 128 // r - 1) // (128 // r)
    lanes = np.empty(4 * blocks, np.uint32)
    key = (np.uint64(step), np.uint64(stream), np.uint64(seed))
    threads.split(blocks, lambda a, b: fill(lanes[4 * a : 4 * b], np.uint64(first + a), *key), grain=4096)
    return lanes.view(f"u{r // 8}")[skip : skip + count]


def check(seed: int, stream: int, step: int, start: int, count: int, r: int) -> None:
    """Raise what `lpref.ref.random.bits` raises for this address, without making words."""
    if r not in (8, 16, 32) or not (0 <= seed < 1 << 64 and 0 <= stream < 1 << 32 and 0 <= step < 1 << 32):
        ref.bits(seed, stream, step, start, 0, r)  # raises, naming the value
    if start < 0 or count < 0 or start + count > 128 // r << 64:
        raise WordsError(f"elements {start} .. {start + count} pass 2^64 x {128 // r}", where="random.bits")
