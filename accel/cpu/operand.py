"""GEMM operands of the CPU backend.

    grade exact   codes (`QTensor`), for the block-wise product in the defined order
    grade fast    values (`Embedded`): quantized and decoded in one pass over the tensor, ready for `matmul`; the tensor scales are multiplied
                  into the product. Codes are those of the definition in both grades.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lpref.accel.cpu.embedded import Embedded, embedded
from lpref.accel.cpu.hadamard import hadamard
from lpref.accel.cpu.product import matmul_fast
from lpref.accel.cpu.quantize import embed, quantize
from lpref.accel.reference import check_operand
from lpref.ref import linalg
from lpref.ref.contracts import Bits
from lpref.ref.errors import ShapeError
from lpref.ref.linalg import HighPrecision
from lpref.ref.linalg.gemm import holds_codes, refuse_coarse
from lpref.ref.quantize import QTensor, Quantizer, stats

Transforms = Sequence[tuple[Any, np.ndarray | None]]


def transformed(x: np.ndarray, k_axis: int, transforms: Transforms) -> np.ndarray:
    """x after every (transform, signs) in order; axis "k" is the contraction axis."""
    for transform, signs in transforms:
        x = hadamard(x, transform.size, axis=k_axis if transform.axis == "k" else 1 - k_axis, signs=signs)
    return x


def operand(
    x: np.ndarray, quantizer: Quantizer | None = None, *, k_axis: int, transforms: Transforms = (), words: Any = None,
    state: Mapping[str, Any] | None = None, collect: bool = False,
) -> QTensor | HighPrecision:  # fmt: skip
    """`lpref.accel.reference.operand`: the same codes. collect adds error statistics to ``observed``."""
    check_operand(x, k_axis)
    x = transformed(x, k_axis, transforms)
    if quantizer is None:
        return HighPrecision(x, k_axis)
    codes = quantize(x, quantizer, state=state, words=words, k_axis=k_axis)
    return replace(codes, observed={**codes.observed, **stats(x, codes)}) if collect else codes


def operand_fast(
    x: np.ndarray, quantizer: Quantizer | None = None, *, k_axis: int, transforms: Transforms = (), words: Any = None,
    state: Mapping[str, Any] | None = None, collect: bool = False,
) -> Embedded | HighPrecision:  # fmt: skip
    """The values of `operand`: exact products of element and block scale, or one rounding where those have more than 24 bits.

    Transforms are fused into the pass that measures amax. Overflowed and underflowed elements are always counted.
    """
    check_operand(x, k_axis)
    if quantizer is None:
        return HighPrecision(transformed(x, k_axis, transforms), k_axis)
    if collect:
        codes = operand(x, quantizer, k_axis=k_axis, transforms=transforms, words=words, state=state, collect=True)
        return embedded(codes) if isinstance(codes, QTensor) else codes
    plain = tuple((t.size, t.axis, signs) for t, signs in transforms)
    return embed(x, quantizer, state=state, words=words, k_axis=k_axis, transforms=plain)


def same_values(expected: Any, actual: Any) -> bool:
    """Are these the values and observations of one operand?

    One rounding to float32 is allowed where ``actual.exact`` is False; what float32 cannot hold before the tensor scale is infinite.
    """
    want, got = expected.dequantize(np.float64), actual.dequantize(np.float64)
    largest = np.finfo(np.float32).max * float(getattr(actual, "tensor_scale", 1.0))
    want = np.where(np.abs(want) > largest, np.copysign(np.inf, want), want)
    room = 0.0 if getattr(actual, "exact", True) else 2.0**-24
    with np.errstate(invalid="ignore"):
        near = (got == want) | (np.abs(got - want) <= room * np.abs(want)) | (np.isnan(got) & np.isnan(want))
    seen, said = getattr(actual, "observed", {}), getattr(expected, "observed", {})
    same = Bits().mismatch(dict(said), dict(seen), (), {}) is None
    return want.shape == got.shape and bool(near.all()) and same and actual.k_axis == expected.k_axis


def gemm_fast(a: Any, b: Any, accumulate: linalg.Accumulate | str | None = None) -> np.ndarray:
    """c[i, j] = sum_k a[i, k] b[j, k] over embedded values, times fl32(ts_a ts_b); `lpref.ref.linalg.gemm` within `fast_bound`."""
    refuse_coarse(linalg.accumulator(accumulate or "auto"), "fast")
    if not any(isinstance(x, Embedded | HighPrecision) for x in (a, b)):
        return linalg.gemm(a, b, accumulate, numerics="fast")
    sides = [embedded(x) if isinstance(x, QTensor) and holds_codes(x) else x for x in (a, b)]
    left, right = (_rows(x) for x in sides)
    if left.shape[1] != right.shape[1]:
        raise ShapeError(f"the contraction axes have {left.shape[1]} and {right.shape[1]} elements", where="gemm")
    scale = np.float32(1)
    for x in sides:
        scale = np.float32(scale * x.tensor_scale) if isinstance(x, Embedded) else scale
    with np.errstate(over="ignore", invalid="ignore"):
        c = matmul_fast(left, right.T)
        if scale != 1:
            c *= scale
    return c


def _rows(x: Any) -> np.ndarray:
    """[other, k]"""
    values = x.values if isinstance(x, Embedded | HighPrecision) else x.dequantize(np.float32)
    return values if x.k_axis % 2 else values.T
