"""The inner products of `lpref.ref.linalg.inner` in Numba, bit for bit: accumulators of few bits, Kahan's, pairwise, integers, matrix units.

Order is per output element, so every loop runs k outside and columns inside: a row of accumulators is a vector. An addition in a narrow format
is a float64 addition rounded to odd (which keeps what a second rounding needs) and then rounded to the format's place by `rint`.
Pairwise sums are a program of pushes and additions over a small stack of rows, made once for each length.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from lpref.accel.cpu import tensor_core, threads
from lpref.accel.cpu.bits64 import float_of, int_of, rint
from lpref.accel.cpu.product import matmul
from lpref.ref import formats
from lpref.ref.formats.floats import FloatFormat
from lpref.ref.linalg import Accumulate
from lpref.ref.linalg import inner as definition
from lpref.ref.linalg.inner import Piece
from lpref.ref.linalg.integer_dot import limits, wrapped
from lpref.ref.linalg.tensor_core import Side

_GRAIN = 1 << 15
"""Products below which a second thread costs more than it brings."""


def inner_dot(a: Piece, b: Piece, model: Accumulate) -> np.ndarray:
    """`lpref.ref.linalg.inner.inner_dot`: the same bits."""
    if model.core is not None:
        assert a.exponents is not None
        assert b.exponents is not None
        return tensor_core.chain(Side(a.elements, a.exponents), Side(b.elements, b.exponents), model.core)
    if model.inner == "integer":
        return definition.integer_piece(a, b, model, integer_dot)
    plain = model.inner == "sequential" and model.format == model.product == "float32"
    if plain and a.elements.dtype == b.elements.dtype == np.float32:
        return matmul(a.elements, b.elements.T)
    place = placed(model.format)
    if plain or place is None or model.inner not in ("sequential", "kahan", "pairwise"):
        return definition.inner_dot(a, b, model)
    return _narrow(a.elements, b.elements, model, place)


@cache
def placed(name: str) -> tuple[int, int, float] | None:
    """(precision, emin, largest value) of the formats whose rounding is `_rounded`; None for others."""
    if name == "float32":
        return 24, -126, np.inf
    f = formats.format(name)
    if not isinstance(f, FloatFormat) or f.bits > 16 or f.tie != "even_significand" or f.precision < 2:
        return None
    plain = f.signed and f.subnormals == "yes" and f.zero == "signed" and f.has_nan
    return (f.precision, f.emin, f.max) if plain else None


def _narrow(a: Any, b: Any, model: Accumulate, place: tuple[int, int, float]) -> np.ndarray:
    left, right = np.ascontiguousarray(a, np.float64), np.ascontiguousarray(b.T, np.float64)
    out = np.zeros((left.shape[0], right.shape[1]), np.float32)
    numbers = (model.product == "float32", *place)
    grain = max(1, _GRAIN // max(1, right.size))
    if model.inner == "pairwise":
        plan, depth = program(left.shape[1])
        threads.split(out.shape[0], lambda i, j: _pairwise(i, j, left, right, plan, depth, out, *numbers), align=1, grain=grain)
    else:
        kernel = _kahan if model.inner == "kahan" else _sequential
        threads.split(out.shape[0], lambda i, j: kernel(i, j, left, right, out, *numbers), align=1, grain=grain)
    return out


@njit(forceinline=True, error_model="numpy")
def _rounded(a, b, precision, emin, largest):  # type: ignore[no-untyped-def]
    """a + b rounded once, to nearest even, to `precision` bits."""
    s = a + b
    t = s - a
    error = (a - (s - t)) + (b - t)
    bits = int_of(s)
    step = 1 if (error > 0) == (s > 0) else -1
    s = float_of(bits + step) if error * 0.0 == 0.0 and error != 0.0 and bits & 1 == 0 else s
    e = max(np.int64((int_of(s) >> 52) & 2047) - 1023, np.int64(emin))
    unit = float_of((1023 - precision + 1 + e) << 52)
    r = rint(s * float_of((1023 + precision - 1 - e) << 52)) * unit
    return np.float64(np.float32(s)) if precision == 24 else (min(max(r, -largest), largest) if s == s else s)


@njit(cache=True, nogil=True, error_model="numpy")
def _sequential(first, last, a, b, out, short, precision, emin, largest):  # type: ignore[no-untyped-def]
    n = b.shape[1]
    c = np.empty(n)
    for i in range(first, last):
        c[:] = 0.0
        for k in range(b.shape[0]):
            x = a[i, k]
            for j in range(n):
                p = x * b[k, j]
                p = np.float64(np.float32(p)) if short else p
                c[j] = _rounded(c[j], p, precision, emin, largest)
        for j in range(n):
            out[i, j] = c[j]


@njit(cache=True, nogil=True, error_model="numpy")
def _kahan(first, last, a, b, out, short, precision, emin, largest):  # type: ignore[no-untyped-def]
    n = b.shape[1]
    s, r = np.empty(n), np.empty(n)
    for i in range(first, last):
        s[:] = 0.0
        r[:] = 0.0
        for k in range(b.shape[0]):
            x = a[i, k]
            for j in range(n):
                p = x * b[k, j]
                p = np.float64(np.float32(p)) if short else p
                y = _rounded(p, -r[j], precision, emin, largest)
                t = _rounded(s[j], y, precision, emin, largest)
                r[j] = _rounded(_rounded(t, -s[j], precision, emin, largest), -y, precision, emin, largest)
                s[j] = t
        for j in range(n):
            out[i, j] = s[j]


@cache
def program(n: int) -> tuple[np.ndarray, int]:
    """The pairwise sum of n products as pushes (k) and additions of the upper two rows (-1); and the rows that it needs."""
    steps: list[int] = []

    def visit(start: int, count: int) -> int:
        if count <= 1:
            steps.extend([start] if count else [-2])
            return 1
        half = count // 2
        left = visit(start, half)
        right = visit(start + half, count - half)
        steps.append(-1)
        return max(left, right + 1)

    depth = visit(0, n)
    return np.array(steps, np.int64), depth


@njit(cache=True, nogil=True, error_model="numpy")
def _pairwise(first, last, a, b, plan, depth, out, short, precision, emin, largest):  # type: ignore[no-untyped-def]
    n = b.shape[1]
    stack = np.zeros((depth, n))
    for i in range(first, last):
        level = 0
        for step in range(plan.size):
            k = plan[step]
            if k == -1:
                level -= 1
                for j in range(n):
                    stack[level - 1, j] = _rounded(stack[level - 1, j], stack[level, j], precision, emin, largest)
            else:
                for j in range(n):
                    p = a[i, k] * b[k, j] if k >= 0 else 0.0
                    p = np.float64(np.float32(p)) if short else p
                    stack[level, j] = _rounded(0.0, p, precision, emin, largest)
                level += 1
        for j in range(n):
            out[i, j] = stack[0, j]


@njit(cache=True, nogil=True, error_model="numpy")
def _saturating(first, last, a, b, out, low, high):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        for k in range(b.shape[0]):
            x = a[i, k]
            for j in range(b.shape[1]):
                out[i, j] = min(max(out[i, j] + x * b[k, j], low), high)


@njit(cache=True, nogil=True, error_model="numpy")
def _modular(first, last, a, b, out):  # type: ignore[no-untyped-def]
    """Modulo 2^64, which every smaller power of two divides."""
    for i in range(first, last):
        for k in range(b.shape[0]):
            x = a[i, k]
            for j in range(b.shape[1]):
                out[i, j] += x * b[k, j]


def integer_dot(a: np.ndarray, b: np.ndarray, bits: int, overflow: str) -> np.ndarray:
    """`lpref.ref.linalg.integer_dot.integer_dot`: the same integers."""
    left, right = np.ascontiguousarray(a, np.int64), np.ascontiguousarray(b.T, np.int64)
    out = np.zeros((left.shape[0], right.shape[1]), np.int64)
    grain = max(1, _GRAIN // max(1, right.size))
    if overflow == "saturate":
        threads.split(out.shape[0], lambda i, j: _saturating(i, j, left, right, out, *limits(bits)), align=1, grain=grain)
        return out
    threads.split(out.shape[0], lambda i, j: _modular(i, j, left, right, out), align=1, grain=grain)
    return wrapped(out, bits)
