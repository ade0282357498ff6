"""Counter-based random words: Philox4x32-10, addressed by seed, site, step and logical element index.

A word depends on nothing but its address, so every backend, order, shard and recomputation sees the same words:

    key     = (seed mod 2^32, seed div 2^32)
    counter = (g mod 2^32, g div 2^32, step, stream)          one 128-bit block for each counter
    stream  = first 4 bytes, little-endian, of SHA-256 of the site path ``layer/gemm/slot/purpose[@pass]``

An element i (row-major, in the logical, global, unpadded tensor) takes r in {8, 16, 32} bits: bits [r j, r (j+1)) of
block g = i div (128/r), with j = i mod (128/r); lane 0 holds the lowest bits.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; Random123 1.14
(``include/Random123/philox.h``, known answers in ``tests/kat_vectors``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lpref.ref import elementary
from lpref.ref.errors import WordsError

MULTIPLIER_0 = 0xD2511F53
MULTIPLIER_1 = 0xCD9E8D57
WEYL_0 = 0x9E3779B9
"""Added to key word 0 after every round: the golden ratio."""
WEYL_1 = 0xBB67AE85
"""Added to key word 1 after every round: sqrt(3) - 1."""
ROUNDS = 10

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counter: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Ten rounds of Philox4x32 on counters [..., 4] under one key; returns blocks [..., 4].

    >>> [hex(w) for w in philox4x32(np.zeros(4, np.uint32), (0, 0)).tolist()]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = (counter[..., lane].astype(np.uint64) for lane in range(4))
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(ROUNDS):
        p0, p1 = c0 * np.uint64(MULTIPLIER_0), c2 * np.uint64(MULTIPLIER_1)
        c0, c1 = (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0), p1 & _MASK
        c2, c3 = (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1), p0 & _MASK
        k0, k1 = (k0 + WEYL_0) & 0xFFFFFFFF, (k1 + WEYL_1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def stream(site: str) -> int:
    """The stream number of a site path: the first four bytes of its SHA-256, little-endian.

    >>> stream("h.0.attn.qkv/fprop/a/round")
    3600743051
    """
    return int.from_bytes(hashlib.sha256(site.encode()).digest()[:4], "little")


def check_streams(sites: Iterable[str]) -> dict[int, str]:
    """Stream number -> site of every site; two sites of one model that share a stream raise `WordsError`."""
    seen: dict[int, str] = {}
    for site in sites:
        other = seen.setdefault(stream(site), site)
        if other != site:
            message = f"sites {other!r} and {site!r} share the stream {stream(site)}"
            raise WordsError(message, where="random", remedy="rename one of them")
    return seen


def bits(seed: int, stream: int, step: int, start: int, count: int, r: int) -> NDArray[np.uint32]:
    """The r-bit words of elements start .. start+count, each in the low r bits of a uint32.

    `seed` is in [0, 2^64), `stream` and `step` in [0, 2^32), `r` in {8, 16, 32}; anything else raises `WordsError`.

    >>> bits(0, 0, 0, start=0, count=3, r=16).tolist() == [0xE8D5, 0x6627, 0xC58D]
    True
    """
    if r not in (8, 16, 32):
        raise WordsError(f"an element takes 8, 16 or 32 random bits, not {r}", where="random.bits")
    for name, value, limit in (("seed", seed, 64), ("stream", stream, 32), ("step", step, 32)):
        if not 0 <= value < 1 << limit:
            raise WordsError(f"{name} is {value}, not in [0, 2^{limit})", where="random.bits")
    per_block = 128 // r
    if start < 0 or count < 0 or start + count > per_block << 64:
        raise WordsError(f"elements {start} .. {start + count} pass 2^64 x {per_block}", where="random.bits")
    if not count:
        return np.zeros(0, np.uint32)
    first, skip = divmod(start, per_block)
    blocks = (skip + count + per_block - 1) // per_block
    g = np.uint64(first) + np.arange(blocks, dtype=np.uint64)
    counter = np.empty((blocks, 4), np.uint32)
    counter[:, 0], counter[:, 1], counter[:, 2], counter[:, 3] = g & _MASK, g >> _SHIFT, step, stream
    lanes = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32)).astype("<u4")  # lane 0 lowest, on any host
    elements = lanes.reshape(-1).view(f"<u{r // 8}")
    return elements[skip : skip + count].astype(np.uint32)


def words(seed: int, stream: int, step: int, start: int, count: int) -> NDArray[np.uint32]:
    """The 32-bit words start .. start+count of a stream at a step: `bits` with r = 32."""
    return bits(seed, stream, step, start, count, 32)


@dataclass(frozen=True, slots=True)
class WordAddress:
    """Where the words of one use come from; indices are added when they are drawn."""

    seed: int
    """The run's seed, in [0, 2^64)."""
    step: int
    """The batch count, in [0, 2^32)."""
    site: str
    """The static site path ``layer/gemm/slot/purpose[@pass]``."""
    start: int = 0
    """The element of the logical tensor that index 0 stands for: later micro-batches begin behind the earlier ones."""

    @property
    def stream(self) -> int:
        """The stream number of the site."""
        return stream(self.site)

    def bits(self, count: int, r: int, start: int = 0) -> NDArray[np.uint32]:
        """The r-bit words of elements start .. start+count, counted from the address's own start.

        >>> WordAddress(1, 0, "a", start=3).bits(2, 8).tolist() == WordAddress(1, 0, "a").bits(5, 8)[3:].tolist()
        True
        """
        return bits(self.seed, self.stream, self.step, self.start + start, count, r)


def signs(address: WordAddress, n: int, start: int = 0) -> NDArray[np.float32]:
    """n random signs, float32 +1 or -1: element i is -1 iff the top bit of its 8-bit word is set."""
    return np.where(address.bits(n, 8, start) >> 7, np.float32(-1), np.float32(1))


def uniform(address: WordAddress, n: int, low: float = 0.0, high: float = 1.0, start: int = 0) -> NDArray[np.float32]:
    """n values of the grid low + (high - low) (w div 2^8) 2^-24, float64 arithmetic, rounded once to float32."""
    unit = (address.bits(n, 32, start) >> np.uint32(8)).astype(np.float64) * 2.0**-24
    return (low + (high - low) * unit).astype(np.float32)


def normal(address: WordAddress, n: int, std: float = 1.0, start: int = 0) -> NDArray[np.float32]:
    """n standard normal values times `std`, by Box-Muller; element i uses the two words of the pair i div 2.

    With u = (w0 + 1) 2^-32 in (0, 1] and v = w1 2^-32: sqrt(-2 log u) cos(2 pi v) for even i, sin for odd i;
    float64 throughout, rounded once to float32. |value| <= std sqrt(64 log 2) = 6.66 std.
    """
    first = start // 2 * 2
    pairs = (start + n - first + 1) // 2
    w = address.bits(2 * pairs, 32, first).astype(np.float64).reshape(pairs, 2)
    radius = np.sqrt(-2.0 * elementary.log((w[:, 0] + 1.0) * 2.0**-32))
    angle = w[:, 1] * 2.0**-32 * (2.0 * np.pi)
    values = np.stack([radius * elementary.cos(angle), radius * elementary.sin(angle)], axis=-1).reshape(-1)
    return (std * values[start - first : start - first + n]).astype(np.float32)


def _words64(address: WordAddress, n: int, start: int) -> NDArray[np.uint64]:
    """Two consecutive 32-bit words for each element, the first one lowest."""
    w = address.bits(2 * n, 32, 2 * start).astype(np.uint64).reshape(n, 2)
    return w[:, 0] | w[:, 1] << _SHIFT


def integers(address: WordAddress, n: int, bound: int, start: int = 0) -> NDArray[np.int64]:
    """n integers in [0, bound): floor(W bound / 2^64) of a 64-bit word W; each value's probability is within 2^-64 of
    1/bound. `bound` is in [1, 2^32].

    >>> integers(WordAddress(1, 0, "data"), 4, 10).max() < 10
    np.True_
    """
    if not 1 <= bound <= 1 << 32:
        raise WordsError(f"bound is {bound}, not in [1, 2^32]", where="random.integers")
    w = _words64(address, n, start)
    low = (w & _MASK) * np.uint64(bound) >> _SHIFT if bound < 1 << 32 else w & _MASK
    high = (w >> _SHIFT) * np.uint64(bound) if bound < 1 << 32 else (w >> _SHIFT) << _SHIFT
    return ((high + low) >> _SHIFT).astype(np.int64)


def permutation(address: WordAddress, n: int) -> NDArray[np.int64]:
    """A permutation of 0 .. n-1: the order of n 64-bit words, equal words by index.

    >>> sorted(permutation(WordAddress(1, 0, "data"), 5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.argsort(_words64(address, n, 0), kind="stable").astype(np.int64)
