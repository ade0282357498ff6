"""Sequential and chunked sums in a narrow format, inside chunks and across them, by the register tiles of `narrow_tile`.

The model is that of `lpref.ref.linalg.accumulate` with exact products: ``c <- format(c + a b)``, k ascending, one rounding each. The tile rounds
twice, to its own numbers of P digits and then to the format's p digits, which is the same where (q digits of the product)

    q <= p and P >= 2 p + 2          a sum of two numbers of p digits (Figueroa, ACM SIGNUM Newsletter 30(3), 1995)
    q > p and P >= p + q + 3         and |a b| < 2^(P - 2) quanta of the format: a sum that P digits do not hold is then one of a large c, which is
                                     on the grid, and of an a b below a quarter of the distance to the next tie

The float32 tile has no floor, so there products are multiples of the format's quantum: sums below the smallest normal number are exact. Neither
tile saturates: the largest sum that the factors could make must lie inside the format, and
2^(P - p) times it inside float32. Where any of this fails, `narrow` gives None and the
general kernels of `sums` are asked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu import threads
from lpref.accel.cpu.gather import gathered, integers
from lpref.accel.cpu.narrow_tile import HALVES, LONG, ROWS, SHORT, VECTORS, WHOLE, Numbers, narrow_tile
from lpref.accel.cpu.turned import turned
from lpref.ref import formats
from lpref.ref.formats.floats import FloatFormat
from lpref.ref.linalg import Accumulate
from lpref.ref.linalg.gemm import Factors, factors, format_grid
from lpref.ref.linalg.integer_dot import limits

_GRAIN = 1 << 16
"""Products below which a second thread costs more than it brings."""


@njit(cache=True, nogil=True, error_model="numpy")
def sums_of(first, last, a, b, out, step, chunk, x, y):  # type: ignore[no-untyped-def]
    """Rows first … last - 1 (multiples of ROWS) of out [M, N] <- a [M, K] b [K, N] in chunks; N is a multiple of `step`, x and y are the tile's."""
    depth, n = b.shape
    for j in range(0, n, step):
        for i in range(first, last, ROWS):
            for k in range(0, depth, chunk):
                narrow_tile(out, i * n + j, n, a, i * depth + k, depth, b, k * n + j, n, min(chunk, depth - k), x, y)


def narrow(a: Factors, b: Factors, model: Accumulate, place: tuple[int, int, float] | None) -> np.ndarray | None:
    """[M, N] float32 before the epilogue, or None. `place`: (precision, emin, largest value) of the accumulator's format."""
    plain = model.inner == "sequential" and model.product == "exact" and model.format == model.outer
    depth = a.elements.shape[1]
    if not plain or place is None or a.block is not None or b.block is not None or not depth:
        return None
    numbers = _numbers(a, b, depth, model.chunk or depth, place)
    if numbers is None:
        return None
    return _by_tiles(numbers, a.elements, b.elements, model.chunk or depth, place[0], place[1])


def saturating(a: Any, b: Any, model: Accumulate) -> tuple[np.ndarray, Factors, Factors] | None:
    """[M, N] float32 before the epilogue, of integers that saturate at every addition, and the operands' factors.

    None where an operand is no plain tensor of integers, or where sums or what is added could leave 32 bits or the integers of float32.
    """
    if model.inner != "integer" or model.overflow != "saturate" or model.outer != "float32":
        return None
    read = [found for x in (a, b) if (found := integers(x)) is not None]
    if len(read) < 2:
        return None
    depth, top = a.logical_shape[a.k_axis], math.prod(int(np.abs(table).max()) for table, _ in read) + (1 << (model.bits - 1))
    chunk = model.chunk or depth
    if not depth or top >= 1 << 31 or -(-depth // chunk) << (model.bits - 1) > 1 << 24:
        return None
    numbers = HALVES if top < 1 << 15 else WHOLE
    fa, fb = (factors(x, np.float32, gathered(x, table.astype(numbers.dtype))) for x, (table, _) in zip((a, b), read, strict=True))
    sums = _by_tiles(numbers, fa.elements, fb.elements, chunk, *limits(model.bits))
    quantum = read[0][1] + read[1][1]
    return np.ldexp(sums, quantum) if quantum else sums, fa, fb


def _by_tiles(numbers: Numbers, a: np.ndarray, b: np.ndarray, chunk: int, *form: int) -> np.ndarray:
    """`sums_of` over a [M, K] and b [N, K]."""
    (m, depth), n, step = a.shape, b.shape[0], VECTORS * numbers.lanes
    left, right = _padded(a, -(-m // ROWS) * ROWS, depth, numbers.dtype), _padded(b.T, depth, -(-n // step) * step, numbers.dtype)
    out = np.zeros((left.shape[0], right.shape[1]), numbers.sums.name)
    grain = max(ROWS, _GRAIN // max(1, right.size))
    threads.split(out.shape[0], lambda i, j: sums_of(i, j, left, right, out, step, chunk, *form), align=ROWS, grain=grain)
    return out[:m, :n].astype(np.float32, copy=False)


def _numbers(a: Factors, b: Factors, depth: int, chunk: int, place: tuple[int, int, float]) -> Numbers | None:
    """The shorter numbers whose tile gives the definition's bits, if any do."""
    precision, emin, largest = place
    if a.grid is None or b.grid is None or not (a.format and b.format):
        return None
    digits = _digits(a) + _digits(b)
    top = float(np.abs(a.elements).max(initial=0)) * float(np.abs(b.elements).max(initial=0))
    additions = min(chunk, depth) + -(-depth // chunk)
    sums, quantum = 2.0 * depth * top, emin - precision + 1  # that many roundings at most double a sum
    if not sums <= largest or additions > 2 ** (precision - 1):  # not: NaN has no order
        return None
    if digits <= precision and 24 >= 2 * precision + 2 and a.grid[0] + b.grid[0] >= quantum and sums < 2.0 ** (102 + precision):
        return SHORT
    if 53 >= precision + digits + 3 and top < 2.0 ** (51 + quantum):
        return LONG
    return None


def _digits(x: Factors) -> int:
    """Significant binary digits of the elements."""
    f = formats.format(x.format)
    assert x.grid is not None
    return f.precision if isinstance(f, FloatFormat) and x.grid == format_grid(f) else x.grid[1] - x.grid[0]


def _padded(x: Any, rows: int, columns: int, dtype: Any) -> np.ndarray:
    """x in `dtype`, contiguous, zeros around it: they add nothing to any sum that is kept."""
    if x.shape == (rows, columns):
        return turned(x.T) if x.dtype == dtype and x.T.flags.c_contiguous else np.ascontiguousarray(x, dtype)
    out = np.zeros((rows, columns), dtype)
    out[: x.shape[0], : x.shape[1]] = x
    return out
