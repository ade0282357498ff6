r"""Saved projections: the forward pass keeps X R with fewer columns, the backward pass reads X R R^T (`Saved`, what: projection).

R = S / sqrt(r), S [K, r] random signs, r = K div ratio (at least 1): signs of the stream ``site/save/NAME/projection/signs``, element i r + j
for row i, column j, drawn anew at every step and equal in all micro-batches. E[R R^T] = I, so E[X R R^T] = X. Kept is fl(X S) fl(1 / sqrt(r)),
quantized where there is a quantizer; read is fl(kept S^T) fl(1 / sqrt(r)).

Source: EXACT, ICLR 2022, sec. 3.2 (a random projection before 2-bit quantization).
Source level: memory.
"""

from __future__ import annotations

import math
from typing import Any

from lpref.ref.recipes.recipe import Saved


def signs(layer: Any, name: str, saved: Saved, width: int) -> Any:
    """S of the entry `name` for a tensor of `width` columns."""
    rank = max(1, width // saved.ratio)
    return layer.ops.arrays.make(layer.ctx.signs(f"save.{name}.projection", width * rank)).reshape((width, rank))


def projected(layer: Any, name: str, saved: Saved, tensor: Any) -> Any:
    """The width of the tensor, and the operand X R that is kept."""
    ops, s = layer.ops, signs(layer, name, saved, tensor.shape[1])
    small = _scaled(ops.gemm(ops.operand(tensor, None, k_axis=1), ops.operand(s, None, k_axis=0)), s, ops)
    words = layer.words(f"save.{name}", "x", small, saved.quantizer)
    return tensor.shape[1], ops.operand(small, saved.quantizer, k_axis=1, words=words)


def expanded(layer: Any, name: str, saved: Saved, kept: Any, dtype: Any) -> Any:
    """X R R^T of what `projected` made."""
    (width, small), ops = kept, layer.ops
    s = signs(layer, name, saved, width)
    return _scaled(ops.gemm(ops.operand(small.dequantize(dtype), None, k_axis=1), ops.operand(s, None, k_axis=1)), s, ops)


def _scaled(y: Any, s: Any, ops: Any) -> Any:
    return ops.mul(y, y.dtype.type(1 / math.sqrt(s.shape[1])))
