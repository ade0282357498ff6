r"""The casts as Numba kernels: float32 bits in, codes out, integer arithmetic only.

One formula serves every ExMy format and every integer (an integer is a format whose spacing is 1 everywhere). With the
biased exponent e and the significand s of |x|, D = 23 - M + max(emin - e, 0) bits are discarded,

    position = (s >> D) + (max(e - emin, 0) << M),       T = floor(nu 2^32) = the discarded bits, left-aligned,

and every rounding is one 32-bit `add`: up iff T + add carries.

| rounding                     | add                                                                  |
|------------------------------|----------------------------------------------------------------------|
| nearest_even                 | 7FFFFFFF + (position odd)                                            |
| nearest_away, _toward_zero   | 80000000, 7FFFFFFF                                                   |
| toward_zero                  | 0                                                                    |
| toward_positive, _negative   | FFFFFFFF for that sign, else 0                                       |
| to_odd                       | FFFFFFFF where the position is even, else 0                          |
| stochastic (A), r bits R     | R << (32 - r)                                                        |

so that deterministic modes are three scalars: add = base + (odd & c_odd) + (-negative & c_neg) (mod 2^32). `*_clamp` kernels
serve the policies whose overflow and infinity are both one clamp of the position (saturation, and infinity or NaN next
to the largest finite code); the `*_any` kernels serve every policy, two's complement and FNUZ.
Implements `lpref.ref.formats.Format.encode` on float32; contract: Bits. Each returns the largest magnitude bits seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu.prefetch import ahead
from lpref.accel.cpu.random import philox_block

FIELDS = (
    "shift", "emin", "limit_pos", "limit_neg", "over_pos", "over_neg", "inf_pos", "inf_neg", "nan", "sign",
    "sign_of_zero", "flip", "one", "mask", "use_sign", "base", "c_odd", "c_neg",
)  # fmt: skip
"""The scalars of a plan, in the order of the uint32 array that the kernels take."""

BLOCK, AHEAD = 256, 2048
FAR = 1 << 20
"""Elements from which the arrays are taken to lie beyond the caches."""

_INLINE = njit(nogil=True, error_model="numpy", forceinline=True)
_KERNEL = njit(nogil=True, error_model="numpy", cache=True)
_INF = np.uint32(0x7F800000)
_ABS = np.uint32(0x7FFFFFFF)
_0, _1, _31 = np.uint32(0), np.uint32(1), np.uint32(31)


@_INLINE
def _right(x: Any, d: Any) -> Any:
    """x >> d for d in 0 .. 31: the mask lets LLVM shift 32-bit lanes (Numba widens integers to 64 bits)."""
    return np.uint32(x >> np.uint32(d & _31))


@_INLINE
def _left(x: Any, d: Any) -> Any:
    """x << d mod 2^32 for d in 0 .. 31."""
    return np.uint32(x << np.uint32(d & _31))


@_INLINE
def _locate(a: Any, shift: Any, emin: Any) -> Any:
    """Magnitude bits -> (s, D, whole): position = (s >> D) + whole. D is in 0 .. 31.

    Where more than 31 bits go, 31 stand for them: nu stays below every threshold of the nearest modes, and s != 0, which
    is all that the directed ones ask for.
    """
    e = np.int32(a >> np.uint32(23))
    s = np.uint32(np.uint32(a & np.uint32(0x7FFFFF)) | (np.uint32(0x800000) if e > 0 else _0))
    gap = np.int32(emin - max(e, np.int32(1)))
    d = min(np.uint32(shift + np.uint32(max(gap, np.int32(0)))), _31)
    return s, d, _left(np.uint32(max(np.int32(-gap), np.int32(0))), np.uint32(np.uint32(23) - shift))


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
def _rounded(s: Any, d: Any, whole: Any, add: Any) -> Any:
    """(s >> d) + whole, plus the carry of the discarded bits and `add`.

    (s + (add >> (32 - d))) >> d: one addition; a comparison for the carry would not be vectorised by LLVM.
    """
    return np.uint32(_right(np.uint32(s + _right(np.uint32(add >> _1), np.uint32(_31 - d))), d) + whole)


@_INLINE
def _finish(position: Any, a: Any, negative: Any, p: Any) -> Any:
    """A position and the source's magnitude bits -> the code under any policy."""
    m = np.uint32(_0 - negative)
    over = position > (p[3] if negative else p[2])
    body = np.uint32(np.uint32(position ^ np.uint32(m & p[11])) + np.uint32(negative & p[12]))
    body = np.uint32(np.uint32(body | np.uint32(m & (p[10] if position == 0 else p[9]))) & p[13])
    body = np.uint32((p[5] if negative else p[4]) if over else body)
    body = np.uint32((p[7] if negative else p[6]) if a == _INF else body)
    return np.uint32(p[8] if a > _INF else body)


@_INLINE
def _scalars(q: Any) -> Any:
    return (q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7], q[8], q[9], q[10], q[11], q[12], q[13], q[14])


@_KERNEL
def encode_clamp(u: Any, out: Any, q: Any) -> Any:
    """Deterministic roundings; sign and magnitude; overflow and infinity are clamps."""
    shift, emin, limit, nan, sign = q[0], np.int32(q[1]), q[2], q[8], q[9]
    base, c_odd, c_neg = q[15], q[16], q[17]
    top = _0
    for i in range(u.size):
        a = np.uint32(u[i] & _ABS)
        top = max(top, a)
        negative = np.uint32(u[i] >> _31)
        s, d, whole = _locate(a, shift, emin)
        odd = np.uint32(np.uint32(_right(s, d) + whole) & _1)
        add = np.uint32(base + np.uint32(odd & c_odd) + np.uint32(np.uint32(_0 - negative) & c_neg))
        body = np.uint32(min(_rounded(s, d, whole, add), limit) | (sign if negative else _0))
        out[i] = nan if a > _INF else body
    return top


@_KERNEL
def encode_shift(u: Any, out: Any, q: Any) -> Any:
    """`encode_clamp` for formats with float32's exponent (bfloat16, TF32): D is the same everywhere."""
    d, limit, nan, sign = q[0], q[2], q[8], q[9]
    up = np.uint32(np.uint32(32) - d)
    base, c_odd, c_neg = np.uint32(q[15] >> up), q[16], q[17]
    wrap = np.uint32(np.uint32(_1 << d) - _1)
    top = _0
    for i in range(u.size):
        a = np.uint32(u[i] & _ABS)
        top = max(top, a)
        negative = np.uint32(u[i] >> _31)
        odd = np.uint32(_right(a, d) & _1)
        add = np.uint32(np.uint32(base + np.uint32(odd & c_odd) + np.uint32(np.uint32(_0 - negative) & c_neg)) & wrap)
        body = np.uint32(min(_right(np.uint32(a + add), d), limit) | (sign if negative else _0))
        out[i] = nan if a > _INF else body
    return top


@_KERNEL
def encode_clamp_far(u: Any, out: Any, q: Any) -> Any:
    """`encode_clamp` for arrays beyond the caches: the same, asking for both arrays' lines `AHEAD` elements early."""
    top = _0
    for i in range(0, u.size, BLOCK):
        _ask(u, out, i)
        top = max(top, encode_clamp(u[i : i + BLOCK], out[i : i + BLOCK], q))
    return top


@_KERNEL
def encode_shift_far(u: Any, out: Any, q: Any) -> Any:
    """`encode_shift` for arrays beyond the caches."""
    top = _0
    for i in range(0, u.size, BLOCK):
        _ask(u, out, i)
        top = max(top, encode_shift(u[i : i + BLOCK], out[i : i + BLOCK], q))
    return top


@_INLINE
def _ask(u: Any, out: Any, i: Any) -> None:
    for j in range(0, BLOCK, 64 // 4):
        ahead(u, i + AHEAD + j)
    for j in range(0, BLOCK, 64 // out.itemsize):
        ahead(out, i + AHEAD + j)


@_KERNEL
def encode_any(u: Any, out: Any, q: Any) -> Any:
    """Deterministic roundings under every policy, for every float and integer format."""
    p = _scalars(q)
    base, c_odd, c_neg = q[15], q[16], q[17]
    top = _0
    for i in range(u.size):
        a = np.uint32(u[i] & _ABS)
        top = max(top, a)
        negative = np.uint32(np.uint32(u[i] >> _31) & p[14])
        s, d, whole = _locate(a, p[0], np.int32(p[1]))
        odd = np.uint32(np.uint32(_right(s, d) + whole) & _1)
        add = np.uint32(base + np.uint32(odd & c_odd) + np.uint32(np.uint32(_0 - negative) & c_neg))
        out[i] = _finish(_rounded(s, d, whole, add), a, negative, p)
    return top


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


@_INLINE
def _key(u: Any) -> Any:
    """float32 bits -> int32 that orders like the values, -0 just below +0."""
    i = np.int32(u)
    return np.int32(i ^ np.int32(np.uint32(i >> np.int32(31)) & _ABS))


@_KERNEL
def encode_steps(u: Any, out: Any, thresholds: Any, codes: Any, specials: Any) -> Any:
    """A deterministic cast is a step function of x: codes[how many thresholds <= x], thresholds as ordered keys.

    thresholds: int32, at most 15, or 511 padded with the largest key. specials: codes of +infinity, -infinity, NaN.
    """
    top = _0
    n = thresholds.size
    for i in range(u.size):
        a = np.uint32(u[i] & _ABS)
        top = max(top, a)
        key = _key(u[i])
        rank = 0
        if n < 16:
            for j in range(n):
                rank += key >= thresholds[j]
        else:
            for level in range(9):
                half = 256 >> level
                rank += half if key >= thresholds[rank + half - 1] else 0
        code = codes[rank]
        if a >= _INF:
            code = specials[2] if a > _INF else specials[u[i] >> _31]
        out[i] = code
    return top


@_KERNEL
def decode_table(codes: Any, table: Any, out: Any) -> None:
    """out[i] = table[codes[i]]."""
    for i in range(codes.size):
        out[i] = table[codes[i]]


@_KERNEL
def decode_shift(codes: Any, up: Any, out: Any) -> None:
    """Formats with float32's exponent: the code is the top of the float32. out: uint32 view of the result."""
    for i in range(codes.size):
        out[i] = _left(np.uint32(codes[i]), up)


@_KERNEL
def fill_words(lanes: Any, first: Any, step: Any, stream: Any, seed: Any) -> None:
    """lanes [4 blocks] uint32 <- the Philox4x32-10 blocks first, first + 1, ..."""
    for b in range(lanes.size // 4):
        w0, w1, w2, w3 = philox_block(first + np.uint64(b), step, stream, seed)
        lanes[4 * b] = np.uint32(w0)
        lanes[4 * b + 1] = np.uint32(w1)
        lanes[4 * b + 2] = np.uint32(w2)
        lanes[4 * b + 3] = np.uint32(w3)
