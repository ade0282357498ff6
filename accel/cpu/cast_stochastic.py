r"""Stochastic casts as Numba kernels, with given words or with the words of a stream made on the way.

`stochastic` (A): up iff floor(nu 2^r) + R >= 2^r, i.e. iff floor(nu 2^32) + (R << (32 - r)) carries: the same 32-bit
addition as the deterministic roundings of `cast_kernels`. Variants B and C need r + 1 bits and have a plain kernel; formats
without a formula have a table of neighbours (`cells.Neighbours`).
Words: Philox4x32-10 blocks, element i takes bits [r j, r (j + 1)) of block i div (128 / r), as `lpref.ref.random.bits`.
Implements `lpref.ref.formats.Format.encode` on float32; contract: Bits. Each returns the largest magnitude bits seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cpu.bitcast import from_bits
from lpref.accel.cpu.cast_kernels import _ABS, _INF, _INLINE, _KERNEL, _0, _1, _31, _finish, _left, _right, _scalars
from lpref.accel.cpu.philox import BLOCKS, eight_blocks
from lpref.accel.cpu.prefetch import ask
from lpref.accel.cpu.table import look, put, take

WORDS = 1 << 11
"""Elements whose random words are made at a time: at most 8 KiB, which stay in the first cache. Meanwhile the next ones are asked for."""
_GROUP = 4 * BLOCKS


@_INLINE
def _stochastic(a: Any, shift: Any, emin: Any, add: Any) -> Any:
    """The position that `stochastic` gives: up iff floor(nu 2^32) + add carries, for any D.

    Beyond D = 31 the sum is taken at 31 bits; the bit below (`b`) meets add's lowest bit in a carry of its own.
    """
    e = np.int32(a >> np.uint32(23))
    s = np.uint32(np.uint32(a & np.uint32(0x7FFFFF)) | (np.uint32(0x800000) if e > 0 else _0))
    gap = np.int32(emin - max(e, np.int32(1)))
    d = np.uint32(shift + np.uint32(max(gap, np.int32(0))))
    near = min(d, _31)
    far = min(np.uint32(d - near), _31)
    b = np.uint32(_right(np.uint32(s << _1), far) & _1) if far > 0 else _0
    half = np.uint32(np.uint32(add >> _1) + np.uint32(add & b))
    whole = _left(np.uint32(max(np.int32(-gap), np.int32(0))), np.uint32(np.uint32(23) - shift))
    return np.uint32(_right(np.uint32(_right(s, far) + _right(half, np.uint32(_31 - near))), near) + whole)


@_INLINE
def _up(rest: Any, d: Any, word: Any, r: Any, variant: Any) -> Any:
    """Does nu = rest / 2^d go up with the r-bit word? At r + 1 bits, so that the halves of B and C are whole."""
    drop = d - (r + 1)
    if drop <= 0:
        t, lost = rest << -drop, False
    elif drop < 63:
        t, lost = rest >> drop, rest & ((np.int64(1) << drop) - 1) != 0
    else:
        t, lost = np.int64(0), rest != 0
    full = np.int64(1) << (r + 1)
    if variant == 1:
        up = t + 2 * word + 1 >= full
    else:
        threshold = full - 2 * word - 1
        up = t > threshold or (t == threshold and (lost or word & 1 == 0))
    return _1 if up else _0


@_KERNEL
def encode_words_clamp(u: Any, out: Any, q: Any, words: Any, r: Any) -> Any:
    """`stochastic` with r-bit words (unsigned array of u's size; the low r bits are used), policies that clamp."""
    shift, emin, limit, nan, sign = q[0], np.int32(q[1]), q[2], q[8], q[9]
    left = np.uint32(np.uint32(32) - r)
    top = _0
    for i in range(u.size):
        a = np.uint32(u[i] & _ABS)
        top = max(top, a)
        position = _stochastic(a, shift, emin, _left(np.uint32(words[i]), left))
        body = np.uint32(min(position, limit) | (sign if np.uint32(u[i] >> _31) else _0))
        out[i] = nan if a > _INF else body
    return top


@_KERNEL
def encode_words_shift(u: Any, out: Any, q: Any, words: Any, r: Any) -> Any:
    """`encode_words_clamp` for formats with float32's exponent."""
    d, limit, nan, sign = q[0], q[2], q[8], q[9]
    left, up = np.uint32(np.uint32(32) - r), np.uint32(np.uint32(32) - d)
    top = _0
    for i in range(u.size):
        a = np.uint32(u[i] & _ABS)
        top = max(top, a)
        add = _right(_left(np.uint32(words[i]), left), up)
        body = np.uint32(min(_right(np.uint32(a + add), d), limit) | (sign if np.uint32(u[i] >> _31) else _0))
        out[i] = nan if a > _INF else body
    return top


@_KERNEL
def encode_words_any(u: Any, out: Any, q: Any, words: Any, r: Any) -> Any:
    """`stochastic` under every policy, for every float and integer format."""
    p = _scalars(q)
    left = np.uint32(np.uint32(32) - r)
    top = _0
    for i in range(u.size):
        a = np.uint32(u[i] & _ABS)
        top = max(top, a)
        negative = np.uint32(np.uint32(u[i] >> _31) & p[14])
        out[i] = _finish(_stochastic(a, p[0], np.int32(p[1]), _left(np.uint32(words[i]), left)), a, negative, p)
    return top


@_KERNEL
def encode_words_bc(u: Any, out: Any, q: Any, words: Any, r: Any, variant: Any) -> Any:
    """`stochastic_b` (variant 1) and `stochastic_c` (2), which need r + 1 bits of nu; 64-bit integers."""
    p = _scalars(q)
    top = _0
    for i in range(u.size):
        a = np.uint32(u[i] & _ABS)
        top = max(top, a)
        negative = np.uint32(np.uint32(u[i] >> _31) & p[14])
        e = np.int64(a >> np.uint32(23))
        s = np.int64(a & np.uint32(0x7FFFFF)) + (np.int64(0x800000) if e > 0 else np.int64(0))
        gap = np.int64(p[1]) - max(e, np.int64(1))
        d = np.int64(p[0]) + max(gap, np.int64(0))
        position = np.uint32((s >> min(d, np.int64(63))) + (max(-gap, np.int64(0)) << (np.int64(23) - np.int64(p[0]))))
        rest = s & ((np.int64(1) << min(d, np.int64(62))) - np.int64(1))
        word = np.int64(words[i]) & ((np.int64(1) << np.int64(r)) - np.int64(1))
        out[i] = _finish(np.uint32(position + _up(rest, d, word, np.int64(r), variant)), a, negative, p)
    return top


@_KERNEL
def encode_words_table(u: Any, out: Any, table: Any, words: Any, r: Any, variant: Any) -> Any:
    """All three variants (0 is A) for formats that are a table; `table` is that of `cells.Neighbours`.

    nu = (|x| - lower) / width goes up iff 2^(r+1) (|x| - lower) reaches width k, k = 2 (2^r - R) and 1 less in B and C (where C
    sends ties to the even count); the products are exact in float64, which is asked of the format beforehand.
    """
    first, entries, lower, width, above = table
    half, mask = np.uint32(lower.size // 2), _right(np.uint32(0xFFFFFFFF), np.uint32(np.uint32(32) - r))
    scale = np.float64(mask) * 2.0 + 2.0
    whole = scale - (1.0 if variant else 0.0)
    odd = _1 if variant == 2 else _0
    top = _0
    for i in range(u.size):
        bits = take(u, i)
        a = np.uint32(bits & _ABS)
        top = max(top, a)
        bucket, low = look(first, np.uint32(bits >> np.uint32(16))), np.uint32(bits & np.uint32(0xFFFF))
        entry = look(entries, np.uint32(np.uint32(bucket >> np.uint32(5)) + _right(low, bucket)))
        shift = np.uint64(16) if low >= np.uint32(entry >> np.uint64(32)) else np.uint64(0)
        code = np.uint32(np.uint32(entry >> shift) & np.uint32(0xFFFF))
        at = np.uint32(code + (half if np.uint32(bits >> _31) else _0))
        word, other = np.uint32(np.uint32(take(words, i)) & mask), np.uint32(look(above, at))
        left = (np.float64(from_bits(np.int32(a))) - look(lower, at)) * scale
        right = look(width, at) * (whole - np.float64(word) * 2.0)
        tie = np.uint32(word & odd) == _0
        put(out, i, other if (left > right) | ((left == right) & tie) else code)
    return top


@_KERNEL
def encode_words(kind: Any, u: Any, out: Any, q: Any, table: Any, words: Any, r: Any, variant: Any) -> Any:
    """The kernel of a kind: 0 shift, 1 clamp, 2 any, 3 bc, 4 table."""
    if kind == 0:
        return encode_words_shift(u, out, q, words, r)
    if kind == 1:
        return encode_words_clamp(u, out, q, words, r)
    if kind == 2:
        return encode_words_any(u, out, q, words, r)
    if kind == 3:
        return encode_words_bc(u, out, q, words, r, variant)
    return encode_words_table(u, out, table, words, r, variant)


@_KERNEL
def encode_drawn(
    kind: Any, u: Any, out: Any, q: Any, table: Any, lanes: Any, words: Any, r: Any, variant: Any, first: Any, step: Any,
    stream: Any, seed: Any,
) -> Any:  # fmt: skip
    """`encode_words`, element i with the r-bit word of element first + i of the stream.

    lanes: the buffer of `buffer`; words: the same memory in the unsigned dtype of r bits.
    Between the vectors of words, memory is asked for the next elements: making words needs no memory, rounding waits for it.
    """
    top = _0
    in_block = np.uint64(128) // np.uint64(r)
    each = np.int64(in_block) * BLOCKS  # elements that a group has words for
    for i in range(0, u.size, WORDS):
        n = min(WORDS, u.size - i)
        begin = first + np.uint64(i)
        skip = np.int64(begin % in_block)
        for j in range((skip + n + each - 1) // each):
            ask(u, out, i + WORDS + each * j, each)
            eight_blocks(lanes, _GROUP * j, begin // in_block + np.uint64(BLOCKS * j), step, stream, seed)
        top = max(top, encode_words(kind, u[i : i + n], out[i : i + n], q, table, words[skip : skip + n], r, variant))
    return top


def buffer(r: int) -> np.ndarray:
    """The uint32 buffer of `encode_drawn`: words of `WORDS` elements that begin anywhere in a block, in whole groups."""
    return np.empty(_GROUP * (-(-(WORDS * r // 128 + 1) // BLOCKS)), np.uint32)
