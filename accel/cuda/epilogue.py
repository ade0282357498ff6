"""The scales that a product of grade fast leaves for the end: of tensors as cuBLASLt's alpha, of rows and columns by a pass (kernels/blas.cu)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lpref.accel.cuda import device
from lpref.accel.cuda.quantize import constant


def is_one(scale: Any) -> bool:
    """Whether this is the constant 1 of quantizers without a second level (told by identity, without reading the device)."""
    return scale is constant(1.0)


def alpha(factors: Sequence[Any], *operands: Any) -> Any:
    """{product of at most four factors, 0} on the device; None: 1. operands: those that the factors are of, one of which may hold their product."""
    for own, other in (operands, operands[::-1]) if len(factors) == len(operands) == 2 else ():
        made = getattr(own, "product", None)
        if made is not None and made[0] is other.tensor_scale and any(f is own.tensor_scale for f in factors):
            return made[1]
    if not factors:
        return None
    out = device.cupy().empty(2, np.float32)
    device.function("blas", "alpha")((1,), (1,), (*factors, *[0] * (4 - len(factors)), out))
    return out


def finish(out: Any, scales: Sequence[tuple[list[Any], Any, int]], integers: bool) -> None:
    """out [M, N] <- (out x (row x column)) x (tensor x tensor), as the definition's epilogue multiplies; integers: of int32 sums."""
    M, N = out.shape
    sides, tensors = [], []
    for (factors, rows, other), count in zip(scales, (M, N), strict=True):
        tensors.append(factors[0] if factors else 0)
        rows, other = (factors[1], count) if rows is None and len(factors) == 2 else (rows, other)
        sides += [0 if rows is None else rows, np.uint32(max(other, 1))]
    run = device.function("blas", "finish", (("LP_INTEGERS", int(integers)),))
    run(*device.plane(M, -(-N // 4)), (out, M, np.uint32(N), *sides, *tensors))
