r"""integer_dot: sums of integer products in an accumulator of few bits.

    c <- wrap(c + p) = ((c + p + 2^(b-1)) mod 2^b) - 2^(b-1)              or              c <- min(max(c + p, -2^(b-1)), 2^(b-1) - 1)

for p = a_k b_k, k ascending from c = 0. Wrapping does not depend on the order; saturating does. The products themselves are exact.
Operands are read in units of their format's quantum (MXINT8: 2^-6), and the result is that integer, rounded once to float32, times the
two quanta. Values that are no multiples of the quantum, NaN and infinities are refused.

Source: two's complement; saturation as in DSP instructions (from memory).
Pitfalls: INT16 products need 31 bits, so two of them overflow an INT32 sum; a saturating sum of the same terms in another order is another
number.

>>> integer_dot(np.array([[100.0, 100.0]]), np.array([[100.0, 100.0]]), 15, "saturate").tolist()
[[16383]]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import FormatError

I64 = NDArray[np.int64]


def integer_dot(a: NDArray[Any], b: NDArray[Any], bits: int, overflow: str) -> I64:
    """[M, K] and [N, K] integers (below 2^31 in magnitude, in any dtype) -> [M, N]."""
    x, y = (np.asarray(v).astype(np.int64) for v in (a, b))
    c = np.zeros((x.shape[0], y.shape[0]), np.int64)
    for k in range(x.shape[1]):
        p = x[:, k, None] * y[None, :, k]  # below 2^62
        c = wrapped(c + p, bits) if overflow == "wrap" else np.clip(c + p, *limits(bits))
    return c


def limits(bits: int) -> tuple[int, int]:
    """The smallest and the largest integer of `bits` bits.

    >>> limits(8)
    (-128, 127)
    """
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def wrapped(c: I64, bits: int) -> I64:
    """c modulo 2^bits, in two's complement.

    >>> wrapped(np.array([128, -129]), 8).tolist()
    [-128, 127]
    """
    low = np.int64(2 ** (bits - 1))
    return ((c + low) & np.int64(2**bits - 1)) - low


def units(values: NDArray[Any], quantum: int, where: str) -> NDArray[np.float64]:
    """values / 2^quantum, which must be integers below 2^31.

    Raises: FormatError.
    """
    scaled = np.ldexp(np.asarray(values, np.float64), -quantum)
    with np.errstate(invalid="ignore"):
        bad = ~((scaled == np.rint(scaled)) & (np.abs(scaled) < 2.0**31))
    if bad.any():
        raise FormatError(
            f"{float(np.asarray(values)[bad].flat[0])!r} is no multiple of 2^{quantum} below 2^{31 + quantum}",
            where=where,
            remedy="integer accumulation takes codes of an integer or fixed-point format",
        )
    return scaled
