"""What a recipe's rounding does to the gradients of a linear layer: variance and bias over its words."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel import backend
from lpref.ref.errors import UnknownNameError
from lpref.ref.recipes import Context, linear_backward, linear_forward
from lpref.specs import recipe as recipe_of
from lpref.trainer.reproduce.measures.tensors import tensor

FIGURES = ("variance", "bias", "squared_bias")


def input_gradient(
    seed: int, recipe: Any, figure: str, draws: int = 16, rows: int = 256, outputs: int = 64, inputs: int = 64, outliers: float = 100.0
) -> float:
    """Of dX; x and W normal, dY normal with one row in 64 `outliers` times as large. The bias is against dY in float32: see `_figure`."""
    x, w = tensor(seed, "gaussian", rows, inputs), tensor(seed, "gaussian", outputs, inputs, stream=1)
    dy = tensor(seed, "gaussian", rows, outputs, stream=2)
    dy[::64] *= np.float32(outliers)
    found = np.array([_gradients(x, w, dy, recipe, seed, step)[0] for step in range(draws)])
    return _figure(figure, found, _gradients(x, w, dy, {"base": recipe, "set": {"linear.dgrad.a": {}}}, seed, 0)[0])


def weight_gradient(
    seed: int, recipe: Any, figure: str, draws: int = 64, rows: int = 256, outputs: int = 64, inputs: int = 256
) -> float:
    """Of dW; x, W and dY normal. The bias is against float32 throughout: see `_figure`."""
    x, w = tensor(seed, "gaussian", rows, inputs), tensor(seed, "gaussian", outputs, inputs, stream=1)
    dy = tensor(seed, "gaussian", rows, outputs, stream=2)
    found = np.array([_gradients(x, w, dy, recipe, seed, step)[1] for step in range(draws)])
    return _figure(figure, found, _gradients(x, w, dy, "fp32", seed, 0)[1])


def _figure(figure: str, found: Any, exact: Any) -> float:
    """Of gradients G [draws, …], whose words are independent, and of what they should be on average, G*.

    variance      mean over the draws of ||G - mean||^2, over ||mean||^2
    bias          <mean G, G*> / <G*, G*> - 1: 0 up to noise for unbiased quantizers
    squared_bias  (||mean - G*||^2 - sum of ||G - mean||^2 / (n (n - 1))) / ||G*||^2, whose mean over the words is ||E G - G*||^2 / ||G*||^2
    """
    if figure not in FIGURES:
        raise UnknownNameError("figure", figure, FIGURES)
    mean, draws = np.mean(found, axis=0), len(found)
    spread = np.sum((found - mean) ** 2)
    if figure == "variance":
        return float(spread / draws / np.sum(mean**2))
    if figure == "squared_bias":
        return float((np.sum((mean - exact) ** 2) - spread / (draws * (draws - 1))) / np.sum(exact**2))
    return float(np.sum(mean * exact) / np.sum(exact**2) - 1)


def _gradients(x: Any, w: Any, dy: Any, recipe: Any, seed: int, step: int) -> tuple[Any, Any]:
    """(dX, dW), float64."""
    ops, linear = backend("cpu", "exact"), recipe_of(recipe).linear
    ctx = Context(seed, step, step, observed={}).at("layer")
    _, kept = linear_forward(x, w, linear, ctx, ops)
    found = linear_backward(dy, kept, linear, ctx, ops)
    return np.asarray(found.dx, np.float64), np.asarray(found.dw, np.float64)
