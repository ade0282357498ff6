"""Products whose sums are rounded to a small float format after every addition, bit for bit: kernels/chain.cu, a thread an output."""

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


def covers(model: Accumulate) -> bool:
    """Whether the kernel follows this model: sequential sums whose formats are float32 or small floats."""
    return model.inner == "sequential" and model.core is None and all(name == "float32" or _small(name) for name in (model.format, model.outer))


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
    """c[i, j] = sum_k a[i, k] b[j, k] -> float32 [M, N] of what `lpref.accel.cuda.gemm.factors` made."""
    (M, K), N = a.shape, b.shape[0]
    out = device.cupy().empty((M, N), np.float32)
    if out.size:
        numbers = [np.int32(n) for n in (M, N, K, model.chunk or 0, model.product == "float32")]
        formats = (*described(model.format, False), *described(model.outer, True))
        run = device.function("chain", "gemm")
        run((device.blocks_for(M * N),), (device.THREADS,), (*a.arguments, *b.arguments, out, *numbers, *formats))
    return out
