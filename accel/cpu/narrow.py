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

from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu import threads
from lpref.accel.cpu.narrow_tile import LONG, ROWS, SHORT, VECTORS, WHOLE, Numbers, make_narrow_tile
from lpref.ref import formats
from lpref.ref.formats.floats import FloatFormat
from lpref.ref.linalg import Accumulate
from lpref.ref.linalg.gemm import Factors, format_grid
from lpref.ref.linalg.integer_dot import limits

TILE_SHORT = make_narrow_tile(SHORT)
TILE_LONG = make_narrow_tile(LONG)
TILE_WHOLE = make_narrow_tile(WHOLE)
_GRAIN = 1 << 16
"""Products below which a second thread costs more than it brings."""


@njit(cache=True, nogil=True, error_model="numpy")
def _short(first, last, a, b, out, step, chunk, precision, emin):  # type: ignore[no-untyped-def]
    """Rows first … last - 1 (multiples of ROWS) of out [M, N] <- a [M, K] b [K, N] in chunks; N is a multiple of `step`."""
    depth, n = b.shape
    for j in range(0, n, step):
        for i in range(first, last, ROWS):
            for k in range(0, depth, chunk):
                TILE_SHORT(out, i * n + j, n, a, i * depth + k, depth, b, k * n + j, n, min(chunk, depth - k), precision, emin)


@njit(cache=True, nogil=True, error_model="numpy")
def _long(first, last, a, b, out, step, chunk, precision, emin):  # type: ignore[no-untyped-def]
    """`_short` in float64."""
    depth, n = b.shape
    for j in range(0, n, step):
        for i in range(first, last, ROWS):
            for k in range(0, depth, chunk):
                TILE_LONG(out, i * n + j, n, a, i * depth + k, depth, b, k * n + j, n, min(chunk, depth - k), precision, emin)


@njit(cache=True, nogil=True, error_model="numpy")
def _whole(first, last, a, b, out, step, chunk, low, high):  # type: ignore[no-untyped-def]
    """`_short` for integers that saturate at low and high."""
    depth, n = b.shape
    for j in range(0, n, step):
        for i in range(first, last, ROWS):
            for k in range(0, depth, chunk):
                TILE_WHOLE(out, i * n + j, n, a, i * depth + k, depth, b, k * n + j, n, min(chunk, depth - k), low, high)


def narrow(a: Factors, b: Factors, model: Accumulate, place: tuple[int, int, float] | None) -> np.ndarray | None:
    """[M, N] float32 before the epilogue, or None. `place`: (precision, emin, largest value) of the accumulator's format."""
    plain = model.inner == "sequential" and model.product == "exact" and model.format == model.outer
    depth = a.elements.shape[1]
    if not plain or place is None or a.block is not None or b.block is not None or not depth:
        return None
    numbers = _numbers(a, b, depth, model.chunk or depth, place)
    if numbers is None:
        return None
    return _by_tiles(_short if numbers is SHORT else _long, numbers, a.elements, b.elements, model.chunk or depth, place[0], place[1])


def saturating(a: Factors, b: Factors, model: Accumulate) -> np.ndarray | None:
    """[M, N] float32 before the epilogue of integers that saturate at every addition, or None: what float32 counts exactly."""
    plain = model.inner == "integer" and model.overflow == "saturate" and model.outer == "float32"
    depth, grids = a.elements.shape[1], (a.grid, b.grid)
    if not plain or model.bits > 23 or a.block is not None or b.block is not None or not depth or None in grids:
        return None
    quanta = [grid[0] for grid in grids if grid is not None]
    left, right = (np.ldexp(x.elements, -quantum) if quantum else x.elements for x, quantum in zip((a, b), quanta, strict=True))
    top, chunk = float(np.abs(left).max(initial=0)) * float(np.abs(right).max(initial=0)), model.chunk or depth
    if not top < 2.0**23 or -(-depth // chunk) << (model.bits - 1) > 1 << 24:  # not: NaN has no order. Sums of chunks are exact too
        return None
    sums = _by_tiles(_whole, WHOLE, left, right, chunk, *limits(model.bits))
    return np.ldexp(sums, sum(quanta)) if sum(quanta) else sums


def _by_tiles(kernel: Any, numbers: Numbers, a: np.ndarray, b: np.ndarray, chunk: int, *form: int) -> np.ndarray:
    """`kernel` over a [M, K] and b [N, K]."""
    (m, depth), n, step = a.shape, b.shape[0], VECTORS * numbers.lanes
    dtype = np.float32 if numbers.digits == 24 else np.float64
    left, right = _padded(a, -(-m // ROWS) * ROWS, depth, dtype), _padded(b.T, depth, -(-n // step) * step, dtype)
    out = np.zeros((left.shape[0], right.shape[1]), dtype)
    grain = max(ROWS, _GRAIN // max(1, right.size))
    threads.split(out.shape[0], lambda i, j: kernel(i, j, left, right, out, step, chunk, *form), align=ROWS, grain=grain)
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
        return np.ascontiguousarray(x, dtype)
    out = np.zeros((rows, columns), dtype)
    out[: x.shape[0], : x.shape[1]] = x
    return out
