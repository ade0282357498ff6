"""The forward bounds of grade fast and of the accumulation models."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.linalg.gemm import factors

U32 = 2.0**-24
"""Unit roundoff of float32."""


def gamma(n: int, u: float = U32) -> float:
    """gamma_n = n u / (1 - n u): the relative bound of a product of n factors (1 + delta), |delta| <= u. Needs n u < 1."""
    return n * u / (1.0 - n * u)


def magnitude(a: Any, b: Any) -> NDArray[np.float64]:
    """S[i, j] = sum_k |a[i, k]| |b[j, k]| in float64, not below its true value."""
    x, y = (np.abs(v.dequantize(np.float64) if v.k_axis % 2 else v.dequantize(np.float64).T) for v in (a, b))
    s = x @ y.T  # exact: a bound, made larger by its own rounding error below
    return s * (1.0 + 4.0 * gamma(x.shape[1] + 4, 2.0**-53))


def fast_bound(a: Any, b: Any) -> NDArray[np.float64]:
    """|gemm fast - gemm exact| <= (gamma_n + gamma_m) S, for both grades under the default `Accumulate`.

    fast: each folded operand carries at most 2 roundings, the product and the sum in any order K, the tensor scales 2:
    n = K + 6. exact: the inner product at most K (sequential), the block scale 2, the outer sum at most K pieces, row and
    tensor scales 4: m = 2 K + 6. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed. 2002, section 3.1,
    lemma 3.1. Assumes no underflow or overflow in an intermediate.
    """
    depth = factors(a).elements.shape[1]
    return (gamma(depth + 6) + gamma(2 * depth + 6)) * magnitude(a, b)


def matmul_bound(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """|x - y| <= 2 gamma_K |a| |b| + K 2^-148 for two `matmul` of [..., M, K] and [..., K, N] in float32, in any two orders.

    Each is within gamma_K |a| |b| of the exact product (Higham 2002, section 3.5), and each product that underflows adds 2^-150 more.
    """
    depth = a.shape[-1]
    s = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))  # exact: a bound, made larger by its own rounding error below
    return 2.0 * gamma(depth) * s * (1.0 + 4.0 * gamma(depth + 4, 2.0**-53)) + depth * 2.0**-148
