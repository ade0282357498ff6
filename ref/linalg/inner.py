"""The inner dot products of `Accumulate`: one piece of K, in any accumulator format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref import formats
from lpref.ref.linalg.accumulate import Accumulate
from lpref.ref.linalg.exact_dot import Grid, exact_dot, odd_add
from lpref.ref.linalg.integer_dot import integer_dot, units
from lpref.ref.linalg.matmul import sequential
from lpref.ref.linalg.tensor_core import Side, chain

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """One operand's part of an inner product: elements [other, k] and what the models need beside them."""

    elements: NDArray[Any]
    grid: Grid | None = None
    exponents: NDArray[np.int32] | None = None


Inner = Callable[[Piece, Piece, Accumulate], NDArray[Any]]


def inner_dot(a: Piece, b: Piece, model: Accumulate) -> NDArray[Any]:
    """[M, K] and [N, K] -> [M, N]: the inner dot products of one piece of K; float32 (float64 for float64 x sequential)."""
    if model.inner == "exact":
        return exact_dot(a.elements.astype(np.float64), b.elements.astype(np.float64), a.grid, b.grid)
    if model.inner == "integer":
        return integer_piece(a, b, model, integer_dot)
    if model.core is not None:
        assert a.exponents is not None
        assert b.exponents is not None
        return chain(Side(a.elements, a.exponents), Side(b.elements, b.exponents), model.core)
    if model.inner == "sequential" and model.format == model.product == "float32":
        return sequential(a.elements, b.elements)
    a64, b64 = a.elements.astype(np.float64), b.elements.astype(np.float64)
    summed = {"sequential": _sequential, "pairwise": _pairwise, "kahan": _kahan}[model.inner]
    return summed(a64, b64, model).astype(np.float32)


def integer_piece(a: Piece, b: Piece, model: Accumulate, dot: Callable[..., Any]) -> NDArray[np.float32]:
    """`dot` (of `integer_dot`'s signature) over the operands in units of their quanta."""
    quanta = [0 if x.grid is None else x.grid[0] for x in (a, b)]
    x, y = (units(v.elements, q, "gemm") for v, q in zip((a, b), quanta, strict=True))
    c = dot(x, y, model.bits, model.overflow).astype(np.float32)  # one rounding
    return np.ldexp(c, quanta[0] + quanta[1])


def _sequential(a: F64, b: F64, model: Accumulate) -> F64:
    c = np.zeros((a.shape[0], b.shape[0]))
    for k in range(a.shape[1]):
        c = rounded_add(c, _product(a[:, k], b[:, k], model), model.format)
    return c


def _kahan(a: F64, b: F64, model: Accumulate) -> F64:
    s = np.zeros((a.shape[0], b.shape[0]))
    r = np.zeros_like(s)
    for k in range(a.shape[1]):
        y = rounded_add(_product(a[:, k], b[:, k], model), -r, model.format)
        t = rounded_add(s, y, model.format)
        r = rounded_add(rounded_add(t, -s, model.format), -y, model.format)
        s = t
    return s


def rounded_add(c: F64, p: F64, name: str) -> F64:
    """c + p rounded once, to nearest even, in the named format: rounding to odd in float64 first is harmless."""
    s = odd_add(c, p)
    with np.errstate(over="ignore"):
        return s.astype(np.float32).astype(np.float64) if name == "float32" else formats.format(name).round(s)


def _product(a: F64, b: F64, model: Accumulate) -> F64:
    """The outer product of two columns; exact in float64 for factors of at most 26 bits."""
    p = a[:, None] * b[None, :]
    with np.errstate(over="ignore"):
        return p.astype(np.float32).astype(np.float64) if model.product == "float32" else p


def _pairwise(a: F64, b: F64, model: Accumulate) -> F64:
    n = a.shape[1]
    if n <= 1:
        zero = np.zeros((a.shape[0], b.shape[0]))
        return rounded_add(zero, _product(a[:, 0], b[:, 0], model), model.format) if n else zero
    half = n // 2
    return rounded_add(
        _pairwise(a[:, :half], b[:, :half], model), _pairwise(a[:, half:], b[:, half:], model), model.format
    )
