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

so that the modes are three scalars: add = base + (odd & c_odd) + (-negative & c_neg) (mod 2^32). `*_clamp` kernels
serve the policies whose overflow and infinity are both one clamp of the position (saturation, and infinity or NaN next
to the largest finite code); the `*_any` kernels serve every policy, two's complement and FNUZ.
Stochastic roundings are in `cast_stochastic`.
Implements `lpref.ref.formats.Format.encode` on float32; contract: Bits. Each returns the largest magnitude bits seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu.prefetch import ask
from lpref.accel.cpu.table import look, put, take

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
def _addend(odd: Any, negative: Any, base: Any, c_odd: Any, c_neg: Any) -> Any:
    """What a rounding adds to the discarded bits: base + (odd & c_odd) + (-negative & c_neg) mod 2^32; odd, negative: 0 or 1."""
    return np.uint32(base + np.uint32(odd & c_odd) + np.uint32(np.uint32(_0 - negative) & c_neg))


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
        add = _addend(odd, negative, base, c_odd, c_neg)
        body = np.uint32(min(_rounded(s, d, whole, add), limit) | (sign if negative else _0))
        out[i] = nan if a > _INF else body
    return top


@_INLINE
def _shift_scalars(q: Any) -> Any:
    """(D, the addend's base at D bits, its two masks, the mask of D bits, limit) of a format with float32's exponent."""
    return q[0], np.uint32(q[15] >> np.uint32(np.uint32(32) - q[0])), q[16], q[17], np.uint32(np.uint32(_1 << q[0]) - _1), q[2]


@_INLINE
def _shifted(bits: Any, d: Any, base: Any, c_odd: Any, c_neg: Any, wrap: Any, limit: Any) -> Any:
    """The magnitude's code in a format with float32's exponent: its D lowest bits are rounded off."""
    a = np.uint32(bits & _ABS)
    odd = np.uint32(_right(a, d) & _1)
    add = np.uint32(_addend(odd, np.uint32(bits >> _31), base, c_odd, c_neg) & wrap)
    return np.uint32(min(_right(np.uint32(a + add), d), limit))


@_KERNEL
def encode_shift(u: Any, out: Any, q: Any) -> Any:
    """`encode_clamp` for formats with float32's exponent (bfloat16, TF32): D is the same everywhere."""
    (d, base, c_odd, c_neg, wrap, limit), nan, sign = _shift_scalars(q), q[8], q[9]
    top = _0
    for i in range(u.size):
        a = np.uint32(u[i] & _ABS)
        top = max(top, a)
        body = np.uint32(_shifted(u[i], d, base, c_odd, c_neg, wrap, limit) | (sign if np.uint32(u[i] >> _31) else _0))
        out[i] = nan if a > _INF else body
    return top


@_KERNEL
def round_shift(u: Any, out: Any, q: Any) -> Any:
    """`encode_shift`, then `decode_shift`: the values, as float32 patterns."""
    (d, base, c_odd, c_neg, wrap, limit), nan = _shift_scalars(q), _left(q[8], q[0])
    top = _0
    for i in range(u.size):
        a = np.uint32(u[i] & _ABS)
        top = max(top, a)
        body = np.uint32(_left(_shifted(u[i], d, base, c_odd, c_neg, wrap, limit), d) | np.uint32(u[i] & np.uint32(~_ABS)))
        out[i] = nan if a > _INF else body
    return top


@_KERNEL
def encode_clamp_far(u: Any, out: Any, q: Any) -> Any:
    """`encode_clamp` for arrays beyond the caches: the same, asking for both arrays' lines `AHEAD` elements early."""
    top = _0
    for i in range(0, u.size, BLOCK):
        ask(u, out, i + AHEAD, BLOCK)
        top = max(top, encode_clamp(u[i : i + BLOCK], out[i : i + BLOCK], q))
    return top


@_KERNEL
def encode_shift_far(u: Any, out: Any, q: Any) -> Any:
    """`encode_shift` for arrays beyond the caches."""
    top = _0
    for i in range(0, u.size, BLOCK):
        ask(u, out, i + AHEAD, BLOCK)
        top = max(top, encode_shift(u[i : i + BLOCK], out[i : i + BLOCK], q))
    return top


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
        add = _addend(odd, negative, base, c_odd, c_neg)
        out[i] = _finish(_rounded(s, d, whole, add), a, negative, p)
    return top


@_KERNEL
def encode_buckets(u: Any, out: Any, entries: Any) -> Any:
    """Any deterministic cast to 8-bit codes by `cells`: one look-up, one comparison."""
    top = _0
    for i in range(u.size):
        bits = take(u, i)
        top = max(top, np.uint32(bits & _ABS))
        entry = look(entries, np.uint32(bits >> np.uint32(16)))
        behind = np.uint32(bits & np.uint32(0xFFFF)) >= np.uint32(entry >> np.uint32(16))
        put(out, i, np.uint32(entry >> np.uint32(8)) if behind else entry)
    return top


@_KERNEL
def encode_cells(u: Any, out: Any, first: Any, entries: Any) -> Any:
    """Any deterministic cast to codes of up to 16 bits: `encode_buckets` with a look-up of the cell before."""
    top = _0
    for i in range(u.size):
        bits = take(u, i)
        top = max(top, np.uint32(bits & _ABS))
        bucket = look(first, np.uint32(bits >> np.uint32(16)))
        low = np.uint32(bits & np.uint32(0xFFFF))
        entry = look(entries, np.uint32(np.uint32(bucket >> np.uint32(5)) + _right(low, bucket)))
        put(out, i, np.uint64(entry >> np.uint64(16)) if low >= np.uint64(entry >> np.uint64(32)) else entry)
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
