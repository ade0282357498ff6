"""`lpref.ref.linalg.tensor_core.chain` in Numba, bit for bit, in float64.

Idea: for one row of a and a strip of 128 columns, one step makes three passes over its n products: the largest exponent (integers), the sum
of truncated products, the new c. Every pass runs along the columns, so that it is a vector loop; a strip of b's rows (n x 128 float64)
stays in the first-level cache, and powers of two are put together from their bits. A product is scaled before it is truncated:
``trunc(a b 2^(F - E))`` is exact, because |a b| 2^(F - E) < 2^(F + 2) and nothing is subnormal.

NaN, infinities and sums of 2^128 and more are rare: the kernel gives up and the definition computes the whole piece.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu import threads
from lpref.accel.cpu.bits64 import float_of, int_of, trunc
from lpref.ref.linalg.tensor_core import NONE, Side, TensorCore
from lpref.ref.linalg.tensor_core import chain as definition

_STRIP = 128
_GRAIN = 1 << 16
"""Products below which a second thread costs more than it brings."""


@njit(cache=True, nogil=True, error_model="numpy")
def _chain(first, last, a, ea, b, eb, out, products, fraction, kept, clamp, smallest, late):  # type: ignore[no-untyped-def]
    """Rows first .. last - 1 of out [M, N] float64; a, ea [M, K]; b, eb [K, N]. False where a result leaves float32's range."""
    n, depth = out.shape[1], a.shape[1]
    c, s, scale = np.empty(_STRIP), np.empty(_STRIP), np.empty(_STRIP)
    top = np.empty(_STRIP, np.int32)
    largest = 0.0
    for left in range(0, n, _STRIP):
        width = min(_STRIP, n - left)
        for i in range(first, last):
            for j in range(width):
                c[j] = 0.0
            for start in range(0, depth, products):
                stop = min(start + products, depth)
                for j in range(width):
                    e = np.int32(((int_of(c[j]) >> 52) & 2047) - 1023)  # of zero: below the clamp
                    top[j] = max(np.int32(clamp), np.int32(clamp) if late else (max(e, np.int32(smallest)) if c[j] != 0.0 else np.int32(clamp)))
                for k in range(start, stop):
                    here, row = ea[i, k], eb[k, left : left + width]
                    for j in range(width):
                        top[j] = max(top[j], here + row[j])
                for j in range(width):
                    scale[j] = float_of(np.int64(1023 + fraction - top[j]) << 52)
                    s[j] = 0.0 if late else trunc(c[j] * scale[j])
                for k in range(start, stop):
                    x, values = a[i, k], b[k, left : left + width]
                    for j in range(width):
                        s[j] += trunc(x * values[j] * scale[j])
                for j in range(width):
                    v = s[j] * float_of(np.int64(1023 - fraction + top[j]) << 52)
                    place = max(np.int64(((int_of(v) >> 52) & 2047) - 1023), np.int64(smallest))
                    v = trunc(v * float_of((1023 + kept - place) << 52)) * float_of((1023 - kept + place) << 52)
                    c[j] = np.float64(np.float32(v) + np.float32(c[j])) if late else v + 0.0
                    largest = max(largest, abs(c[j]))
            for j in range(width):
                out[i, left + j] = c[j]
    return largest < 2.0**128


def chain(a: Side, b: Side, core: TensorCore) -> np.ndarray:
    """`lpref.ref.linalg.tensor_core.chain`: the same bits."""
    finite = bool(np.isfinite(a.values).all() and np.isfinite(b.values).all())
    if not finite or core.group > 1 or core.accumulator != "float32":
        return definition(a, b, core)
    out = np.zeros((a.values.shape[0], b.values.shape[0]))
    left, right = np.ascontiguousarray(a.values), np.ascontiguousarray(b.values.T)
    ea, eb = np.ascontiguousarray(a.exponents), np.ascontiguousarray(b.exponents.T)
    numbers = (core.products, core.fraction, core.kept, core.clamp, core.smallest, core.late)
    grain = max(1, _GRAIN // max(1, right.size))
    good = threads.split(out.shape[0], lambda i, j: _chain(i, j, left, ea, right, eb, out, *numbers), align=1, grain=grain)
    return out.astype(np.float32) if all(good) else definition(a, b, core)


assert NONE * 2 > np.iinfo(np.int32).min  # the exponents of two zeros add up
