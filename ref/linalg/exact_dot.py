"""Exact dot products, rounded once.

Values are multiples of 2^quantum below 2^top. Where ``2 w + log2 K <= 53`` bits hold every partial sum, a float64 product of
integers is exact in any order, so BLAS computes it. Wider operands (E5M2: 32 bits) are cut into fixed-point slices of w bits:

    a = sum_i A_i 2^(i w),  |A_i| < 2^w integers;      a . b = sum_d G_d 2^(d w),  G_d = sum_{i+j=d} A_i . B_j

Each G_d is an exact integer. Carries make |G_d| <= 2^(w-1) below the top, and the digits are added from the lowest with
rounding to odd, so that the conversion to float32 is the only rounding (Boldo and Melquiond, "Emulation of FMA and correctly
rounded sums: proved algorithms using rounding to odd", IEEE Trans. Computers 57(4), 2008).

NaN and infinities of the operands give what IEEE arithmetic gives; a zero result is +0.

What a register needs: E4M3 products are multiples of 2^-18 below 2^17.7, so 64 bits hold K = 2^27 of them; E5M2: of 2^-32 below 2^31.7, 96 bits
to K = 2^32; E2M1: of 2^-2 up to 36, so that float32 itself is exact to K = 116508; INT8: 32 bits to K = 133144 (127 127).

Source: computed from the formats; the article named above (from memory).
Pitfalls: a float64 sum of E4M3 products is exact only below 2^(53 - 18) = 2^35; a wide sum converted to float32 through float64 is rounded twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import FormatError

F64 = NDArray[np.float64]
Grid = tuple[int, int]
"""(quantum, top): every value is a multiple of 2^quantum and below 2^top in magnitude."""

MAX_SLICES = 16


def grid_of(values: Any) -> Grid:
    """The tightest grid of the finite values; (0, 0) if all are zero.

    >>> grid_of([0.75, -6.0])
    (-2, 3)
    """
    v = np.asarray(values, np.float64)
    v = v[np.isfinite(v) & (v != 0)]
    if v.size == 0:
        return 0, 0
    fraction, exponent = np.frexp(v)
    significand = np.ldexp(np.abs(fraction), 53).astype(np.int64)
    lowest = np.frexp((significand & -significand).astype(np.float64))[1] - 1
    return int(np.min(exponent - 53 + lowest)), int(np.max(exponent))


def odd_add(a: F64, b: F64) -> F64:
    """a + b rounded to odd: exact, or the neighbour whose last significand bit is 1."""
    with np.errstate(invalid="ignore"):
        s = np.asarray(a + b)
        t = s - a
        error = (a - (s - t)) + (b - t)
    bits = s.view(np.int64)
    inexact = ((error > 0) | (error < 0)) & (bits & 1 == 0)  # false for NaN errors of infinite sums
    step = np.where((error > 0) == (s > 0), 1, -1)
    return np.where(inexact, bits + step, bits).view(np.float64)


def exact_dot(a: F64, b: F64, grid_a: Grid | None = None, grid_b: Grid | None = None) -> NDArray[np.float32]:
    """[M, K] and [N, K] -> [M, N]: each exact dot product rounded once to float32. Grids default to those of the values."""
    finite = bool(np.isfinite(a).all() and np.isfinite(b).all())
    x, y = (a, b) if finite else (np.where(np.isfinite(v), v, 0.0) for v in (a, b))
    (qa, ta), (qb, tb) = grid_a or grid_of(x), grid_b or grid_of(y)
    log_k = max(a.shape[1] - 1, 0).bit_length()
    if ta - qa + tb - qb + log_k <= 53:
        out = (x @ y.T + 0.0).astype(np.float32)  # exact: every product and partial sum is below 2^53 quanta
    else:
        out = _sliced(x, y, (qa, ta), (qb, tb), log_k)
    if not finite:
        with np.errstate(invalid="ignore"):
            raw = a @ b.T  # exact: used only where NaN or an infinity decides, in any order
        out = np.where(np.isfinite(raw), out, raw.astype(np.float32))
    return out


def _sliced(a: F64, b: F64, grid_a: Grid, grid_b: Grid, log_k: int) -> NDArray[np.float32]:
    width = (53 - 5 - log_k) // 2  # 5 bits: at most 16 pairs in a digit, and a carry
    slices_a, slices_b = _slices(a, grid_a, width), _slices(b, grid_b, width)
    digits = [np.zeros((a.shape[0], b.shape[0])) for _ in range(len(slices_a) + len(slices_b) - 1)]
    for i, piece_a in enumerate(slices_a):
        for j, piece_b in enumerate(slices_b):
            digits[i + j] += piece_a @ piece_b.T  # exact: integers below 2^53
    for d in range(len(digits) - 1):
        carry = np.rint(np.ldexp(digits[d], -width))
        digits[d] -= np.ldexp(carry, width)
        digits[d + 1] += carry
    total = digits[0]
    for d, digit in enumerate(digits[1:], start=1):
        total = odd_add(np.ldexp(digit, d * width), total)
    with np.errstate(over="ignore"):
        return (np.ldexp(total, grid_a[0] + grid_b[0]) + 0.0).astype(np.float32)


def _slices(values: F64, grid: Grid, width: int) -> list[F64]:
    """Integers A_i, lowest first, with values = 2^quantum sum A_i 2^(i width) and |A_i| < 2^width."""
    quantum, top = grid
    count = max(1, -(-(top - quantum) // width))
    if count > MAX_SLICES or quantum < -500 or top > 500:
        raise FormatError(
            f"an exact dot product over values from 2^{quantum} to 2^{top} needs {count} slices, at most {MAX_SLICES} are made",
            where="exact_dot",
            remedy="use inner: sequential",
        )
    rest, pieces = np.ldexp(values, -quantum), []
    for i in reversed(range(count)):
        piece = np.trunc(np.ldexp(rest, -i * width))
        rest = rest - np.ldexp(piece, i * width)
        pieces.append(piece)
    return pieces[::-1]
