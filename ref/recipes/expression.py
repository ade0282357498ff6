r"""A weight slot that holds an expression in parameters: W + alpha B A, with A [rank, K] and B [N, rank] (low-rank adapters).

    inside    W^ = Q(W + alpha B A)         the quantizer sees the merged weight, and nothing is left to add to its codes (L4Q)
              dW' = what the gradient rule of Q lets through of dY^T X;    dA = alpha B^T dW',  dB = alpha dW' A^T,  dW = dW'
    outside   W^ = Q(W) + alpha B A         in float32 (QLoRA, ApiQ)
              dA, dB from dW^ = dY^T X itself, dW from what the rule lets through of it

float32: B A by the backend's `matmul`, times alpha, added to W (or to Q(W)). First values: A uniform within +-1 / sqrt(K) (Kaiming uniform with
a = sqrt 5), of the words ``site/fprop/b/init``, B zero: at the start W is as it was. Which of W, A, B are trained is said by the recipe's groups.

Source: LoRA, arXiv 2106.09685; L4Q, arXiv 2402.04902, eq. 8 to 12; ApiQ, arXiv 2402.05147.
Source level: secondary.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lpref.ref import random

NAMES = ("w_a", "w_b")


def first_factors(layer: Any, w: Any) -> dict[str, Any]:
    """The first A and B, NumPy float32."""
    expression = layer.recipe.fprop.b.expression
    n, k = w.shape
    bound = 1.0 / math.sqrt(k)
    a = random.uniform(layer.ctx.words("fprop.b", "init"), expression.rank * k, -bound, bound)
    make = layer.ops.arrays.make if hasattr(layer.ops, "arrays") else np.asarray
    return {"w_a": make(a.reshape(expression.rank, k)), "w_b": make(np.zeros((n, expression.rank), np.float32))}


def adapter(layer: Any, place: str) -> Any:
    """alpha B A where the layer's weight slot has it at `place`, else None."""
    expression = layer.recipe.fprop.b.expression
    if expression is None or expression.place != place or "w_a" not in layer.params:
        return None
    product = layer.ops.matmul(layer.params["w_b"], layer.params["w_a"])
    return product if expression.alpha == 1.0 else layer.ops.mul(product, product.dtype.type(expression.alpha))


def merged(layer: Any, w: Any) -> Any:
    """What the weight's quantizer sees: W, or W + alpha B A."""
    inside = adapter(layer, "inside")
    return w if inside is None else layer.ops.add(w, inside)


def factor_gradients(layer: Any, product: Any, dw: Any) -> dict[str, Any]:
    """dA and dB, from the accumulator `product` of wgrad (outside) or from dW behind its epilogue (inside)."""
    expression = layer.recipe.fprop.b.expression
    if expression is None:
        return {}
    ops, a, b = layer.ops, layer.params["w_a"], layer.params["w_b"]
    g = dw if expression.place == "inside" else product
    if expression.alpha != 1.0:
        g = ops.mul(g, g.dtype.type(expression.alpha))
    return {"w_a": ops.matmul(b.transpose((1, 0)), g), "w_b": ops.matmul(g, a.transpose((1, 0)))}
