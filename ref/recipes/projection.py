r"""Saved projections: the forward pass keeps X R with fewer columns, the backward pass reads X R R^T (`Saved`, what: projection).

R [K, r] has the entries +-1 / sqrt(r), r = K div ratio (at least 1), signs of the stream ``site/save/NAME/projection``, element i r + j for
row i, column j, drawn anew at every step and equal in all micro-batches. E[R R^T] = I, so E[X R R^T] = X. With a quantizer, X R is what it keeps.

Source: EXACT, ICLR 2022, sec. 3.2 (a random projection before 2-bit quantization).
Source level: memory.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref import random
from lpref.ref.recipes.recipe import Saved


def matrix(layer: Any, name: str, saved: Saved, width: int) -> NDArray[np.float32]:
    """R of the entry `name` for a tensor of `width` columns."""
    rank = max(1, width // saved.ratio)
    signs = random.signs(layer.ctx.words(f"save.{name}", "projection"), width * rank)
    return signs.reshape(width, rank) * np.float32(1 / math.sqrt(rank))


def projected(layer: Any, name: str, saved: Saved, tensor: Any) -> Any:
    """The operand X R that is kept, with its full width."""
    r = layer.ops.arrays.make(matrix(layer, name, saved, tensor.shape[1]))
    small = layer.ops.matmul(tensor, r)
    words = layer.words(f"save.{name}", "x", small, saved.quantizer)
    return tensor.shape[1], layer.ops.operand(small, saved.quantizer, k_axis=1, words=words)


def expanded(layer: Any, name: str, saved: Saved, kept: Any, dtype: Any) -> Any:
    """X R R^T of what `projected` made."""
    width, small = kept
    r = np.ascontiguousarray(matrix(layer, name, saved, width).T)
    return layer.ops.matmul(small.dequantize(dtype), layer.ops.arrays.make(r))
