"""What a recipe's random rounding does to the gradient of a linear layer's input: variance and bias over its words."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel import backend
from lpref.ref.errors import UnknownNameError
from lpref.ref.recipes import Context, linear_backward, linear_forward
from lpref.specs import recipe as recipe_of
from lpref.trainer.reproduce.measures.tensors import tensor

FIGURES = ("variance", "bias")


def input_gradient(
    seed: int, recipe: Any, figure: str, draws: int = 16, rows: int = 256, outputs: int = 64, inputs: int = 64, outliers: float = 100.0
) -> float:
    """Of dX over `draws` steps, whose words are independent; x and W normal, dY normal with one row in 64 `outliers` times as large.

    variance   mean over the draws of ||dX - mean||^2, over ||mean||^2
    bias       <mean dX, dX*> / <dX*, dX*> - 1, with dX* the product with dY in float32: 0 up to noise for unbiased quantizers of dY
    """
    if figure not in FIGURES:
        raise UnknownNameError("figure", figure, FIGURES)
    x, w = tensor(seed, "gaussian", rows, inputs), tensor(seed, "gaussian", outputs, inputs, stream=1)
    dy = tensor(seed, "gaussian", rows, outputs, stream=2)
    dy[::64] *= np.float32(outliers)
    found = np.array([_dx(x, w, dy, recipe, seed, step) for step in range(draws)])
    mean = np.mean(found, axis=0)
    if figure == "variance":
        return float(np.mean(np.sum((found - mean) ** 2, axis=(1, 2))) / np.sum(mean**2))
    exact = _dx(x, w, dy, {"base": recipe, "set": {"linear.dgrad.a": {}}}, seed, 0)
    return float(np.sum(mean * exact) / np.sum(exact**2) - 1)


def _dx(x: Any, w: Any, dy: Any, recipe: Any, seed: int, step: int) -> Any:
    """float64."""
    ops, linear = backend("cpu", "exact"), recipe_of(recipe).linear
    ctx = Context(seed, step, step, observed={}).at("layer")
    _, kept = linear_forward(x, w, linear, ctx, ops)
    return np.asarray(linear_backward(dy, kept, linear, ctx, ops).dx, np.float64)
