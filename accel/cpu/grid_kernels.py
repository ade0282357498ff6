"""Block statistics and block scales as Numba kernels: what `lpref.ref.scaling` says of a grid of finite amax, bit for bit.

Every scale kernel takes the magnitude bits of amax and fills codes, values and factors, all flat arrays of one length.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu.bitcast import from_bits, to_bits
from lpref.accel.cpu.quantize_kernels import EXPONENT, OPTIONS, TILE

MAGNITUDE = np.int32(0x7FFFFFFF)
FLT_MAX = np.float32(np.finfo(np.float32).max)


@njit(**OPTIONS)
def _of_four(row, n, out):  # type: ignore[no-untyped-def]
    """out[i] <- the largest magnitude bits of row[4 i : 4 i + 4]. (Unsigned indices, which Numba need not test for being negative.)"""
    for i in range(np.uint64(n)):
        j = np.uint64(4) * i
        a, b = np.int32(to_bits(row[j]) & MAGNITUDE), np.int32(to_bits(row[j + np.uint64(1)]) & MAGNITUDE)
        c, d = np.int32(to_bits(row[j + np.uint64(2)]) & MAGNITUDE), np.int32(to_bits(row[j + np.uint64(3)]) & MAGNITUDE)
        out[i] = max(max(a, b), max(c, d))


@njit(**OPTIONS)
def _of_groups(tops, n, size, m):  # type: ignore[no-untyped-def]
    """m[i] <- the largest of m[i] and tops[size i : size i + size]."""
    for i in range(np.uint64(n)):
        top = m[i]
        for k in range(np.uint64(size)):
            top = max(top, tops[np.uint64(size) * i + k])
        m[i] = top


@njit(**OPTIONS)
def amax_rows(x, br, bc, out, r0, r1, first):  # type: ignore[no-untyped-def]
    """out[r div br - first, c div bc] <- the largest magnitude bits of x's rows r0 .. r1 (max with what is there)."""
    C = x.shape[1]
    step = max(1, TILE // bc) * bc
    tops = np.empty(min(step, C) // 4, np.int32)
    for r in range(r0, r1):
        row, m = x[r], out[r // br - first]
        if bc == 1:
            for c in range(C):
                m[c] = max(m[c], to_bits(row[c]) & MAGNITUDE)
            continue
        whole = C // bc * bc if bc % 4 == 0 else 0
        for c0 in range(0, whole, step):
            n = min(step, whole - c0)
            _of_four(row[c0 : c0 + n], n // 4, tops)
            if bc == 16:  # a constant, for vectors
                _of_groups(tops, n // 16, 4, m[c0 // 16 :])
            else:
                _of_groups(tops, n // bc, bc // 4, m[c0 // bc :])
        for b in range(whole // bc, (C + bc - 1) // bc):
            top = m[b]
            for c in range(b * bc, min(b * bc + bc, C)):
                top = max(top, to_bits(row[c]) & MAGNITUDE)
            m[b] = top


@njit(**OPTIONS)
def e4m3(a):  # type: ignore[no-untyped-def]
    """(code, value) of a >= 0 in E4M3, to nearest even, saturated."""
    emin, shift = np.int32((127 - 6) << 23), np.int32((23 - 3) << 23)
    a = min(a, np.float32(448))
    b = max(to_bits(a) & EXPONENT, emin)
    c = from_bits(b + shift)
    return np.uint8((to_bits(a + c) - to_bits(c)) + ((b - emin) >> np.int32(20))), (a + c) - c


@njit(**OPTIONS)
def nvfp4_grid(amax, mult, inverse, codes, values, factors):  # type: ignore[no-untyped-def]
    """d_b, its value and e_b of `lpref.ref.scaling.nvfp4`; mult = S fl32(1/t), inverse = fl32(1/S)."""
    for i in range(amax.size):
        codes[i], value = e4m3(from_bits(amax[i]) * mult)
        values[i] = value
        factors[i] = min(np.float32(1) / (value * inverse), FLT_MAX)


@njit(**OPTIONS)
def torchao_grid(amax, target, outer, inverse, codes, values, factors):  # type: ignore[no-untyped-def]
    """The page's `torchao_scales`; outer = s_t (1 for 0), inverse = fl32(1/s_t)."""
    for i in range(amax.size):
        codes[i], value = e4m3(max(from_bits(amax[i]) / target / outer, np.float32(2.0**-6)))
        values[i] = value
        factors[i] = min(inverse / value, FLT_MAX)


@njit(**OPTIONS)
def one_level_grid(amax, target, eps, divide, codes, values, factors):  # type: ignore[no-untyped-def]
    """`lpref.ref.scaling.amax` with E4M3 scales: value = e4m3(max(amax, eps) / t), at least 2^-9, 1 for 0; the factor is it or 1 / it."""
    for i in range(amax.size):
        a = max(from_bits(amax[i]), eps)
        codes[i], value = e4m3(np.float32(1) if a == np.float32(0) else max(a / target, np.float32(2.0**-9)))
        values[i] = value
        factors[i] = value if divide else np.float32(1) / value


@njit(**OPTIONS)
def four_over_six_grid(amax, target, encode, factor, inverse, codes, values, factors):  # type: ignore[no-untyped-def]
    """One candidate of `lpref.ref.scaling.four_over_six`: d = e4m3(amax / t * S * factor) and e = 1 / (d fl32(1/S))."""
    for i in range(amax.size):
        codes[i], value = e4m3(from_bits(amax[i]) / target * encode * factor)
        values[i] = value
        factors[i] = min(np.float32(1) / (value * inverse), FLT_MAX)


@njit(**OPTIONS)
def mx_grid(amax, mode, emax, threshold, target, codes, values, factors):  # type: ignore[no-untyped-def]
    """E8M0 codes, values and reciprocals of `lpref.ref.scaling.mx` from amax bits.

    mode 0: e = p - emax + (fraction bits >= threshold), which is floor, ceil, even and midmax; mode 1: rceil, target
    = fl32(1 / t); mode 2: tetrajet, target = t.
    """
    for i in range(amax.size):
        a = from_bits(amax[i])
        if mode == 1:
            a = a * target
        elif mode == 2:
            a = a / target
        tiny = to_bits(a) < np.int32(0x00800000)
        big = to_bits(a * np.float32(4294967296.0) if tiny else a)
        p = (big >> np.int32(23)) - np.int32(127) - (np.int32(32) if tiny else np.int32(0))
        fraction = big & np.int32(0x007FFFFF)
        e = p + np.int32(fraction >= threshold) - emax
        e = np.int32(-127) if a == np.float32(0) else min(max(e, np.int32(-127)), np.int32(127))
        codes[i] = np.uint8(e + np.int32(127))
        values[i] = from_bits(max((e + np.int32(127)) << np.int32(23), np.int32(0x00400000)))
        factors[i] = from_bits(max((np.int32(127) - e) << np.int32(23), np.int32(0x00400000)))
