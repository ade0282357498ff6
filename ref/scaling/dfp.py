r"""Dynamic fixed point: a tensor of P-bit integers with one exponent, $f \approx i \, 2^{E_s}$, and its way down from INT32.

Quantizing is the rule `bfp` (mode floor) on the whole tensor::

    E_s = floor(log2 max|f|) - (P - 2)          i = clamp(round(f 2^-E_s), -(2^(P-1) - 1), 2^(P-1) - 1)

so that the largest mantissa has P - 1 bits: 2^(P-2) <= max|i|. Products multiply mantissas and add exponents; a sum first shifts the operand
of the smaller exponent right. `down_convert` brings the INT32 result of an integer matrix product back to P bits::

    B = bit length of max|i|        R = max(0, B - (P - 1))         the bits that are too many
    i' = round(i 2^-R), clamped to +-(2^(P-1) - 1);  E' = E + R

In terms of leading zeros of a 32-bit word, R = 32 - LZ(max|i|) - (P - 1).

Accumulation: P = 16 gives products below 2^30, so a chain of L products stays in INT32 for L 2^30 < 2^31 only: two are already too many, which is
why hardware shifts before adding or breaks the chain and adds in FP32 (`chain_length`).

Zero tensor: E_s = -127, zero mantissas. NaN or infinity: the whole tensor decodes to NaN.
Round trip: |f^ - f| <= 2^(E_s - 1), clamped elements excepted.
Gradient: integer products too, with the inputs of dX and dW in the same format.

Source: arXiv 1802.00930 (P = 16, pairs of INT16 products in INT32, short chains, FP32 master weights and batch normalization).
Source level: memory (the abstract was read; no copy of the text was found). The paper's own pre-shift of the products is not known to us:
`down_convert` is the published R = P - LZ(max|i|), with LZ counted against the P-bit magnitude.
Pitfalls: floor(log2 max) in floating point is one too large just below powers of two; rounding may reach 2^(P-1) and must clamp; an exponent
from an old maximum overflows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import FormatError
from lpref.ref.formats.integers import integer


def down_convert(
    mantissas: NDArray, exponent: int, bits: int = 16, *, rounding: str = "nearest_even", words: NDArray | None = None, word_bits: int | None = None
) -> tuple[NDArray[np.int64], int]:
    """Integers times 2^exponent -> (integers of `bits` bits, their exponent).

    >>> down_convert(np.array([70000, -3]), -20)
    (array([17500,    -1]), -18)
    """
    mantissas = np.asarray(mantissas)
    if mantissas.dtype.kind not in "iu":
        raise FormatError(f"mantissas are {mantissas.dtype}, not integers", where="down_convert")
    largest = int(np.max(np.abs(mantissas.astype(np.int64)), initial=0))
    shift = max(0, largest.bit_length() - (bits - 1))
    if shift == 0:
        return mantissas.astype(np.int64), exponent
    fmt = integer(bits)
    scaled = np.ldexp(mantissas.astype(np.float64), -shift)
    codes = fmt.encode(scaled, rounding, "saturate", words, word_bits)
    limit = 2 ** (bits - 1) - 1
    return np.clip(fmt.decode(codes).astype(np.int64), -limit, limit), exponent + shift


def chain_length(bits: int = 16, accumulator: int = 32) -> int:
    """How many products of `bits`-bit mantissas a signed accumulator holds for certain.

    >>> chain_length(16), chain_length(8)
    (2, 133144)
    """
    return (2 ** (accumulator - 1) - 1) // (2 ** (bits - 1) - 1) ** 2


def aligned(a: tuple[Any, int], b: tuple[Any, int]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Two operands of a sum at the larger exponent: the other is shifted right, rounded to nearest even.

    >>> x, y, e = aligned((np.array([5]), 0), (np.array([1]), 1))
    >>> x.tolist(), y.tolist(), e
    ([2], [1], 1)
    """
    e = max(a[1], b[1])
    x, y = (np.rint(np.ldexp(np.asarray(v).astype(np.float64), exponent - e)).astype(np.int64) for v, exponent in (a, b))
    return x, y, e
