"""Products whose sums are rounded to a small float format after every addition, or kept in an integer register: kernels/chain.cu."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cuda import device
from lpref.ref.errors import BackendError
from lpref.ref.formats import FloatFormat
from lpref.ref.formats import format as format_named
from lpref.ref.linalg import Accumulate

WIDEST = 25
"""Significand bits at most: a sum that is rounded to odd in float64 first then rounds to the format as the exact one does."""
WIDEST_INTEGER, WIDEST_REGISTER, LARGEST_UNIT = 31, 62, 126
"""Bits of an integer element and of a sum, which 64 bits hold before it wraps; the unit's exponent, which float32 has as a normal number."""


def covers(model: Accumulate) -> bool:
    """Whether the kernel follows this model: sequential sums in small floats (not all in float32), sums of integers."""
    inner = model.format if model.inner == "sequential" else "float32" if model.inner == "integer" else None
    if inner is None or (model.inner == "sequential" and inner == model.outer == "float32"):
        return False
    return all(name == "float32" or _small(name) for name in (inner, model.outer))


@cache
def _small(name: str) -> bool:
    f = format_named(name)
    return isinstance(f, FloatFormat) and f.signed and f.subnormals == "yes" and f.tie.startswith("even") and (f.precision or 99) <= WIDEST


@cache
def described(name: str, outer: bool) -> tuple[Any, ...]:
    """`lp_sum_format` of core/chain.h; an outer float32 is its own addition."""
    if name == "float32" and outer:
        return np.int32(24), np.int32(-126), np.float64(0), np.float64(0)
    f = format_named(name)
    if f.precision is None:
        raise BackendError(f"no kernel sums in {name}", where="gemm", remedy="use the host")
    beyond = float(f.round(np.float64(np.inf))) if name != "float32" else np.inf
    return np.int32(f.precision), np.int32(f.emin), np.float64(f.max), np.float64(beyond)


def gemm(a: Any, b: Any, model: Accumulate) -> Any:
    """c[i, j] = sum_k a[i, k] b[j, k] -> float32 [M, N] of what `lpref.accel.cuda.gemm.factors` made.

    Raises: BackendError for sums of integers whose operands are no codes of an integer format.
    """
    (M, K), N = a.shape, b.shape[0]
    out = device.cupy().empty((M, N), np.float32)
    macros: tuple[tuple[str, Any], ...] = ()
    if model.inner == "integer":
        macros, sums = (("LP_REGISTER", 1),), _register(a, b, model)
    else:
        sums = (np.int32(model.product == "float32"), *described(model.format, False))
    if out.size:
        run = device.function("chain", "gemm", macros)
        sizes = [np.int32(n) for n in (M, N, K, model.chunk or 0)]
        run((device.blocks_for(M * N),), (device.THREADS,), (*a.arguments, *b.arguments, out, *sizes, *sums, *described(model.outer, True)))
    return out


def _register(a: Any, b: Any, model: Accumulate) -> tuple[Any, ...]:
    """(half the range of the register, whether it saturates, integers in one of either operand, what the sum's unit is worth)."""
    unit = a.quantum + b.quantum
    if not (a.whole and b.whole) or max(a.bits, b.bits) > WIDEST_INTEGER or abs(unit) > LARGEST_UNIT or model.bits > WIDEST_REGISTER:
        raise BackendError(
            f"no kernel makes sums of {model.bits} bits of operands of {a.bits} and {b.bits} bits in units of 2^{unit}", where="gemm",
            remedy=f"codes of integer or fixed-point formats of at most {WIDEST_INTEGER} bits, sums of at most {WIDEST_REGISTER}, or the host",
        )  # fmt: skip
    powers = (np.float64(2.0**-a.quantum), np.float64(2.0**-b.quantum), np.float32(2.0**unit))
    return (np.int64(2 ** (model.bits - 1)), np.int32(model.overflow == "saturate"), *powers)
