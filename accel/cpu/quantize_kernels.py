r"""Block quantizers as Numba kernels: rows of float32 in; rounded elements, codes and counts out.

Every loop runs over one row segment that stays in the first-level cache and has no branch, so that LLVM turns it into vector
instructions. An element passes two of them, three where its scale divides::

    u = x / factor, or (x * factor) * multiplier              scale_row
    v = the element value nearest to u, or stochastically     nearest_row, stochastic_row; with the counts
    out = v * block scale, or the code of v                   values_row, codes_row

**Rounding without tables.** With the step of the binade, 2^(e - M), e = max(exponent of u, emin), nearest-even is ``(a + c) - c`` for
c = 2^23 steps: float32 addition rounds at exactly that step, and c is an even multiple of it, so ties go where the format's go. Stochastic
rounding (variant A) is ``(trunc(a / step * 2^r) + R) >> r`` in integers: a / step is exact. Integers are the format whose step is 1 up to the
top (M = emin = bits - 1). A code is ``v / step + ((e - emin) << M)`` with the sign put on as the format wants it.

Measured with one thread on a shared Emerald Rapids core: 3 Gelem/s for the rounding loop, 2 stochastic, 4 for the Philox words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu.bitcast import from_bits, to_bits
from lpref.accel.cpu.lanes import WIDTH, copies
from lpref.accel.cpu.random import fill

OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "fastmath": False, "error_model": "numpy"}
TILE = 4096
"""Columns that are worked on at a time: a handful of row buffers fit the first-level cache."""
EXPONENT = np.int32(0x7F800000)


@njit(**OPTIONS)
def spread_row(grid, i, bc, c0, n, out):  # type: ignore[no-untyped-def]
    """out[c] <- grid[i, (c0 + c) div bc] for c < n."""
    row = grid[i]
    if bc == 1:
        part = row[c0 : c0 + n]  # slices, for an index c0 + c may be negative for all that Numba knows
        for c in range(n):
            out[c] = part[c]
        return
    whole = n // bc if bc % WIDTH == 0 and c0 % bc == 0 else 0
    part = row[c0 // bc :]
    for b in range(whole):
        for start in range(b * bc, b * bc + bc, WIDTH):
            copies(out, start, part[b])
    for b in range(c0 // bc + whole, (c0 + n + bc - 1) // bc):
        for c in range(max(b * bc - c0, 0), min(b * bc + bc - c0, n)):
            out[c] = row[b]


@njit(**OPTIONS)
def spread_rows(grid, i, bc, period, c0, n, out):  # type: ignore[no-untyped-def]
    """`spread_row`, where the row is several of `period` elements in the same blocks: then it is one piece."""
    if n <= period:
        spread_row(grid, i, bc, c0, n, out)
        return
    for start in range(0, n, period):
        spread_row(grid, i, bc, 0, period, out[start : start + period])


@njit(**OPTIONS)
def scale_row(x, factor, divide, multiplier, u):  # type: ignore[no-untyped-def]
    """u <- x / factor or x * factor, then * multiplier; float32."""
    if divide:
        for c in range(x.size):
            u[c] = x[c] / factor[c]
    else:
        for c in range(x.size):
            u[c] = x[c] * factor[c]
    if multiplier != np.float32(1):
        for c in range(x.size):
            u[c] = u[c] * multiplier


@njit(**OPTIONS)
def nearest_row(u, n, factor, low, high, emin, shift, v):  # type: ignore[no-untyped-def]
    """v <- the element values nearest to t = u * factor, ties to even, saturating at low and high."""
    for c in range(n):
        t = u[c] * factor[c]
        a = abs(min(max(t, low), high))
        big = from_bits(max(to_bits(a) & EXPONENT, emin) + shift)
        v[c] = np.copysign((a + big) - big, t)


@njit(**OPTIONS)
def stochastic_row(u, n, factor, low, high, words, bits, emin, shift, v):  # type: ignore[no-untyped-def]
    """The same with stochastic rounding (variant A) and `bits`-bit words. (Numba widens sums and shifts: each is cut to 32 bits at once.)"""
    fine, drop = np.int32(np.int32(254 << 23) + (bits << np.int32(23))), np.uint32(bits & np.int32(31))
    for c in range(n):
        t = u[c] * factor[c]
        a = abs(min(max(t, low), high))
        step = np.int32(np.int32(max(np.int32(to_bits(a) & EXPONENT), emin) + shift) - np.int32(23 << 23))
        q = np.int32(np.uint32(np.int32(a * from_bits(np.int32(fine - step))) + np.int32(words[c])) >> drop)
        v[c] = np.copysign(np.float32(q) * from_bits(step), t)


@njit(**OPTIONS)
def over_row(u, n, factor, below, above):  # type: ignore[no-untyped-def]
    """How many u * factor are beyond the limits. (A loop of its own, in int32: inside the rounding loop the count costs three times as much.)"""
    count = np.int32(0)
    for c in range(n):
        t = u[c] * factor[c]
        count = np.int32(count + np.int32(t > above) + np.int32(t < below))
    return count


@njit(**OPTIONS)
def under_row(x, v, scale):  # type: ignore[no-untyped-def]
    """How many x that are not 0 have a v or a scale that is."""
    count = np.int32(0)
    for c in range(x.size):
        count = np.int32(count + np.int32((x[c] != np.float32(0)) & ((v[c] == np.float32(0)) | (scale[c] == np.float32(0)))))
    return count


@njit(**OPTIONS)
def words_row(i0, n, bits, start, step, stream, seed, buffer):  # type: ignore[no-untyped-def]
    """Where the `bits`-bit words of elements start + i0 .. start + i0 + n begin in the buffer (uint32, 4 for each Philox block)."""
    per = 128 // bits
    i0 += np.int64(start)
    g0 = i0 // per
    blocks = (i0 + n - 1) // per - g0 + 1
    fill(buffer[: 4 * blocks], np.uint64(g0), step, stream, seed)
    return i0 - g0 * per


@njit(**OPTIONS)
def codes_row(v, n, emin, shift, trailing, bits, integer, out):  # type: ignore[no-untyped-def]
    """out <- the codes of the element values v: sign and magnitude, or two's complement."""
    drop, sign, mask = np.uint32((23 - trailing) & 31), np.uint32(1 << (bits - 1)), np.int32((1 << bits) - 1)
    down = np.uint32((32 - bits) & 31)
    if integer:
        for c in range(n):
            value = np.int32(v[c])
            out[c] = value & mask
        return
    for c in range(n):
        a = abs(v[c])
        b = max(np.int32(to_bits(a) & EXPONENT), emin)
        big = np.int32(b + shift)
        position = np.uint32(np.int32(to_bits(a + from_bits(big)) - big)) + np.uint32(np.uint32(np.int32(b - emin)) >> drop)
        out[c] = np.uint32(np.uint32(position) | np.uint32(np.uint32(np.uint32(to_bits(v[c])) >> down) & sign))


@njit(**OPTIONS)
def values_row(v, n, scale, zero, out, c0):  # type: ignore[no-untyped-def]
    """out[c0:] <- v * scale + zero: adding -0 changes nothing, adding +0 gives integers their one zero."""
    part = out[c0 : c0 + n]
    for c in range(n):
        part[c] = v[c] * scale[c] + zero


@njit(**OPTIONS)
def packed_row(codes, n, bits, out, c0):  # type: ignore[no-untyped-def]
    """The row `out` <- n codes from element c0 on (a multiple of 8), packed as `lpref.ref.quantize.packing.pack` does."""
    if bits == 8 or bits > 6 or bits == 3 or bits == 5:
        part = out[c0 : c0 + n]
        for c in range(n):
            part[c] = codes[c]
        return
    part = out[c0 * bits // 8 : (c0 + n) * bits // 8 + 1]
    groups = n * bits // (24 if bits == 6 else 8)
    done = groups * (4 if bits == 6 else 8 // bits)
    if bits == 4:
        for i in range(groups):
            part[i] = codes[2 * i] | (codes[2 * i + 1] << 4)
    elif bits == 6:
        for i in range(groups):
            a, b, c, d = codes[4 * i], codes[4 * i + 1], codes[4 * i + 2], codes[4 * i + 3]
            part[3 * i] = a | (b << 6)
            part[3 * i + 1] = (b >> 2) | (c << 4)
            part[3 * i + 2] = (c >> 4) | (d << 2)
    elif bits == 2:
        for i in range(groups):
            part[i] = codes[4 * i] | (codes[4 * i + 1] << 2) | (codes[4 * i + 2] << 4) | (codes[4 * i + 3] << 6)
    else:
        done = 0
    at, held, pending = done * bits // 8, 0, 0
    for i in range(done, n):
        pending |= codes[i] << held
        held += bits
        if held >= 8:
            part[at] = pending & 255
            at, held, pending = at + 1, held - 8, pending >> 8
    if held:
        part[at] = pending


@njit(**OPTIONS)
def store_codes(v, n, f, wide, out, c0):  # type: ignore[no-untyped-def]
    """The codes of n element values into the row `out`, from element c0 on; `wide` is scratch."""
    if f[3] == 1 or f[3] == 2 or f[3] == 4 or f[3] == 6:
        codes_row(v, n, f[0], f[1], f[2], f[3], f[4], wide)
        packed_row(wide, n, f[3], out, c0)
    else:
        codes_row(v, n, f[0], f[1], f[2], f[3], f[4], out[c0 : c0 + n])


@njit(**OPTIONS)
def run(x, br, bc, period, factors, scales, divide, multiplier, limits, f, words, bits, address, values, codes, r0, r1):  # type: ignore[no-untyped-def]
    """Rows r0 .. r1 of a block quantizer; returns (overflowed, underflowed).

    x, values: float32 [R, C] (may be one array); a row is one of the operand or several of `period` elements each. factors, scales:
    float32 grids. limits: float32 (low, high, overflow low, overflow high).
    f: int32 (emin bits, shift, trailing bits, bits, integer). bits: 0 nearest-even, 8 or 16 stochastic; words: int32 [R, C], or empty and
    address = uint64 (start, step, stream, seed). codes: the rows packed. Empty values and codes None are not wanted
    (None, so that the code which makes them is not compiled).
    """
    C = x.shape[1]
    width = min(C, TILE)
    factor, scale = np.ones(width, np.float32), np.empty(width, np.float32)
    u, v, spread = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    buffer = np.empty(4 * (width * max(bits, 1) // 128 + 2), np.uint32)
    wide = np.empty(width, np.uint8)
    early = divide or multiplier != np.float32(1)  # u is made beforehand, and the factor left is 1
    over, under = 0, 0
    for c0 in range(0, C, TILE):
        n = min(TILE, C - c0)
        for r in range(r0, r1):
            if r == r0 or r % br == 0:
                spread_rows(factors, r // br, bc, period, c0, n, spread if early else factor)
                spread_rows(scales, r // br, bc, period, c0, n, scale)
            row = x[r, c0 : c0 + n]
            source = row
            if early:
                scale_row(row, spread, divide, multiplier, u)
                source = u
            if bits == 0:
                nearest_row(source, n, factor, limits[0], limits[1], f[0], f[1], v)
            else:
                rounding = (source, n, factor, limits[0], limits[1])
                if words.size:
                    stochastic_row(*rounding, words[r, c0 : c0 + n], np.int32(bits), f[0], f[1], v)
                else:
                    skip = words_row(r * C + c0, n, bits, address[0], address[1], address[2], address[3], buffer)
                    if bits == 8:
                        stochastic_row(*rounding, buffer.view(np.uint8)[skip : skip + n], np.int32(8), f[0], f[1], v)
                    else:
                        stochastic_row(*rounding, buffer.view(np.uint16)[skip : skip + n], np.int32(16), f[0], f[1], v)
            under += under_row(row, v, scale)
            over += over_row(source, n, factor, limits[2], limits[3])
            if codes is not None:
                store_codes(v, n, f, wide, codes[r], c0)
            if values.size:
                values_row(v, n, scale, np.float32(-0.0) if f[4] == 0 else np.float32(0), values[r], c0)
    return over, under
